// S = Q Kᵀ for few rows of Q, where the lanes of a vector would be wasted on a query each and packing K would
// cost more than the product: dot products of rows as they lie, as many at once as a vector has lanes.

/// `rows` rows of Q against `keys` rows of K, each product summed in a vector of its own.
enum DotTile<let rows: Int, let keys: Int, B: Storage> {
    /// - Parameters:
    ///   - k: as many as a vector has lanes, or more.
    ///   - last: the last key there is; those beyond repeat it.
    ///   - sums: receives the vector of row r and key j at `first + r · keys + j`.
    ///   - bytes: what is asked for of the operand that comes next, with every vector of the keys.
    @inline(__always)
    static func multiply(
        _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int, _ b: UnsafePointer<B.Element>, _ bRow: Int,
        last: Int, into sums: inout VectorBlock, at first: Int, asking stream: inout RowStream, bytes: Int
    ) {
        var sum = InlineArray<rows, InlineArray<keys, Vector>>(repeating: .init(repeating: .zero))
        var d = 0
        while d + lanes <= k {
            stream.advance(bytes)
            for j in 0..<keys {
                let y = B.vector(b + min(j, last) * bRow + d, bRow)
                for r in 0..<rows {
                    sum[unchecked: r][unchecked: j] = multiplyAdd(
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
                let key = b + min(j, last) * bRow
                let y = Vector.zero.replacing(with: B.vector(key + tail, bRow), where: isNew)
                for r in 0..<rows {
                    let x = Vector.zero.replacing(with: load(a + r * aRow + tail), where: isNew)
                    sum[unchecked: r][unchecked: j] = multiplyAdd(x, y, sum[unchecked: r][unchecked: j])
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

/// Lane i is the sum of vector i. Each is added up by halves; interleaving two vectors' halves keeps the
/// lanes of every addition full.
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

// Several rows share each vector of K that is loaded; a row of its own takes a whole vector's worth of keys,
// some at a time. In both cases there are `lanes` products.
#if !KERNEL_F64 && KERNEL_AVX512
private typealias RowsTile<B: Storage> = DotTile<4, 4, B>
@inline(__always) private var rowsOfTile: Int { 4 }
#elseif (KERNEL_F64 && KERNEL_AVX512) || (KERNEL_F32 && KERNEL_AVX2)
private typealias RowsTile<B: Storage> = DotTile<2, 4, B>
@inline(__always) private var rowsOfTile: Int { 2 }
#elseif KERNEL_F64 && !KERNEL_AVX2
private typealias RowsTile<B: Storage> = DotTile<2, 1, B>
@inline(__always) private var rowsOfTile: Int { 2 }
#else
private typealias RowsTile<B: Storage> = DotTile<2, 2, B>
@inline(__always) private var rowsOfTile: Int { 2 }
#endif
#if KERNEL_F64 && !KERNEL_AVX512 && !KERNEL_AVX2
private typealias RowTile<B: Storage> = DotTile<1, 2, B>
#else
private typealias RowTile<B: Storage> = DotTile<1, 4, B>
#endif
@inline(__always) private var keysOfTile: Int { lanes / rowsOfTile }
@inline(__always) private var keysOfRow: Int { min(lanes, 4) }

/// `rowsOfTile` rows against `count ≤ keysOfTile` keys.
@inline(__always)
private func dotRows<B: Storage>(
    _ storage: B.Type, _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int, _ b: UnsafePointer<B.Element>,
    _ bRow: Int, _ c: UnsafeMutablePointer<Scalar>, _ cRow: Int, _ count: Int, _ stream: inout RowStream,
    _ share: Int
) {
    var sums = zeroBlock
    RowsTile<B>.multiply(
        k, a, aRow, b, bRow, last: count - 1, into: &sums, at: 0, asking: &stream, bytes: keysOfTile * share)
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
@inline(__always)
private func dotRow<B: Storage>(
    _ storage: B.Type, _ k: Int, _ a: UnsafePointer<Scalar>, _ b: UnsafePointer<B.Element>, _ bRow: Int,
    _ c: UnsafeMutablePointer<Scalar>, _ count: Int, _ stream: inout RowStream, _ share: Int
) {
    var sums = zeroBlock
    var j = 0
    while j < count {
        let last = min(count - j, keysOfRow) - 1
        RowTile<B>.multiply(
            k, a, 0, b + j * bRow, bRow, last: last, into: &sums, at: j, asking: &stream,
            bytes: keysOfRow * share)
        j += keysOfRow
    }
    let dots = horizontalSums(sums)
    if count == lanes { store(dots, c) } else { store(dots, c, count: count) }
}

/// The same for rows shorter than a vector, one product at a time.
@inline(__always)
private func dotShort<B: Storage>(
    _ storage: B.Type, _ k: Int, _ a: UnsafePointer<Scalar>, _ b: UnsafePointer<B.Element>, _ bRow: Int,
    _ c: UnsafeMutablePointer<Scalar>, _ count: Int
) {
    let x = load(a, count: k, fill: 0)
    for j in 0..<count {
        c[j] = horizontalSum(multiplyAdd(x, B.vector(b + j * bRow, bRow, count: k), Vector.zero))
    }
}

/// Bytes of a vector of a key, for each of `sweeps` times that the keys are read: what is asked for with it.
@inline(__always)
private func share<B: Storage>(_ storage: B.Type, of sweeps: Int) -> Int {
    lanes * MemoryLayout<B.Element>.size / max(sweeps, 1)
}

/// S = Q Kᵀ with K `[n][k]` as it lies, for whole groups of `rowsOfTile` rows of Q; returns how many rows
/// those are. A vector's worth of keys meets all of them before the next, so that K is read from memory once.
@inline(__always)
private func dotGroups<B: Storage>(
    _ storage: B.Type, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int,
    _ b: UnsafeRawPointer, _ bRow: Int, _ c: UnsafeMutableRawPointer, _ cRow: Int, _ next: RowStream
) -> Int {
    guard k >= lanes && m >= rowsOfTile else { return 0 }
    let (a, b, c) = (scalars(a), b.assumingMemoryBound(to: B.Element.self), scalars(c))
    var stream = next
    let share = share(storage, of: m / rowsOfTile)
    var j = 0
    while j < n {
        let end = min(j + lanes, n)
        var r = 0
        while r + rowsOfTile <= m {
            var i = j
            while i < end {
                dotRows(
                    storage, k, a + r * aRow, aRow, b + i * bRow, bRow, c + r * cRow + i, cRow,
                    min(keysOfTile, end - i), &stream, share)
                i += keysOfTile
            }
            r += rowsOfTile
        }
        j = end
    }
    return m / rowsOfTile * rowsOfTile
}

/// The same for the rows that are left, from row `first` on. If they are all, they ask for what comes next.
@inline(__always)
private func dotRest<B: Storage>(
    _ storage: B.Type, from first: Int, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int,
    _ b: UnsafeRawPointer, _ bRow: Int, _ c: UnsafeMutableRawPointer, _ cRow: Int, _ next: RowStream
) {
    let (a, b, c) = (scalars(a), b.assumingMemoryBound(to: B.Element.self), scalars(c))
    var stream = next
    let share = first == 0 ? share(storage, of: m) : 0
    for r in first..<m {
        guard k >= lanes else {
            dotShort(storage, k, a + r * aRow, b, bRow, c + r * cRow, n)
            continue
        }
        var j = 0
        while j < n {
            dotRow(
                storage, k, a + r * aRow, b + j * bRow, bRow, c + r * cRow + j, min(lanes, n - j), &stream,
                share)
            j += lanes
        }
    }
}

// For each way that K may lie, a function of each kind: out of line, so that all of it is inlined there.

@inline(never)
func dotPassing(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    let done = dotGroups(
        Scalars.self, m, n, k, a, aRow, b, bRow, c, cRow,
        RowStream(from: next, stride: nextRow, width: nextWidth))
    dotRest(done, m, n, k, a, aRow, b, bRow, c, cRow, next, nextRow, nextWidth)
}

@inline(never)
func dotRest(
    _ first: Int, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer,
    _ bRow: Int, _ c: UnsafeMutableRawPointer, _ cRow: Int, _ next: UnsafeRawPointer, _ nextRow: Int,
    _ nextWidth: Int
) {
    dotRest(
        Scalars.self, from: first, m, n, k, a, aRow, b, bRow, c, cRow,
        RowStream(from: next, stride: nextRow, width: nextWidth))
}

#if !KERNEL_BF16

/// What lies behind K is taken to come next.
@inline(never)
func gemmNT(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int
) {
    let size = MemoryLayout<Scalar>.size
    dotPassing(m, n, k, a, aRow, b, bRow, c, cRow, scalars(b) + n * bRow, bRow * size, k * size)
}

#endif

#if !KERNEL_F64 && !KERNEL_BF16

@inline(never)
func dotPassingBF16(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    let done = dotGroups(
        BFloat16s.self, m, n, k, a, aRow, b, bRow, c, cRow,
        RowStream(from: next, stride: nextRow, width: nextWidth))
    dotRestBF16(done, m, n, k, a, aRow, b, bRow, c, cRow, next, nextRow, nextWidth)
}

@inline(never)
func dotRestBF16(
    _ first: Int, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer,
    _ bRow: Int, _ c: UnsafeMutableRawPointer, _ cRow: Int, _ next: UnsafeRawPointer, _ nextRow: Int,
    _ nextWidth: Int
) {
    dotRest(
        BFloat16s.self, from: first, m, n, k, a, aRow, b, bRow, c, cRow,
        RowStream(from: next, stride: nextRow, width: nextWidth))
}

@inline(never)
func dotPassingF16(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    let done = dotGroups(
        Float16s.self, m, n, k, a, aRow, b, bRow, c, cRow,
        RowStream(from: next, stride: nextRow, width: nextWidth))
    dotRestF16(done, m, n, k, a, aRow, b, bRow, c, cRow, next, nextRow, nextWidth)
}

@inline(never)
func dotRestF16(
    _ first: Int, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer,
    _ bRow: Int, _ c: UnsafeMutableRawPointer, _ cRow: Int, _ next: UnsafeRawPointer, _ nextRow: Int,
    _ nextWidth: Int
) {
    dotRest(
        Float16s.self, from: first, m, n, k, a, aRow, b, bRow, c, cRow,
        RowStream(from: next, stride: nextRow, width: nextWidth))
}

#endif
