import AttentionCore
import TileKernelTable

/// The steps on one tile that the algorithms are written in, under the names that the papers give them.
struct TileSteps<Scalar: CPUScalar> {
    let kernels: TileKernelTable
    let conversion: ElementConversion?
    /// The products with K and V that pass by once, as they lie.
    let passing: PassingProducts
    let gemm: BlockGEMM<Scalar>
    /// The factor on Q Kᵀ, which dS takes.
    let scale: Double
    /// Its magnitude, which P takes of scores whose sign it has given.
    let scoreScale: Scalar

    init(_ context: CPUContext, scratch: UnsafeMutablePointer<Scalar>) {
        kernels = context.kernels
        conversion = context.conversion
        passing = context.conversion?.passing ?? context.kernels.passing
        gemm = BlockGEMM(kernels: context.kernels, blas: context.blas, scratch: scratch)
        scale = context.softmaxScale
        scoreScale = context.scoreScale()
    }

    /// The factor from a difference of scores to the exponent of 2.
    var exponentFactor: Double { Double(scoreScale) * 1.4426950408889634 }

    // MARK: Loading and storing

    /// A block of an operand as it is computed with: the block itself, or a copy widened into the scratch.
    func load<Element: CPUElement>(
        _ block: Block<Element>, into scratch: MutableBlock<Scalar>
    ) -> Block<Scalar> where Element.Accumulator == Scalar {
        guard let conversion else { return block.assumingElements(Scalar.self) }
        let copy = scratch.corner(block.rows, block.columns)
        conversion.widen(
            block.rows, block.columns, block.memory, block.stride, copy.memory, copy.stride)
        return copy.readOnly
    }

    /// Where the sum that becomes a block of a result is made: in the block itself, or in the scratch.
    func accumulator<Element: CPUElement>(
        _ block: MutableBlock<Element>, or scratch: MutableBlock<Scalar>
    ) -> MutableBlock<Scalar> where Element.Accumulator == Scalar {
        conversion == nil
            ? block.assumingElements(Scalar.self) : scratch.corner(block.rows, block.columns)
    }

    /// Writes a block of a result, rounded once; nothing to do where it was made in place.
    func store<Element: CPUElement>(
        _ sum: MutableBlock<Scalar>, to block: MutableBlock<Element>
    ) where Element.Accumulator == Scalar {
        if let conversion {
            conversion.round(
                block.rows, block.columns, sum.memory, sum.stride, block.memory, block.stride)
        } else {
            let block = block.assumingElements(Scalar.self)
            if block.memory != sum.memory { block.copy(from: sum.readOnly) }
        }
    }

    // MARK: Scores and softmax

    /// Makes the rows of an operand that stays for many tiles ready for `scores`.
    func pack(
        _ rows: Block<Scalar>, panels: UnsafeMutablePointer<Scalar>
    ) -> BlockGEMM<Scalar>.Transposed {
        gemm.pack(rows, panels: panels)
    }

    /// S = Q Kᵀ, without the scale but with its sign; likewise Sᵀ = K Qᵀ.
    func scores(
        _ Q: Block<Scalar>, _ K: BlockGEMM<Scalar>.Transposed, into S: MutableBlock<Scalar>
    ) {
        gemm.multiply(Q, transposed: K, into: S)
        if scale < 0 { S.negate() }
    }

    /// S = Q Kᵀ for few rows of Q, with K that passes by.
    func scores<Element: CPUElement>(
        _ Q: Block<Scalar>, passing K: Block<Element>, into S: MutableBlock<Scalar>, next: Upcoming
    ) where Element.Accumulator == Scalar {
        passing.gemmNT(
            S.rows, S.columns, Q.columns, Q.memory, Q.stride, K.memory, K.stride, S.memory, S.stride,
            next.memory, next.stride, next.width)
        if scale < 0 { S.negate() }
    }

    /// Sᵀ = K Qᵀ with K that passes by and packed Q.
    func scores<Element: CPUElement>(
        passing K: Block<Element>, _ panels: UnsafePointer<Scalar>, into St: MutableBlock<Scalar>,
        next: Upcoming
    ) where Element.Accumulator == Scalar {
        passing.gemmPacked(
            St.rows, St.columns, K.columns, K.memory, K.stride, panels, St.memory, St.stride, gemm.scratch,
            next.memory, next.stride, next.width)
        if scale < 0 { St.negate() }
    }

    /// dP = dO Vᵀ.
    func probabilityGradient(
        _ dO: Block<Scalar>, _ V: BlockGEMM<Scalar>.Transposed, into dP: MutableBlock<Scalar>
    ) {
        gemm.multiply(dO, transposed: V, into: dP)
    }

    /// Sets the scores that the mask hides to −∞. Nothing to do unless the zone says so.
    func maskTile(_ S: MutableBlock<Scalar>, _ tile: TilePlan.Tile, _ plan: TilePlan) {
        fillHidden(S, tile, plan, with: -.infinity)
    }

    /// The same for a tile that is held transposed.
    func maskTransposedTile(_ St: MutableBlock<Scalar>, _ tile: TilePlan.Tile, _ plan: TilePlan) {
        guard tile.zone == .masked else { return }
        let (before, after) = plan.partlyVisibleKeys(of: tile)
        for c in before { hideQueries(of: c, St, tile, plan) }
        for c in after { hideQueries(of: c, St, tile, plan) }
    }

    private func hideQueries(
        of key: Int, _ St: MutableBlock<Scalar>, _ tile: TilePlan.Tile, _ plan: TilePlan
    ) {
        let seeing = plan.visibleQueries(key: key, of: tile)
        let row = St.rows(key..<key + 1)
        row.columns(0..<seeing.lowerBound).fill(-.infinity)
        row.columns(seeing.upperBound..<St.columns).fill(-.infinity)
    }

    /// Sets what the mask hides of P or dS to 0. In the backward passes this takes the place of −∞ in S:
    /// it also clears the NaN of a row's own lse, and that of a hidden dP.
    func clearHidden(_ P: MutableBlock<Scalar>, _ tile: TilePlan.Tile, _ plan: TilePlan) {
        fillHidden(P, tile, plan, with: 0)
    }

    /// rowmax S.
    func rowMaximum(_ S: MutableBlock<Scalar>, into maximum: UnsafeMutablePointer<Scalar>) {
        kernels.rowMaximum(S.rows, S.columns, S.memory, S.stride, maximum)
    }

    /// P = exp(scale · (S − offset)) and its row sums.
    func exponentiate(
        _ S: MutableBlock<Scalar>, offset: UnsafePointer<Scalar>, sum: UnsafeMutablePointer<Scalar>
    ) {
        kernels.exponentiate(S.rows, S.columns, S.memory, S.stride, exponentFactor, offset, sum)
    }

    /// rowmax S of a transposed tile.
    func columnMaximum(_ St: MutableBlock<Scalar>, into maximum: UnsafeMutablePointer<Scalar>) {
        kernels.columnMaximum(St.rows, St.columns, St.memory, St.stride, maximum)
    }

    /// Pᵀ = exp(scale · (Sᵀ − offset)) and the row sums of P.
    func exponentiateColumns(
        _ St: MutableBlock<Scalar>, offset: UnsafePointer<Scalar>, sum: UnsafeMutablePointer<Scalar>
    ) {
        kernels.exponentiateColumns(St.rows, St.columns, St.memory, St.stride, exponentFactor, offset, sum)
    }

    /// P = exp(scale · S − lse).
    func probabilities(_ S: MutableBlock<Scalar>, _ lse: RowOffsets<Scalar>) {
        kernels.probabilities(S.rows, S.columns, S.memory, S.stride, exponentFactor, lse.high, lse.low)
    }

    /// dS = P ∘ (dP − delta) · scale, in place of dP.
    ///
    /// - Parameters:
    ///   - scaledDelta: scale · delta, `[rows]`.
    func scoreGradient(
        _ P: MutableBlock<Scalar>, _ dP: MutableBlock<Scalar>, scaledDelta: UnsafePointer<Scalar>
    ) {
        kernels.scoreGradient(
            P.rows, P.columns, P.memory, P.stride, dP.memory, dP.stride, scale, scaledDelta)
    }

    /// Row r times element r.
    func scaleRows(_ C: MutableBlock<Scalar>, by factors: UnsafePointer<Scalar>) {
        kernels.scaleRows(C.rows, C.columns, C.memory, C.stride, factors)
    }

    /// Writes a block of a result as what is summed, row r divided by element r, 0 where that is 0; rounded
    /// once. What is summed may be lost.
    func divideRows<Element: CPUElement>(
        _ sum: MutableBlock<Scalar>, by divisors: UnsafePointer<Scalar>, to block: MutableBlock<Element>
    ) where Element.Accumulator == Scalar {
        let quotient = accumulator(block, or: sum)
        kernels.divideRows(
            sum.rows, sum.columns, sum.memory, sum.stride, divisors, quotient.memory, quotient.stride)
        store(quotient, to: block)
    }

    /// delta = rowsum(dO ∘ O).
    func rowDot(_ A: Block<Scalar>, _ B: Block<Scalar>, into delta: UnsafeMutablePointer<Scalar>) {
        kernels.rowDot(A.rows, A.columns, A.memory, A.stride, B.memory, B.stride, delta)
    }

    /// delta of one row, summed as `probabilityGradient` sums against rows that are not packed.
    func rowDotInPlace(_ A: Block<Scalar>, _ B: Block<Scalar>, into delta: UnsafeMutablePointer<Scalar>) {
        gemm.multiply(
            A, transposed: .init(inPlace: B),
            into: MutableBlock(memory: delta, rows: 1, columns: 1, stride: 1))
    }

    // MARK: Sums over a tile

    /// O = keep O + P V, or dQ = keep dQ + dS K.
    ///
    /// P is 0 where the mask hides a key, but 0 · NaN is NaN: if what the mask hides of V from some rows
    /// holds anything that is not finite, each row takes only the keys that it sees.
    func accumulate(
        _ P: MutableBlock<Scalar>, _ V: Block<Scalar>, into O: MutableBlock<Scalar>,
        keep: BlockGEMM<Scalar>.Keep, _ tile: TilePlan.Tile, _ plan: TilePlan
    ) {
        guard tile.zone == .masked, !isFinite(V, hidden: plan.partlyVisibleKeys(of: tile)) else {
            return gemm.multiply(P.readOnly, V, into: O, keep: keep)
        }
        for r in 0..<P.rows {
            let seen = plan.visibleKeys(row: r, of: tile)
            gemm.multiply(
                P.rows(r..<r + 1).columns(seen).readOnly, V.rows(seen), into: O.rows(r..<r + 1),
                keep: keep.row(r))
        }
    }

    /// O = keep O + P V for few rows of P, which hides nothing, with V that passes by; P is as it is, or
    /// transposed.
    func accumulate<Element: CPUElement>(
        _ P: MutableBlock<Scalar>, isTransposed: Bool = false, passing V: Block<Element>,
        into O: MutableBlock<Scalar>, keep factors: UnsafePointer<Scalar>, next: Upcoming
    ) where Element.Accumulator == Scalar {
        (isTransposed ? passing.gemmTN : passing.gemmNN)(
            O.rows, O.columns, V.rows, P.memory, P.stride, V.memory, V.stride, O.memory, O.stride, factors,
            gemm.scratch, next.memory, next.stride, next.width)
    }

    /// O = keep O + P V for a transposed P.
    func accumulate(
        transposed Pt: MutableBlock<Scalar>, _ V: Block<Scalar>, into O: MutableBlock<Scalar>,
        keep factors: UnsafePointer<Scalar>, _ tile: TilePlan.Tile, _ plan: TilePlan
    ) {
        guard tile.zone == .masked, !isFinite(V, hidden: plan.partlyVisibleKeys(of: tile)) else {
            return gemm.multiply(transposed: Pt.readOnly, V, into: O, keep: .scaled(factors))
        }
        for r in 0..<O.rows {
            let seen = plan.visibleKeys(row: r, of: tile)
            gemm.multiply(
                transposed: Pt.rows(seen).columns(r..<r + 1).readOnly, V.rows(seen), into: O.rows(r..<r + 1),
                keep: .scaled(factors + r))
        }
    }

    /// dV = keep dV + Pᵀ dO, or dK = keep dK + dSᵀ Q; hidden rows are left out as in `accumulate`.
    func accumulateTransposed(
        _ P: MutableBlock<Scalar>, _ dO: Block<Scalar>, into dV: MutableBlock<Scalar>,
        _ tile: TilePlan.Tile, _ plan: TilePlan
    ) {
        guard tile.zone == .masked, !isFinite(dO) else {
            return gemm.multiply(transposed: P.readOnly, dO, into: dV, keep: .everything)
        }
        for c in 0..<P.columns {
            let rows = plan.visibleQueries(key: c, of: tile)
            gemm.multiply(
                transposed: P.rows(rows).columns(c..<c + 1).readOnly, dO.rows(rows),
                into: dV.rows(c..<c + 1), keep: .everything)
        }
    }

    private func fillHidden(
        _ S: MutableBlock<Scalar>, _ tile: TilePlan.Tile, _ plan: TilePlan, with value: Scalar
    ) {
        guard tile.zone == .masked else { return }
        for r in 0..<S.rows {
            let seen = plan.visibleKeys(row: r, of: tile)
            let row = S.rows(r..<r + 1)
            row.columns(0..<seen.lowerBound).fill(value)
            row.columns(seen.upperBound..<S.columns).fill(value)
        }
    }

    private func isFinite(_ V: Block<Scalar>, hidden: (before: Range<Int>, after: Range<Int>)) -> Bool {
        isFinite(V.rows(hidden.before)) && isFinite(V.rows(hidden.after))
    }

    private func isFinite(_ block: Block<Scalar>) -> Bool {
        kernels.allFinite(block.rows, block.columns, block.memory, block.stride)
    }
}
