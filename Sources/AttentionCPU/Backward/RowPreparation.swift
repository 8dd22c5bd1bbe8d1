import AttentionCore

/// What the backward pass needs of every query row, computed once before the tiles: step 1 of
/// FlashAttention-2's Algorithm 2, shared with the online softmax.
struct RowPreparation<Scalar: CPUScalar> {
    /// The lse, +∞ for an empty row: what exp subtracts from S to give P. `[B, H, Nq]`
    let offset: UnsafeMutablePointer<Scalar>
    /// scale · delta, with delta = rowsum(dO ∘ O). `[B, H, Nq]`
    let scaledDelta: UnsafeMutablePointer<Scalar>

    init(_ c: CPUContext, _ arena: inout Arena) {
        offset = arena.take(c.shape.rowCount, of: Scalar.self)
        scaledDelta = arena.take(c.shape.rowCount, of: Scalar.self)
    }

    /// Computes both for some rows of a head.
    func prepare(
        _ rows: Range<Int>, _ b: Int, _ h: Int, _ shape: AttentionShape, _ x: BackwardOperands<Scalar>,
        _ steps: TileSteps<Scalar>
    ) {
        let first = shape.row(b, h, rows.lowerBound)
        steps.rowDot(
            x.outputGradient.block(b, h, rows), x.output.block(b, h, rows), into: scaledDelta + first)
        let lse = x.logSumExp.baseAddress.unsafelyUnwrapped
        for r in first..<first + rows.count {
            scaledDelta[r] *= Scalar(steps.scale)
            offset[r] = RowStatistics.backwardOffset(lse[r])
        }
    }
}
