// The passes over a tile of scores, and over the rows of a tile of output.

@inline(never)
func rowMaximum(
    _ m: Int, _ n: Int, _ s: UnsafeRawPointer, _ sRow: Int, _ out: UnsafeMutableRawPointer
) {
    for r in 0..<m {
        let row = scalars(s) + r * sRow
        var m0 = broadcast(-Scalar.infinity)
        var m1 = m0
        var m2 = m0
        var m3 = m0
        var c = 0
        while c + 4 * lanes <= n {
            m0 = maximum(m0, load(row + c))
            m1 = maximum(m1, load(row + c + lanes))
            m2 = maximum(m2, load(row + c + 2 * lanes))
            m3 = maximum(m3, load(row + c + 3 * lanes))
            c += 4 * lanes
        }
        while c + lanes <= n {
            m0 = maximum(m0, load(row + c))
            c += lanes
        }
        if c < n { m1 = maximum(m1, load(row + c, count: n - c, fill: -.infinity)) }
        scalars(out)[r] = horizontalMaximum(maximum(maximum(m0, m1), maximum(m2, m3)))
    }
}

@inline(never)
func exponentiate(
    _ m: Int, _ n: Int, _ s: UnsafeMutableRawPointer, _ sRow: Int, _ factor: Double,
    _ offset: UnsafeRawPointer, _ sum: UnsafeMutableRawPointer
) {
    let factor = broadcast(Scalar(factor))
    for r in 0..<m {
        let row = scalars(s) + r * sRow
        let offset = broadcast(scalars(offset)[r])
        var s0 = Vector.zero
        var s1 = Vector.zero
        var c = 0
        while c + 2 * lanes <= n {
            let p0 = exponential(load(row + c) - offset, factor: factor)
            let p1 = exponential(load(row + c + lanes) - offset, factor: factor)
            store(p0, row + c)
            store(p1, row + c + lanes)
            s0 += p0
            s1 += p1
            c += 2 * lanes
        }
        if c + lanes <= n {
            let p = exponential(load(row + c) - offset, factor: factor)
            store(p, row + c)
            s0 += p
            c += lanes
        }
        if c < n {
            let p = exponential(load(row + c, count: n - c, fill: 0) - offset, factor: factor)
            store(p, row + c, count: n - c)
            s1 += load(row + c, count: n - c, fill: 0)
        }
        scalars(sum)[r] = horizontalSum(s0 + s1)
    }
}

@inline(never)
func probabilities(
    _ m: Int, _ n: Int, _ s: UnsafeMutableRawPointer, _ sRow: Int, _ factor: Double,
    _ high: UnsafeRawPointer, _ low: UnsafeRawPointer
) {
    let factor = broadcast(Scalar(factor))
    for r in 0..<m {
        let row = scalars(s) + r * sRow
        let high = broadcast(scalars(high)[r])
        let low = broadcast(scalars(low)[r])
        var c = 0
        while c + lanes <= n {
            store(exponential(load(row + c) - high - low, factor: factor), row + c)
            c += lanes
        }
        if c < n {
            let x = load(row + c, count: n - c, fill: 0) - high - low
            store(exponential(x, factor: factor), row + c, count: n - c)
        }
    }
}

@inline(never)
func scoreGradient(
    _ m: Int, _ n: Int, _ p: UnsafeRawPointer, _ pRow: Int, _ dP: UnsafeMutableRawPointer, _ dPRow: Int,
    _ scale: Double, _ offset: UnsafeRawPointer
) {
    let scale = broadcast(Scalar(scale))
    for r in 0..<m {
        let prob = scalars(p) + r * pRow
        let grad = scalars(dP) + r * dPRow
        let minusOffset = broadcast(-scalars(offset)[r])
        var c = 0
        while c + lanes <= n {
            store(load(prob + c) * fma(load(grad + c), scale, minusOffset), grad + c)
            c += lanes
        }
        if c < n {
            let dS =
                load(prob + c, count: n - c, fill: 0)
                * fma(load(grad + c, count: n - c, fill: 0), scale, minusOffset)
            store(dS, grad + c, count: n - c)
        }
    }
}

@inline(never)
func scaleRows(
    _ m: Int, _ n: Int, _ c: UnsafeMutableRawPointer, _ cRow: Int, _ rowScale: UnsafeRawPointer
) {
    for r in 0..<m {
        let row = scalars(c) + r * cRow
        let factor = scalars(rowScale)[r]
        let scale = broadcast(factor)
        var d = 0
        while d + lanes <= n {
            store(factor == 0 ? Vector.zero : load(row + d) * scale, row + d)
            d += lanes
        }
        if d < n {
            let x = load(row + d, count: n - d, fill: 0)
            store(factor == 0 ? Vector.zero : x * scale, row + d, count: n - d)
        }
    }
}

@inline(never)
func divideRows(
    _ m: Int, _ n: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ divisor: UnsafeRawPointer,
    _ c: UnsafeMutableRawPointer, _ cRow: Int
) {
    for r in 0..<m {
        let from = scalars(a) + r * aRow
        let to = scalars(c) + r * cRow
        let value = scalars(divisor)[r]
        let divisor = broadcast(value)
        var d = 0
        while d + lanes <= n {
            store(value == 0 ? Vector.zero : load(from + d) / divisor, to + d)
            d += lanes
        }
        if d < n {
            let x = load(from + d, count: n - d, fill: 0)
            store(value == 0 ? Vector.zero : x / divisor, to + d, count: n - d)
        }
    }
}

/// One term after the other, as the register tile sums a product: where O is a row of V, dO · O then rounds
/// to the very number that dP holds, and dP − delta to 0. Rows keep each other company, four at a time.
@inline(never)
func rowDot(
    _ m: Int, _ n: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ out: UnsafeMutableRawPointer
) {
    var r = 0
    while r < m {
        let last = m - 1
        let (r1, r2, r3) = (min(r + 1, last), min(r + 2, last), min(r + 3, last))
        var (s0, s1, s2, s3) = (Scalar.zero, Scalar.zero, Scalar.zero, Scalar.zero)
        for d in 0..<n {
            s0 = fma(scalars(a)[r * aRow + d], scalars(b)[r * bRow + d], s0)
            s1 = fma(scalars(a)[r1 * aRow + d], scalars(b)[r1 * bRow + d], s1)
            s2 = fma(scalars(a)[r2 * aRow + d], scalars(b)[r2 * bRow + d], s2)
            s3 = fma(scalars(a)[r3 * aRow + d], scalars(b)[r3 * bRow + d], s3)
        }
        scalars(out)[r] = s0
        if r1 > r { scalars(out)[r1] = s1 }
        if r2 > r1 { scalars(out)[r2] = s2 }
        if r3 > r2 { scalars(out)[r3] = s3 }
        r += 4
    }
}

@inline(never)
func allFinite(_ m: Int, _ n: Int, _ a: UnsafeRawPointer, _ aRow: Int) -> Bool {
    // x · 0 is 0 for a finite x and NaN for any other, and NaN stays through the sum.
    var probe = Vector.zero
    for r in 0..<m {
        let row = scalars(a) + r * aRow
        var d = 0
        while d + lanes <= n {
            probe = fma(load(row + d), Vector.zero, probe)
            d += lanes
        }
        if d < n { probe = fma(load(row + d, count: n - d, fill: 0), Vector.zero, probe) }
    }
    return horizontalSum(probe) == 0
}
