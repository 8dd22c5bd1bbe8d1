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
    while column < n {
        // Two vectors at a time, or one; never more than there are.
        let second = column + 2 * lanes <= n ? lanes : 0
        let o0 = load(scalars(offset) + column)
        let o1 = load(scalars(offset) + column + second)
        var row = scalars(s) + column
        var (t0, t1) = (Vector.zero, Vector.zero)
        var r = 0
        while r < m {
            // Rows are summed in blocks before they join the total: one chain of all m would lose digits.
            let block = min(16, m - r)
            var (s0, s1) = (Vector.zero, Vector.zero)
            for _ in 0..<block {
                let p0 = exponential(load(row) - o0, factor: factor)
                if second != 0 {
                    let p1 = exponential(load(row + lanes) - o1, factor: factor)
                    store(p1, row + lanes)
                    s1 += p1
                }
                store(p0, row)
                s0 += p0
                row += sRow
            }
            t0 += s0
            t1 += s1
            r += block
        }
        if second != 0 { store(t1, scalars(sum) + column + lanes) }
        store(t0, scalars(sum) + column)
        column += lanes + second
    }
}
