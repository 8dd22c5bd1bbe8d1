// Copies of an operand into the order in which the register tile reads it.

/// A raw pointer of the table, as scalars.
@inline(__always)
func scalars(_ p: UnsafeRawPointer) -> UnsafePointer<Scalar> { p.assumingMemoryBound(to: Scalar.self) }

@inline(__always)
func scalars(_ p: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Scalar> {
    p.assumingMemoryBound(to: Scalar.self)
}

/// Copies `[rows][width]` of `b`, `width ≤ panelWidth`, to `[rows][panelWidth]`, zero up to whole vectors; a
/// row is what a step of a product takes.
@inline(__always)
func copyPadded<B: Storage>(
    _ storage: B.Type, rows: Int, _ width: Int, _ b: Operand<B.Element>, to dst: UnsafeMutablePointer<Scalar>
) {
    for r in 0..<rows {
        let from = b.memory + r * B.rowsOfStep * b.row
        let to = dst + r * panelWidth
        var c = 0
        while c + lanes <= width {
            store(B.vector(from + c, b.row), to + c)
            c += lanes
        }
        if c < width { store(B.vector(from + c, b.row, count: width - c), to + c) }
    }
}

/// K `[n][k]` to panels `[⌈n / panelWidth⌉][k][panelWidth]`, zero-padded: the rows of a panel are then what
/// the register tile loads.
@inline(never)
func packTransposed(
    _ n: Int, _ k: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer
) {
    var column = 0
    while column < n {
        packPanel(
            min(panelWidth, n - column), k, scalars(src) + column * srcRow, srcRow,
            to: scalars(dst) + column * k)
        column += panelWidth
    }
}

/// One panel: `lanes × lanes` blocks through the registers, and what is left over one scalar at a time.
@inline(__always)
private func packPanel(
    _ width: Int, _ k: Int, _ src: UnsafePointer<Scalar>, _ srcRow: Int,
    to dst: UnsafeMutablePointer<Scalar>
) {
    var c = 0
    while c + lanes <= width {
        var d = 0
        while d + lanes <= k {
            transposeBlock(src + c * srcRow + d, srcRow, to: dst + d * panelWidth + c)
            d += lanes
        }
        for d in d..<k {
            for lane in c..<c + lanes { dst[d * panelWidth + lane] = src[lane * srcRow + d] }
        }
        c += lanes
    }
    if c < width {
        for d in 0..<k {
            for lane in c..<c + lanes {
                dst[d * panelWidth + lane] = lane < width ? src[lane * srcRow + d] : 0
            }
        }
        c += lanes
    }
    while c < panelWidth {
        for d in 0..<k { store(Vector.zero, dst + d * panelWidth + c) }
        c += lanes
    }
}

/// Transposes a `lanes × lanes` block by perfect shuffles: interleaving row i with row i + lanes/2, over all
/// rows and log2(lanes) times, sends the index (row, column) to (column, row).
@inline(__always)
private func transposeBlock(
    _ src: UnsafePointer<Scalar>, _ srcRow: Int, to dst: UnsafeMutablePointer<Scalar>
) {
    var x = zeroBlock
    for r in 0..<lanes { x[unchecked: r] = load(src + r * srcRow) }
    var rounds = lanes
    while rounds > 1 {
        var y = zeroBlock
        for r in 0..<lanes / 2 {
            y[unchecked: 2 * r] = interleaveLow(x[unchecked: r], x[unchecked: r + lanes / 2])
            y[unchecked: 2 * r + 1] = interleaveHigh(x[unchecked: r], x[unchecked: r + lanes / 2])
        }
        x = y
        rounds /= 2
    }
    for r in 0..<lanes { store(x[unchecked: r], dst + r * panelWidth) }
}
