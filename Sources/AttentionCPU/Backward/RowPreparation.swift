import AttentionCore

/// The lse of some rows as P = exp(scale · S − lse) needs it: divided by the scale, in two parts.
struct RowOffsets<Scalar: CPUScalar> {
    let high, low: UnsafeMutablePointer<Scalar>

    init(_ rows: Int, _ arena: inout Arena) {
        high = arena.take(rows, of: Scalar.self)
        low = arena.take(rows, of: Scalar.self)
    }

    private init(high: UnsafeMutablePointer<Scalar>, low: UnsafeMutablePointer<Scalar>) {
        (self.high, self.low) = (high, low)
    }

    func prepare(_ rows: Int, _ lse: UnsafePointer<Double>, scale: Scalar) {
        for r in 0..<rows { (high[r], low[r]) = RowStatistics<Scalar>.backwardOffset(lse[r], scale: scale) }
    }

    /// Those of the rows from `row` on.
    func rows(from row: Int) -> RowOffsets { RowOffsets(high: high + row, low: low + row) }
}

/// What the backward pass needs of every query row, computed once before the tiles: step 1 of
/// FlashAttention-2's Algorithm 2, shared with the online softmax.
struct RowPreparation<Scalar: CPUScalar> {
    /// `[B, H, Nq]`
    let lse: RowOffsets<Scalar>
    /// scale · delta, with delta = rowsum(dO ∘ O). `[B, H, Nq]`
    let scaledDelta: UnsafeMutablePointer<Scalar>

    init(_ c: CPUContext, _ arena: inout Arena) {
        lse = RowOffsets(c.shape.rowCount, &arena)
        scaledDelta = arena.take(c.shape.rowCount, of: Scalar.self)
    }

    private init(lse: RowOffsets<Scalar>, scaledDelta: UnsafeMutablePointer<Scalar>) {
        (self.lse, self.scaledDelta) = (lse, scaledDelta)
    }

    /// Those of the rows from `row` on.
    func rows(from row: Int) -> RowPreparation {
        RowPreparation(lse: lse.rows(from: row), scaledDelta: scaledDelta + row)
    }

    /// Computes both for some rows of a head.
    ///
    /// - Parameters:
    ///   - dO, O: room to widen the rows of both.
    ///   - inPlace: the products dO Vᵀ will be those of one row with rows of V that are not packed, whose
    ///     order of sums delta has to share.
    func prepare<Element: CPUElement>(
        _ rows: Range<Int>, _ b: Int, _ h: Int, _ shape: AttentionShape, _ x: BackwardOperands<Element>,
        _ steps: TileSteps<Scalar>, dO: MutableBlock<Scalar>, O: MutableBlock<Scalar>, inPlace: Bool = false
    ) where Element.Accumulator == Scalar {
        let first = shape.row(b, h, rows.lowerBound)
        let dO = steps.load(x.outputGradient.block(b, h, rows), into: dO)
        let O = steps.load(x.output.block(b, h, rows), into: O)
        if inPlace {
            for r in 0..<rows.count {
                steps.rowDotInPlace(dO.rows(r..<r + 1), O.rows(r..<r + 1), into: scaledDelta + first + r)
            }
        } else {
            steps.rowDot(dO, O, into: scaledDelta + first)
        }
        for r in first..<first + rows.count { scaledDelta[r] *= Scalar(steps.scale) }
        lse.rows(from: first).prepare(
            rows.count, x.logSumExp.baseAddress.unsafelyUnwrapped + first, scale: steps.scoreScale)
    }
}
