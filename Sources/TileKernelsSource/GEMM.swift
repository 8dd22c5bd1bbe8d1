// The block GEMMs around the register tile. B is walked in panels of `panelWidth` columns; for each panel
// the rows of A pass by in groups of `tileRows`, so that the panel stays in the nearest cache.

/// `m` rows of A against `vectors` vectors of columns of B, `rows` at a time.
@inline(__always)
private func sweepRows<let rows: Int, let vectors: Int>(
    _ tile: RegisterTile<rows, vectors, Scalars>.Type, _ m: Int, _ k: Int, _ a: Operand<Scalar>,
    _ b: Operand<Scalar>, _ c: Accumulator
) {
    var r = 0
    while r + rows <= m {
        #if KERNEL_BF16
        if c.accumulate { RegisterTile<rows, vectors, Scalars>.ask(for: c, row: r) }
        #endif
        RegisterTile<rows, vectors, Scalars>.multiply(k, a, b, c, row: r)
        r += rows
    }
    while r + 4 <= m {
        RegisterTile<4, vectors, Scalars>.multiply(k, a, b, c, row: r)
        r += 4
    }
    if r + 2 <= m {
        RegisterTile<2, vectors, Scalars>.multiply(k, a, b, c, row: r)
        r += 2
    }
    if r < m { RegisterTile<1, vectors, Scalars>.multiply(k, a, b, c, row: r) }
}

// One function a width, so that each register tile is compiled once and kept out of line. They take plain
// arguments: for a struct the optimiser makes a copy of the function that takes its fields, and such a copy
// is a weak symbol.

#if KERNEL_AVX512 || arch(arm64)
@inline(never)
func sweep4(
    _ m: Int, _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Scalar>, _ bRow: Int, _ c: UnsafeMutablePointer<Scalar>, _ cRow: Int,
    _ accumulate: Bool, _ rowScale: UnsafePointer<Scalar>?
) {
    sweepRows(
        RegisterTile<6, 4, Scalars>.self, m, k, Operand(memory: a, row: aRow, column: aColumn),
        Operand(memory: b, row: bRow, column: 1),
        Accumulator(memory: c, row: cRow, accumulate: accumulate, rowScale: rowScale))
}
#endif

@inline(never)
func sweep2(
    _ m: Int, _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Scalar>, _ bRow: Int, _ c: UnsafeMutablePointer<Scalar>, _ cRow: Int,
    _ accumulate: Bool, _ rowScale: UnsafePointer<Scalar>?
) {
    sweepRows(
        RegisterTile<6, 2, Scalars>.self, m, k, Operand(memory: a, row: aRow, column: aColumn),
        Operand(memory: b, row: bRow, column: 1),
        Accumulator(memory: c, row: cRow, accumulate: accumulate, rowScale: rowScale))
}

// With a single vector, the dot product of pairs has to wait for the sums before unless there are more rows.
#if KERNEL_BF16
typealias SingleVectorTile = RegisterTile<12, 1, Scalars>
@inline(__always) var rowsOfSingle: Int { 12 }
#else
typealias SingleVectorTile = RegisterTile<6, 1, Scalars>
@inline(__always) var rowsOfSingle: Int { 6 }
#endif

@inline(never)
func sweep1(
    _ m: Int, _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Scalar>, _ bRow: Int, _ c: UnsafeMutablePointer<Scalar>, _ cRow: Int,
    _ accumulate: Bool, _ rowScale: UnsafePointer<Scalar>?
) {
    sweepRows(
        SingleVectorTile.self, m, k, Operand(memory: a, row: aRow, column: aColumn),
        Operand(memory: b, row: bRow, column: 1),
        Accumulator(memory: c, row: cRow, accumulate: accumulate, rowScale: rowScale))
}

/// One panel of B: `width ≤ panelWidth` columns, of which B and C hold whole vectors.
@inline(__always)
private func multiplyPanel(
    _ m: Int, _ width: Int, _ k: Int, _ a: Operand<Scalar>, _ b: Operand<Scalar>, _ c: Accumulator
) {
    var b = b
    var c = c
    var left = (width + lanes - 1) / lanes
    while left > 0 {
        var vectors = 1
        #if KERNEL_AVX512 || arch(arm64)
        if left >= 4 { vectors = 4 } else if left >= 2 { vectors = 2 }
        if vectors == 4 {
            sweep4(
                m, k, a.memory, a.row, a.column, b.memory, b.row, c.memory, c.row, c.accumulate, c.rowScale)
        }
        #else
        if left >= 2 { vectors = 2 }
        #endif
        if vectors == 2 {
            sweep2(
                m, k, a.memory, a.row, a.column, b.memory, b.row, c.memory, c.row, c.accumulate, c.rowScale)
        }
        if vectors == 1 {
            sweep1(
                m, k, a.memory, a.row, a.column, b.memory, b.row, c.memory, c.row, c.accumulate, c.rowScale)
        }
        b.memory += vectors * lanes
        c.memory += vectors * lanes
        left -= vectors
    }
}

/// A last panel whose columns do not end on a whole vector: B's panel is copied with padding, and the
/// result takes the way through a buffer of `tileRows` rows, so that nothing beyond n is touched.
@inline(__always)
func multiplyRaggedPanel<B: Storage>(
    _ storage: B.Type, _ m: Int, _ width: Int, _ k: Int, _ a: Operand<Scalar>, _ b: Operand<B.Element>,
    _ c: Accumulator,
    scratch: UnsafeMutablePointer<Scalar>
) {
    let panel = scratch + tileRows * panelWidth
    copyPadded(storage, rows: k, width, b, to: panel)
    let padded = Operand(memory: UnsafePointer(panel), row: panelWidth, column: 1)
    let buffer = Accumulator(memory: scratch, row: panelWidth, accumulate: false, rowScale: nil)
    var r = 0
    while r < m {
        let rows = min(tileRows, m - r)
        let ar = Operand(memory: a.memory + r * a.row, row: a.row, column: a.column)
        multiplyPanel(rows, width, k, ar, padded, buffer)
        for i in 0..<rows {
            let to = c.memory + (r + i) * c.row
            let from = scratch + i * panelWidth
            let keep = c.rowScale.map { $0[r + i] } ?? 1
            for d in 0..<width { to[d] = c.accumulate ? keep * to[d] + from[d] : from[d] }
        }
        r += rows
    }
}

/// B as it lies in memory, `[k][n]`; element (r, d) of A lies at `a[r · aRow + d · aColumn]`.
@inline(never)
func multiplyInPlace(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Scalar>, _ bRow: Int, _ c: UnsafeMutablePointer<Scalar>, _ cRow: Int,
    _ rowScale: UnsafePointer<Scalar>?, _ accumulate: Bool, _ scratch: UnsafeMutablePointer<Scalar>
) {
    let a = Operand(memory: a, row: aRow, column: aColumn)
    var b = Operand(memory: b, row: bRow, column: 1)
    var c = Accumulator(memory: c, row: cRow, accumulate: accumulate, rowScale: rowScale)
    var left = n
    while left > 0 {
        let width = min(panelWidth, left)
        if width % lanes == 0 {
            multiplyPanel(m, width, k, a, b, c)
        } else {
            multiplyRaggedPanel(Scalars.self, m, width, k, a, b, c, scratch: scratch)
        }
        b.memory += panelWidth
        c.memory += panelWidth
        left -= panelWidth
    }
}

/// S = Q Kᵀ over panels made by `packTransposed`.
@inline(never)
func gemmPacked(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer,
    _ c: UnsafeMutableRawPointer, _ cRow: Int
) {
    let a = Operand(memory: scalars(a), row: aRow, column: 1)
    var column = 0
    while column < n {
        let panel = Operand(memory: scalars(b) + column * k, row: panelWidth, column: 1)
        let to = Accumulator(memory: scalars(c) + column, row: cRow, accumulate: false, rowScale: nil)
        multiplyPanel(m, min(panelWidth, n - column), k, a, panel, to)
        column += panelWidth
    }
}

/// O += P V.
@inline(never)
func gemmNN(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ rowScale: UnsafeRawPointer?, _ accumulate: Bool,
    _ scratch: UnsafeMutableRawPointer
) {
    multiplyInPlace(
        m, n, k, scalars(a), aRow, 1, scalars(b), bRow, scalars(c), cRow, rowScale.map(scalars), accumulate,
        scalars(scratch))
}

/// dV += Pᵀ dO: A is stored `[k][m]`, and its rows are `aRow` apart.
@inline(never)
func gemmTN(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ rowScale: UnsafeRawPointer?, _ accumulate: Bool,
    _ scratch: UnsafeMutableRawPointer
) {
    multiplyInPlace(
        m, n, k, scalars(a), 1, aRow, scalars(b), bRow, scalars(c), cRow, rowScale.map(scalars), accumulate,
        scalars(scratch))
}
