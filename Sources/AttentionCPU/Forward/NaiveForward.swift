import AttentionCore

/// Attention as it is defined, with S and P whole in memory.
///
/// Source: the standard implementation that Dao et al., arXiv 2205.14135, give as Algorithm 0:
///
///  1. S = Q Kᵀ, written to memory.
///  2. P = softmax(S), read and written; the lse comes with it.
///  3. O = P V.
///
/// Each step runs over all tiles of all heads before the next begins.
enum NaiveForward<Element: CPUElement>: CPUAlgorithm {
    typealias Scalar = Element.Accumulator
    typealias Operands = ForwardOperands<Element>

    struct Shared {
        /// `[B·H·Nq][Nk]`
        let S: MutableBlock<Scalar>
    }

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// Rows of Q, dO or a result, and of K or V, where they have to be widened: `[Br][max(D, Dv)]`,
        /// `[Bc][max(D, Dv)]`.
        let queries, keys: MutableBlock<Scalar>
        /// K_jᵀ in panels, or V_jᵀ in the backward pass.
        let panels: UnsafeMutablePointer<Scalar>
        /// `[Br]` each.
        let statistics: RowStatistics<Scalar>
        let maximum, correction: UnsafeMutablePointer<Scalar>
    }

    static func shared(_ c: CPUContext, _ arena: inout Arena) -> Shared {
        Shared(
            S: arena.block(c.shape.rowCount, c.shape.keyLength, stride: c.paddedScoreColumns))
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let Br = c.tileRows
        let widest = max(c.shape.headSize, c.shape.valueHeadSize)
        return Scratch(
            steps: TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self)),
            queries: c.loaded(Br, widest, &arena), keys: c.loaded(c.tileKeys, widest, &arena),
            panels: arena.take(c.kernels.packedCount(rows: c.tileKeys, depth: widest), of: Scalar.self),
            statistics: RowStatistics(
                scale: c.scoreScale(), maximum: arena.take(Br, of: Scalar.self),
                sum: arena.take(Br, of: Scalar.self)),
            maximum: arena.take(Br, of: Scalar.self), correction: arena.take(Br, of: Scalar.self))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let S = memory.shared { Self.shared(c, &$0) }.S
        // 1. S = Q Kᵀ
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let plan = c.plan(b, x.keyLengths)
            scores(plan, i, c, x.query, b, h, x.key, scratch, into: rows(S, c, b, h, plan, i))
        }
        // 2. P = softmax(S)
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let plan = c.plan(b, x.keyLengths)
            let lse = x.logSumExp.baseAddress.unsafelyUnwrapped
            softmax(
                rows(S, c, b, h, plan, i), scratch,
                logSumExp: lse + c.shape.row(b, h, plan.queries(i).lowerBound))
        }
        // 3. O = P V
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let plan = c.plan(b, x.keyLengths)
            rowProduct(
                rows(S, c, b, h, plan, i), plan, i, c, x.value, b, h, scratch,
                to: x.output.block(b, h, plan.queries(i)))
        }
    }

    // MARK: The steps, which the backward pass shares

    /// The rows of query tile i in a `[B·H·Nq][Nk]` matrix, as far as keys exist.
    static func rows(
        _ S: MutableBlock<Scalar>, _ c: CPUContext, _ b: Int, _ h: Int, _ plan: TilePlan, _ i: Int
    ) -> MutableBlock<Scalar> {
        let first = c.shape.row(b, h, 0)
        let queries = plan.queries(i)
        return S.rows(first + queries.lowerBound..<first + queries.upperBound).columns(0..<plan.keyLength)
    }

    /// S = Q Kᵀ for the rows of query tile i, and −∞ where the mask hides a key.
    static func scores(
        _ plan: TilePlan, _ i: Int, _ c: CPUContext, _ query: TensorView<Element>, _ b: Int, _ h: Int,
        _ key: TensorView<Element>, _ scratch: Scratch, into S: MutableBlock<Scalar>
    ) {
        let Qi = scratch.steps.load(query.block(b, h, plan.queries(i)), into: scratch.queries)
        var done = 0
        for j in plan.keyTiles(forQueryTile: i) {
            let tile = plan.tile(i, j)
            let Sij = S.columns(tile.keys)
            let Kj = scratch.steps.load(key.block(b, h / c.shape.groupSize, tile.keys), into: scratch.keys)
            scratch.steps.scores(
                Qi, scratch.steps.pack(Kj, panels: scratch.panels), into: Sij)
            scratch.steps.maskTile(Sij, tile, plan)
            done = tile.keys.upperBound
        }
        S.columns(done..<plan.keyLength).fill(-.infinity)
    }

    /// P = softmax(S) in place, and the lse.
    static func softmax(
        _ S: MutableBlock<Scalar>, _ scratch: Scratch, logSumExp: UnsafeMutablePointer<Double>
    ) {
        let (steps, statistics) = (scratch.steps, scratch.statistics)
        statistics.reset(S.rows)
        steps.rowMaximum(S, into: scratch.maximum)
        statistics.update(S.rows, tileMaximum: scratch.maximum, correction: scratch.correction)
        steps.exponentiate(S, offset: scratch.maximum, sum: scratch.correction)
        statistics.add(S.rows, tileSum: scratch.correction)
        statistics.finish(S.rows, logSumExp: logSumExp)
        statistics.reciprocals(S.rows, into: scratch.correction)
        steps.scaleRows(S, by: scratch.correction)
    }

    /// O = P V for the rows of query tile i, or dQ = dS K.
    static func rowProduct(
        _ P: MutableBlock<Scalar>, _ plan: TilePlan, _ i: Int, _ c: CPUContext, _ value: TensorView<Element>,
        _ b: Int, _ h: Int, _ scratch: Scratch, to result: MutableBlock<Element>
    ) {
        let steps = scratch.steps
        let Oi = steps.accumulator(result, or: scratch.queries)
        Oi.fill(0)
        for j in plan.keyTiles(forQueryTile: i) {
            let tile = plan.tile(i, j)
            let Vj = steps.load(value.block(b, h / c.shape.groupSize, tile.keys), into: scratch.keys)
            steps.accumulate(P.columns(tile.keys), Vj, into: Oi, keep: .everything, tile, plan)
        }
        steps.store(Oi, to: result)
    }
}
