// S = Q Kᵀ for few rows of Q, where the lanes of a vector would be wasted on a query each and packing K would
// cost more than the product: dot products of rows as they lie, as many at once as a vector has lanes.

/// `rows` rows of Q against `keys` rows of K, each product summed in a vector of its own.
enum DotTile<let rows: Int, let keys: Int> {
    /// - Parameters:
    ///   - k: as many as a vector has lanes, or more.
    ///   - last: the last key there is; those beyond repeat it.
    ///   - sums: receives the vector of row r and key j at `first + r · keys + j`.
    ///   - ahead: the rows of K to ask for; those that are here where nothing is to be asked for.
    @inline(__always)
    static func multiply(
        _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int, _ b: UnsafePointer<Scalar>, _ bRow: Int,
        last: Int, into sums: inout VectorBlock, at first: Int, ahead: UnsafePointer<Scalar>
    ) {
        var stream = RowStream(from: ahead, stride: bRow, width: k)
        var sum = InlineArray<rows, InlineArray<keys, Vector>>(repeating: .init(repeating: .zero))
        var d = 0
        while d + lanes <= k {
            stream.advance(keys)
            for j in 0..<keys {
                let y = load(b + min(j, last) * bRow + d)
                for r in 0..<rows {
                    sum[unchecked: r][unchecked: j] = fma(
                        load(a + r * aRow + d), y, sum[unchecked: r][unchecked: j])
                }
            }
            d += lanes
        }
        if d < k {
            // The last whole vector of a row once more, with 0 for what has been added up already.
            let (tail, added) = (k - lanes, Scalar(d - (k - lanes)))
            let isNew = laneNumbers .>= added
            for j in 0..<keys {
                let y = Vector.zero.replacing(with: load(b + min(j, last) * bRow + tail), where: isNew)
                for r in 0..<rows {
                    let x = Vector.zero.replacing(with: load(a + r * aRow + tail), where: isNew)
                    sum[unchecked: r][unchecked: j] = fma(x, y, sum[unchecked: r][unchecked: j])
                }
            }
        }
        for r in 0..<rows {
            for j in 0..<keys { sums[unchecked: first + r * keys + j] = sum[unchecked: r][unchecked: j] }
        }
    }
}

@inline(__always)
private var laneNumbers: Vector {
    var v = Vector.zero
    for lane in 0..<lanes { v[lane] = Scalar(lane) }
    return v
}

/// Lane i is the sum of vector i. Each is added up by halves; interleaving two vectors' halves keeps the lanes of
/// every addition full.
@inline(__always)
private func horizontalSums(_ vectors: VectorBlock) -> Vector {
    var x = vectors
    var count = lanes
    while count > 1 {
        count /= 2
        for i in 0..<count {
            x[unchecked: i] =
                interleaveLow(x[unchecked: i], x[unchecked: i + count])
                + interleaveHigh(x[unchecked: i], x[unchecked: i + count])
        }
    }
    return x[unchecked: 0]
}

// Several rows share each vector of K that is loaded; a row of its own takes a whole vector's worth of keys, some at
// a time. In both cases there are `lanes` products.
#if KERNEL_F32 && KERNEL_AVX512
private typealias RowsTile = DotTile<4, 4>
@inline(__always) private var rowsOfTile: Int { 4 }
#elseif (KERNEL_F64 && KERNEL_AVX512) || (KERNEL_F32 && KERNEL_AVX2)
private typealias RowsTile = DotTile<2, 4>
@inline(__always) private var rowsOfTile: Int { 2 }
#elseif KERNEL_F64 && !KERNEL_AVX2
private typealias RowsTile = DotTile<2, 1>
@inline(__always) private var rowsOfTile: Int { 2 }
#else
private typealias RowsTile = DotTile<2, 2>
@inline(__always) private var rowsOfTile: Int { 2 }
#endif
#if KERNEL_F64 && !KERNEL_AVX512 && !KERNEL_AVX2
private typealias RowTile = DotTile<1, 2>
#else
private typealias RowTile = DotTile<1, 4>
#endif
@inline(__always) private var keysOfTile: Int { lanes / rowsOfTile }
@inline(__always) private var keysOfRow: Int { min(lanes, 4) }

/// `rowsOfTile` rows against `count ≤ keysOfTile` keys.
@inline(never)
func dotRows(
    _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int, _ b: UnsafePointer<Scalar>, _ bRow: Int,
    _ c: UnsafeMutablePointer<Scalar>, _ cRow: Int, _ count: Int, _ ahead: UnsafePointer<Scalar>
) {
    var sums = zeroBlock
    RowsTile.multiply(k, a, aRow, b, bRow, last: count - 1, into: &sums, at: 0, ahead: ahead)
    let dots = horizontalSums(sums)
    if count == keysOfTile {
        // Constant lanes, which become one store a row; a lane of a variable number goes through memory.
        for r in 0..<rowsOfTile {
            for j in 0..<keysOfTile { c[r * cRow + j] = dots[r * keysOfTile + j] }
        }
    } else {
        for r in 0..<rowsOfTile {
            for j in 0..<count { c[r * cRow + j] = dots[r * keysOfTile + j] }
        }
    }
}

/// One row against `count ≤ lanes` keys.
@inline(never)
func dotRow(
    _ k: Int, _ a: UnsafePointer<Scalar>, _ b: UnsafePointer<Scalar>, _ bRow: Int,
    _ c: UnsafeMutablePointer<Scalar>, _ count: Int, _ ahead: UnsafePointer<Scalar>
) {
    var sums = zeroBlock
    var j = 0
    while j < count {
        let last = min(count - j, keysOfRow) - 1
        RowTile.multiply(
            k, a, 0, b + j * bRow, bRow, last: last, into: &sums, at: j, ahead: ahead + j * bRow)
        j += keysOfRow
    }
    let dots = horizontalSums(sums)
    if count == lanes { store(dots, c) } else { store(dots, c, count: count) }
}

/// The same for rows shorter than a vector, one product at a time.
@inline(never)
func dotShort(
    _ k: Int, _ a: UnsafePointer<Scalar>, _ b: UnsafePointer<Scalar>, _ bRow: Int,
    _ c: UnsafeMutablePointer<Scalar>, _ count: Int
) {
    let x = load(a, count: k, fill: 0)
    for j in 0..<count { c[j] = horizontalSum(x * load(b + j * bRow, count: k, fill: 0)) }
}

/// S = Q Kᵀ with K `[n][k]` as it lies in memory. A vector's worth of keys meets all rows before the next, so that
/// K is read from memory once.
@inline(never)
func gemmNT(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int
) {
    guard k >= lanes else {
        for r in 0..<m { dotShort(k, scalars(a) + r * aRow, scalars(b), bRow, scalars(c) + r * cRow, n) }
        return
    }
    var j = 0
    while j < n {
        let (width, keys, to) = (min(lanes, n - j), scalars(b) + j * bRow, scalars(c) + j)
        var ahead = keys + RowStream.distance(k) * bRow
        var r = 0
        while r + rowsOfTile <= m {
            var i = 0
            while i < width {
                dotRows(
                    k, scalars(a) + r * aRow, aRow, keys + i * bRow, bRow, to + r * cRow + i, cRow,
                    min(keysOfTile, width - i), ahead + i * bRow)
                i += keysOfTile
            }
            r += rowsOfTile
            ahead = keys
        }
        while r < m {
            dotRow(
                k, scalars(a) + r * aRow, keys, bRow, to + r * cRow, width, ahead)
            r += 1
            ahead = keys
        }
        j += lanes
    }
}
