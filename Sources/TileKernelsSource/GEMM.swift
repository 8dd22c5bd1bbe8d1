// The block GEMMs around the register tile. B is walked in panels of `panelWidth` columns; for each panel
// the rows of A pass by in groups of `tileRows`, so that the panel stays in the nearest cache.

/// `m` rows of A against `vectors` vectors of columns of B.
@inline(__always)
private func sweepRows<let vectors: Int>(
    _ tile: RegisterTile<6, vectors>.Type, _ m: Int, _ k: Int, _ a: Operand, _ b: Operand, _ c: Accumulator
) {
    var r = 0
    while r + tileRows <= m {
        RegisterTile<6, vectors>.multiply(k, a, b, c, row: r)
        r += tileRows
    }
    if r + 4 <= m {
        RegisterTile<4, vectors>.multiply(k, a, b, c, row: r)
        r += 4
    }
    if r + 2 <= m {
        RegisterTile<2, vectors>.multiply(k, a, b, c, row: r)
        r += 2
    }
    if r < m { RegisterTile<1, vectors>.multiply(k, a, b, c, row: r) }
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
        RegisterTile<6, 4>.self, m, k, Operand(memory: a, row: aRow, column: aColumn),
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
        RegisterTile<6, 2>.self, m, k, Operand(memory: a, row: aRow, column: aColumn),
        Operand(memory: b, row: bRow, column: 1),
        Accumulator(memory: c, row: cRow, accumulate: accumulate, rowScale: rowScale))
}

@inline(never)
func sweep1(
    _ m: Int, _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Scalar>, _ bRow: Int, _ c: UnsafeMutablePointer<Scalar>, _ cRow: Int,
    _ accumulate: Bool, _ rowScale: UnsafePointer<Scalar>?
) {
    sweepRows(
        RegisterTile<6, 1>.self, m, k, Operand(memory: a, row: aRow, column: aColumn),
        Operand(memory: b, row: bRow, column: 1),
        Accumulator(memory: c, row: cRow, accumulate: accumulate, rowScale: rowScale))
}

/// One panel of B: `width ≤ panelWidth` columns, of which B and C hold whole vectors.
@inline(__always)
private func multiplyPanel(
    _ m: Int, _ width: Int, _ k: Int, _ a: Operand, _ b: Operand, _ c: Accumulator
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
private func multiplyRaggedPanel(
    _ m: Int, _ width: Int, _ k: Int, _ a: Operand, _ b: Operand, _ c: Accumulator,
    scratch: UnsafeMutablePointer<Scalar>
) {
    let panel = scratch + tileRows * panelWidth
    copyPadded(rows: k, width, b, to: panel)
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

/// B as it lies in memory, `[k][n]`.
@inline(__always)
private func multiplyInPlace(
    _ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand, _ c: Accumulator,
    scratch: UnsafeMutablePointer<Scalar>
) {
    var column = 0
    while column < n {
        let width = min(panelWidth, n - column)
        var bp = b
        var cp = c
        bp.memory += column
        cp.memory += column
        if width % lanes == 0 {
            multiplyPanel(m, width, k, a, bp, cp)
        } else {
            multiplyRaggedPanel(m, width, k, a, bp, cp, scratch: scratch)
        }
        column += panelWidth
    }
}

// The same for the first rows of a product with few, while B comes from memory. They return how many rows those are.

@inline(__always)
private func streamRows<let vectors: Int>(
    _ tile: RegisterTile<4, vectors>.Type, _ m: Int, _ k: Int, _ a: Operand, _ b: Operand,
    _ c: Accumulator, _ stream: RowStream
) -> Int {
    if m >= 4 {
        RegisterTile<4, vectors>.multiply(k, a, b, c, row: 0, stream: stream)
        return 4
    }
    if m >= 2 {
        RegisterTile<2, vectors>.multiply(k, a, b, c, row: 0, stream: stream)
        return 2
    }
    RegisterTile<1, vectors>.multiply(k, a, b, c, row: 0, stream: stream)
    return 1
}

#if KERNEL_AVX512 || arch(arm64)
@inline(never)
func stream4(
    _ m: Int, _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int,
    _ b: UnsafePointer<Scalar>, _ bRow: Int, _ c: UnsafeMutablePointer<Scalar>, _ cRow: Int,
    _ accumulate: Bool, _ rowScale: UnsafePointer<Scalar>?, _ ahead: UnsafePointer<Scalar>, _ width: Int
) -> Int {
    streamRows(
        RegisterTile<4, 4>.self, m, k, Operand(memory: a, row: aRow, column: 1),
        Operand(memory: b, row: bRow, column: 1),
        Accumulator(memory: c, row: cRow, accumulate: accumulate, rowScale: rowScale),
        RowStream(from: ahead, stride: bRow, width: width))
}
#endif

@inline(never)
func stream2(
    _ m: Int, _ k: Int, _ a: UnsafePointer<Scalar>, _ aRow: Int,
    _ b: UnsafePointer<Scalar>, _ bRow: Int, _ c: UnsafeMutablePointer<Scalar>, _ cRow: Int,
    _ accumulate: Bool, _ rowScale: UnsafePointer<Scalar>?, _ ahead: UnsafePointer<Scalar>, _ width: Int
) -> Int {
    streamRows(
        RegisterTile<4, 2>.self, m, k, Operand(memory: a, row: aRow, column: 1),
        Operand(memory: b, row: bRow, column: 1),
        Accumulator(memory: c, row: cRow, accumulate: accumulate, rowScale: rowScale),
        RowStream(from: ahead, stride: bRow, width: width))
}

/// Few rows of A, for which B passes by only once: whole vectors of columns. Each panel asks for its share of the
/// rows that come next.
@inline(__always)
private func multiplyFewRows(
    _ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand, _ c: Accumulator
) {
    let distance = RowStream.distance(n)
    var (panelB, panelC) = (b, c)
    var column = 0
    while column < n {
        let left = (n - column) / lanes
        let ahead = b.memory + (distance + k * column / n) * b.row
        var (vectors, done) = (1, 0)
        if left >= 2 {
            vectors = 2
            #if KERNEL_AVX512 || arch(arm64)
            if left >= 4 { vectors = 4 }
            if vectors == 4 {
                done = stream4(
                    m, k, a.memory, a.row, panelB.memory, b.row, panelC.memory, c.row, c.accumulate, c.rowScale,
                    ahead, n)
            }
            #endif
            if vectors == 2 {
                done = stream2(
                    m, k, a.memory, a.row, panelB.memory, b.row, panelC.memory, c.row, c.accumulate, c.rowScale,
                    ahead, n)
            }
        }
        if done < m {
            let rest = Operand(memory: a.memory + done * a.row, row: a.row, column: a.column)
            var restC = panelC
            restC.memory += done * c.row
            restC.rowScale = c.rowScale.map { $0 + done }
            multiplyPanel(m - done, vectors * lanes, k, rest, panelB, restC)
        }
        panelB.memory += vectors * lanes
        panelC.memory += vectors * lanes
        column += vectors * lanes
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
    let a = Operand(memory: scalars(a), row: aRow, column: 1)
    let b = Operand(memory: scalars(b), row: bRow, column: 1)
    let c = Accumulator(
        memory: scalars(c), row: cRow, accumulate: accumulate, rowScale: rowScale.map(scalars))
    if m <= 16 && n % lanes == 0 {
        if m > 0 { multiplyFewRows(m, n, k, a, b, c) }
    } else {
        multiplyInPlace(m, n, k, a, b, c, scratch: scalars(scratch))
    }
}

/// dV += Pᵀ dO: A is stored `[k][m]`, and its rows are `aRow` apart.
@inline(never)
func gemmTN(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ rowScale: UnsafeRawPointer?, _ accumulate: Bool,
    _ scratch: UnsafeMutableRawPointer
) {
    multiplyInPlace(
        m, n, k, Operand(memory: scalars(a), row: 1, column: aRow),
        Operand(memory: scalars(b), row: bRow, column: 1),
        Accumulator(
            memory: scalars(c), row: cRow, accumulate: accumulate, rowScale: rowScale.map(scalars)),
        scratch: scalars(scratch))
}
