// Products of few rows with an operand that passes by once, from memory, as it lies. They read it once and
// ask for what comes next, as much with each step as the step takes. There are few variants of the register
// tile in each, because there is an end to what the compiler inlines into one function.

import TileKernelTable

// MARK: B passes by

// The more rows of A a register tile has, the less often B goes from the second cache to the first.
#if KERNEL_AVX512 || arch(arm64)
private typealias TallTile<B: Storage> = RegisterTile<8, 2, B>
private typealias FlatTile<B: Storage> = RegisterTile<2, 8, B>
private typealias WideTile<B: Storage> = RegisterTile<4, 4, B>
@inline(__always) private var rowsOfTall: Int { 8 }
#else
private typealias TallTile<B: Storage> = RegisterTile<6, 1, B>
private typealias FlatTile<B: Storage> = RegisterTile<2, 4, B>
private typealias WideTile<B: Storage> = RegisterTile<4, 2, B>
@inline(__always) private var rowsOfTall: Int { 6 }
#endif
@inline(__always) private var vectorsOfTall: Int { tileVectors / 2 }

extension RegisterTile {
    /// `m` rows of A against `vectors` vectors of columns of B, `rows` at a time, and those that are left by
    /// one.
    @inline(__always)
    fileprivate static func sweepColumns(
        _ m: Int, _ k: Int, _ a: Operand<Scalar>, _ b: Operand<B.Element>, _ c: Accumulator,
        _ keep: UnsafePointer<Scalar>, _ stream: inout RowStream
    ) {
        // Bytes of B in a step, for each row.
        let share = vectors * lanes * B.rowsOfStep * MemoryLayout<B.Element>.size / m
        var r = 0
        while r + rows <= m {
            multiply(k, a, b, c, keep: keep, row: r, asking: &stream, bytes: rows * share)
            r += rows
        }
        // The tall tile has none left.
        if rows == 4 {
            while r < m {
                RegisterTile<1, vectors, B>.multiply(
                    k, a, b, c, keep: keep, row: r, asking: &stream, bytes: share)
                r += 1
            }
        }
    }
}

/// C = keep ∘ C + A B with B `[k · B.rowsOfStep][n]`; element (r, d) of A lies at
/// `a[r · aRow + d · aColumn]`.
@inline(__always)
func multiplyPassing<B: Storage>(
    _ storage: B.Type, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafeRawPointer, _ bRow: Int, _ c: UnsafeMutableRawPointer, _ cRow: Int, _ keep: UnsafeRawPointer,
    _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    guard m > 0 else { return }
    var stream = RowStream(from: next, stride: nextRow, width: nextWidth)
    let a = Operand(memory: scalars(a), row: aRow, column: aColumn)
    var b = Operand(memory: b.assumingMemoryBound(to: B.Element.self), row: bRow, column: 1)
    var c = Accumulator(memory: scalars(c), row: cRow, accumulate: true, rowScale: scalars(keep))
    var left = n
    while left >= lanes {
        var width = lanes
        if m % rowsOfTall == 0 && left >= vectorsOfTall * lanes {
            width = vectorsOfTall * lanes
            TallTile<B>.sweepColumns(m, k, a, b, c, scalars(keep), &stream)
        } else if m < rowsOfTall && m % 2 == 0 && left >= 2 * panelWidth {
            width = 2 * panelWidth
            FlatTile<B>.sweepColumns(m, k, a, b, c, scalars(keep), &stream)
        } else if left >= panelWidth {
            width = panelWidth
            WideTile<B>.sweepColumns(m, k, a, b, c, scalars(keep), &stream)
        } else {
            RegisterTile<4, 1, B>.sweepColumns(m, k, a, b, c, scalars(keep), &stream)
        }
        b.memory += width
        c.memory += width
        left -= width
    }
    if left > 0 { multiplyRaggedPanel(storage, m, left, k, a, b, c, scratch: scalars(scratch)) }
}

// MARK: A passes by, against panels of B

/// `rows` rows of A as scalars: where they lie, or widened into the scratch, which the nearest cache holds.
@inline(__always)
private func scalarRows<A: Storage>(
    _ storage: A.Type, _ rows: Int, _ k: Int, _ a: Operand<A.Element>, _ scratch: UnsafeMutablePointer<Scalar>
) -> Operand<Scalar> {
    guard A.isWidened else {
        return Operand(memory: scalars(UnsafeRawPointer(a.memory)), row: a.row, column: 1)
    }
    for r in 0..<rows {
        let (from, to) = (a.memory + r * a.row, scratch + r * k)
        var d = 0
        while d + lanes <= k {
            store(A.vector(from + d, a.row), to + d)
            d += lanes
        }
        if d < k { store(A.vector(from + d, a.row, count: k - d), to + d, count: k - d) }
    }
    return Operand(memory: UnsafePointer(scratch), row: k, column: 1)
}

extension RegisterTile where B == Scalars {
    /// `m` rows of A, a multiple of `rows`, against `vectors` vectors of columns of a panel.
    ///
    /// - Parameters:
    ///   - sweeps: how many such sweeps there are, which share the asking.
    @inline(__always)
    fileprivate static func sweepRows<A: Storage>(
        _ storage: A.Type, _ m: Int, _ k: Int, _ a: Operand<A.Element>, _ b: Operand<Scalar>,
        _ c: Accumulator, _ scratch: UnsafeMutablePointer<Scalar>, _ stream: inout RowStream, _ sweeps: Int
    ) {
        let bytes = rows * lanes * MemoryLayout<A.Element>.size / sweeps
        var (a, c) = (a, c)
        var left = m
        while left > 0 {
            multiply(
                k, scalarRows(storage, rows, k, a, scratch), b, c, asking: &stream, bytesOfVector: bytes)
            a.memory += rows * a.row
            c.memory += rows * c.row
            left -= rows
        }
    }
}

/// C = A Bᵀ with panels of B, as the ordinary `gemmPacked`, which takes the rows that fill no register tile.
@inline(__always)
func multiplyPacked<A: Storage>(
    _ storage: A.Type, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int,
    _ panels: UnsafeRawPointer, _ c: UnsafeMutableRawPointer, _ cRow: Int, _ scratch: UnsafeMutableRawPointer,
    _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    let a = Operand(memory: a.assumingMemoryBound(to: A.Element.self), row: aRow, column: 1)
    let scratch = scalars(scratch)
    var stream = RowStream(from: next, stride: nextRow, width: nextWidth)
    let whole = m / rowsOfSingle * rowsOfSingle
    let vectors = (n + lanes - 1) / lanes
    let last = vectors % tileVectors
    let sweeps = max(vectors / tileVectors + last / 2 + last % 2, 1)
    var v = 0
    while v < vectors {
        let column = v % tileVectors
        let panel = Operand(
            memory: scalars(panels) + (v - column) * lanes * k + column * lanes, row: panelWidth, column: 1)
        let to = Accumulator(memory: scalars(c) + v * lanes, row: cRow, accumulate: false, rowScale: nil)
        let left = vectors - v
        #if KERNEL_AVX512 || arch(arm64)
        if left >= 4 {
            RegisterTile<6, 4, Scalars>.sweepRows(storage, whole, k, a, panel, to, scratch, &stream, sweeps)
            v += 4
            continue
        }
        #endif
        if left >= 2 {
            RegisterTile<6, 2, Scalars>.sweepRows(storage, whole, k, a, panel, to, scratch, &stream, sweeps)
            v += 2
        } else {
            SingleVectorTile.sweepRows(storage, whole, k, a, panel, to, scratch, &stream, sweeps)
            v += 1
        }
    }
    if whole < m {
        let rest = Operand(memory: a.memory + whole * aRow, row: aRow, column: 1)
        let rows = scalarRows(storage, m - whole, k, rest, scratch)
        gemmPacked(m - whole, n, k, rows.memory, rows.row, panels, scalars(c) + whole * cRow, cRow)
    }
}
