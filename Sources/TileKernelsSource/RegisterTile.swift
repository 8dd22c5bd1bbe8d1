// The register tile: the one loop in which nearly all of the time goes.

import CVectorInstructions

/// Rows of the register tile. With `tileVectors` columns of vectors its accumulators fill the register
/// file, less what one row of B and one broadcast scalar of A take.
#if KERNEL_AVX512 || arch(arm64)
@inline(__always) var tileRows: Int { 6 }
@inline(__always) var tileVectors: Int { 4 }  // 24 accumulators of 32 registers
#else
@inline(__always) var tileRows: Int { 6 }
@inline(__always) var tileVectors: Int { 2 }  // 12 accumulators of 16 registers
#endif

/// Columns of the register tile, and of a packed panel.
@inline(__always) var panelWidth: Int { tileVectors * lanes }

/// A matrix operand: element (r, c) lies at `memory[r · row + c · column]`.
struct Operand<Element> {
    var memory: UnsafePointer<Element>
    var row: Int
    var column: Int
}

/// The result of a GEMM, rows `row` apart, and what becomes of its old contents.
struct Accumulator {
    var memory: UnsafeMutablePointer<Scalar>
    var row: Int
    /// Added to, rather than overwritten.
    var accumulate: Bool
    /// A factor for each row of the old contents, or nil for 1.
    var rowScale: UnsafePointer<Scalar>?
}

/// `C[r][·] = keep · C[r][·] + Σ_k A[r][k] · B[k][·]` for `rows × vectors` vectors of C, held in registers
/// over the whole of k.
///
/// The old C enters at the end, not at the start: the sum over one tile is then rounded at the size of
/// that tile's terms, and the correction of the online softmax costs one multiply-add.
enum RegisterTile<let rows: Int, let vectors: Int, B: Storage> {
    typealias Sums = InlineArray<rows, InlineArray<vectors, Vector>>

    /// - Parameters:
    ///   - b: `[k · B.rowsOfStep][vectors · lanes]`, each row readable to whole vectors.
    ///   - c: each row writable to whole vectors.
    ///   - row: the first row, of A and of C.
    @inline(__always)
    static func multiply(
        _ k: Int, _ a: Operand<Scalar>, _ b: Operand<B.Element>, _ c: Accumulator, row: Int
    ) {
        var sum = Sums(repeating: .init(repeating: .zero))
        var (ak, bk) = (a.memory + row * a.row, b.memory)
        for _ in 0..<k {
            step(ak, a.row, bk, b.row, &sum)
            ak += a.column
            bk += B.rowsOfStep * b.row
        }
        finish(sum, c, row: row)
    }

    /// `C = keep · C + A B` with a factor for each row, while so many bytes of what comes next are asked for
    /// with every step.
    @inline(__always)
    static func multiply(
        _ k: Int, _ a: Operand<Scalar>, _ b: Operand<B.Element>, _ c: Accumulator,
        keep scale: UnsafePointer<Scalar>, row: Int, asking stream: inout RowStream, bytes: Int
    ) {
        var sum = Sums(repeating: .init(repeating: .zero))
        var (ak, bk) = (a.memory + row * a.row, b.memory)
        for _ in 0..<k {
            stream.advance(bytes)
            step(ak, a.row, bk, b.row, &sum)
            ak += a.column
            bk += B.rowsOfStep * b.row
        }
        add(sum, c, keep: scale, row: row)
    }

    /// `C = A B`, asking for so many bytes with as many steps as a vector has lanes.
    @inline(__always)
    static func multiply(
        _ k: Int, _ a: Operand<Scalar>, _ b: Operand<B.Element>, _ c: Accumulator,
        asking stream: inout RowStream, bytesOfVector bytes: Int
    ) {
        var sum = Sums(repeating: .init(repeating: .zero))
        var (ak, bk) = (a.memory, b.memory)
        var left = k
        while left > 0 {
            stream.advance(bytes)
            for _ in 0..<min(left, lanes) {
                step(ak, a.row, bk, b.row, &sum)
                ak += a.column
                bk += B.rowsOfStep * b.row
            }
            left -= lanes
        }
        write(sum, c, row: 0)
    }

    /// Adds the products of a column of A and a row of B.
    @inline(__always)
    private static func step(
        _ a: UnsafePointer<Scalar>, _ aRow: Int, _ b: UnsafePointer<B.Element>, _ bRow: Int, _ sum: inout Sums
    ) {
        var row = InlineArray<vectors, Vector>(repeating: .zero)
        for v in 0..<vectors { row[unchecked: v] = B.vector(b + v * lanes, bRow) }
        for r in 0..<rows {
            let x = broadcast(a[r * aRow])
            for v in 0..<vectors {
                sum[unchecked: r][unchecked: v] = multiplyAdd(
                    x, row[unchecked: v], sum[unchecked: r][unchecked: v])
            }
        }
    }

    /// Writes what has been summed, or adds it to what is kept.
    @inline(__always)
    private static func finish(_ sum: Sums, _ c: Accumulator, row: Int) {
        if !c.accumulate {
            write(sum, c, row: row)
        } else if let scale = c.rowScale {
            add(sum, c, keep: scale, row: row)
        } else {
            let p = c.memory + row * c.row
            for r in 0..<rows {
                for v in 0..<vectors {
                    let q = p + r * c.row + v * lanes
                    store(load(q) + sum[unchecked: r][unchecked: v], q)
                }
            }
        }
    }

    @inline(__always)
    private static func write(_ sum: Sums, _ c: Accumulator, row: Int) {
        let p = c.memory + row * c.row
        for r in 0..<rows {
            for v in 0..<vectors { store(sum[unchecked: r][unchecked: v], p + r * c.row + v * lanes) }
        }
    }

    @inline(__always)
    private static func add(_ sum: Sums, _ c: Accumulator, keep scale: UnsafePointer<Scalar>, row: Int) {
        let p = c.memory + row * c.row
        for r in 0..<rows {
            let keep = broadcast(scale[row + r])
            for v in 0..<vectors {
                let q = p + r * c.row + v * lanes
                store(fma(load(q), keep, sum[unchecked: r][unchecked: v]), q)
            }
        }
    }

    /// Asks for what the products will be added to, which may lie beyond the caches of the core (dQ).
    @inline(__always)
    static func ask(for c: Accumulator, row: Int) {
        let p = c.memory + row * c.row
        for r in 0..<rows { for v in 0..<vectors { vector_prefetch(p + r * c.row + v * lanes) } }
    }
}
