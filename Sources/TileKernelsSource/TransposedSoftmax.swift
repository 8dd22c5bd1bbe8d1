// The passes over a tile of scores that is held transposed, a query a column: each lane has a query of its
// own, so nothing is reduced across a vector.

@inline(never)
func columnMaximum(
    _ m: Int, _ n: Int, _ s: UnsafeRawPointer, _ sRow: Int, _ out: UnsafeMutableRawPointer
) {
    var column = 0
    while column < n {
        let top = scalars(s) + column
        let to = scalars(out) + column
        if column + 4 * lanes <= n {
            var (m0, m1) = (broadcast(-Scalar.infinity), broadcast(-Scalar.infinity))
            var (m2, m3) = (m0, m1)
            var row = top
            for _ in 0..<m {
                m0 = maximum(m0, load(row))
                m1 = maximum(m1, load(row + lanes))
                m2 = maximum(m2, load(row + 2 * lanes))
                m3 = maximum(m3, load(row + 3 * lanes))
                row += sRow
            }
            store(m0, to)
            store(m1, to + lanes)
            store(m2, to + 2 * lanes)
            store(m3, to + 3 * lanes)
            column += 4 * lanes
        } else {
            var m0 = broadcast(-Scalar.infinity)
            for r in 0..<m { m0 = maximum(m0, load(top + r * sRow)) }
            store(m0, to)
            column += lanes
        }
    }
}

@inline(never)
func exponentiateColumns(
    _ m: Int, _ n: Int, _ s: UnsafeMutableRawPointer, _ sRow: Int, _ factor: Double,
    _ offset: UnsafeRawPointer, _ sum: UnsafeMutableRawPointer
) {
    let factor = broadcast(Scalar(factor))
    var column = 0
    while column + 2 * lanes <= n {
        exponentiateTwoVectors(
            m, scalars(s) + column, sRow, factor, scalars(offset) + column, scalars(sum) + column)
        column += 2 * lanes
    }
    while column < n {
        exponentiateVector(
            m, scalars(s) + column, sRow, factor, scalars(offset) + column, scalars(sum) + column)
        column += lanes
    }
}

// Rows are summed in blocks before they join the total: one chain of all m would lose digits.
@inline(__always) private var summedAtOnce: Int { 16 }

@inline(__always)
private func exponentiateTwoVectors(
    _ m: Int, _ s: UnsafeMutablePointer<Scalar>, _ sRow: Int, _ factor: Vector,
    _ offset: UnsafePointer<Scalar>, _ sum: UnsafeMutablePointer<Scalar>
) {
    let (o0, o1) = (load(offset), load(offset + lanes))
    var (t0, t1) = (Vector.zero, Vector.zero)
    var row = s
    var left = m
    while left > 0 {
        var (s0, s1) = (Vector.zero, Vector.zero)
        for _ in 0..<min(summedAtOnce, left) {
            let p0 = exponential(load(row) - o0, factor: factor)
            let p1 = exponential(load(row + lanes) - o1, factor: factor)
            store(p0, row)
            store(p1, row + lanes)
            s0 += p0
            s1 += p1
            row += sRow
        }
        t0 += s0
        t1 += s1
        left -= summedAtOnce
    }
    store(t0, sum)
    store(t1, sum + lanes)
}

@inline(__always)
private func exponentiateVector(
    _ m: Int, _ s: UnsafeMutablePointer<Scalar>, _ sRow: Int, _ factor: Vector,
    _ offset: UnsafePointer<Scalar>, _ sum: UnsafeMutablePointer<Scalar>
) {
    let o = load(offset)
    var total = Vector.zero
    var row = s
    var left = m
    while left > 0 {
        var part = Vector.zero
        for _ in 0..<min(summedAtOnce, left) {
            let p = exponential(load(row) - o, factor: factor)
            store(p, row)
            part += p
            row += sRow
        }
        total += part
        left -= summedAtOnce
    }
    store(total, sum)
}
