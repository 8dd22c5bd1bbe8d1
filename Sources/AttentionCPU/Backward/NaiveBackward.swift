import AttentionCore

/// The gradients of attention as they are derived, with P and dS whole in memory.
///
/// Source: the standard implementation that Dao et al., arXiv 2205.14135, give as Algorithm 3:
///
///  1. P = softmax(scale · Q Kᵀ), written to memory (the paper reads the forward pass's P, which the
///     library does not keep).
///  2. dP = dO Vᵀ; dS = P ∘ (dP − rowsum(P ∘ dP)), written to memory.
///  3. dQ = scale · dS K.
///  4. dV = Pᵀ dO; dK = scale · dSᵀ Q.
///
/// Each step runs over all tiles of all heads before the next begins. The lse of the forward pass is not
/// used, nor is O.
enum NaiveBackward<Element: CPUElement>: CPUAlgorithm {
    typealias Scalar = Element.Accumulator
    typealias Operands = BackwardOperands<Element>
    typealias Forward = NaiveForward<Element>

    struct Scratch {
        let forward: Forward.Scratch
        /// dV and dK of a key tile until they are rounded: `[Bc][Dv]`, `[Bc][D]`.
        let dV, dK: MutableBlock<Scalar>
        var steps: TileSteps<Scalar> { forward.steps }
    }

    struct Shared {
        /// `[B·H·Nq][Nk]` each.
        let P, dS: MutableBlock<Scalar>
        /// The lse that step 1 finds again: `[B, H, Nq]`.
        let lse: UnsafeMutablePointer<Double>
    }

    static func shared(_ c: CPUContext, _ arena: inout Arena) -> Shared {
        let (rows, Nk) = (c.shape.rowCount, c.shape.keyLength)
        return Shared(
            P: arena.block(rows, Nk, stride: c.paddedScoreColumns),
            dS: arena.block(rows, Nk, stride: c.paddedScoreColumns), lse: arena.take(rows, of: Double.self))
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        Scratch(
            forward: Forward.scratch(c, &arena), dV: c.loaded(c.tileKeys, c.shape.valueHeadSize, &arena),
            dK: c.loaded(c.tileKeys, c.shape.headSize, &arena))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let shared = memory.shared { Self.shared(c, &$0) }
        // 1. P = softmax(S)
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let plan = c.plan(b, x.keyLengths)
            let P = Forward.rows(shared.P, c, b, h, plan, i)
            Forward.scores(plan, i, c, x.query, b, h, x.key, scratch.forward, into: P)
            Forward.softmax(
                P, scratch.forward, logSumExp: shared.lse + c.shape.row(b, h, plan.queries(i).lowerBound))
            for j in plan.keyTiles(forQueryTile: i) {
                let tile = plan.tile(i, j)
                scratch.steps.clearHidden(P.columns(tile.keys), tile, plan)
            }
        }
        // 2. dS = P ∘ (dP − rowsum(P ∘ dP))
        forEachQueryTile(c, memory) { b, h, i, scratch in
            scoreGradient(b, h, i, c, x, shared, scratch)
        }
        // 3. dQ = dS K
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let plan = c.plan(b, x.keyLengths)
            Forward.rowProduct(
                Forward.rows(shared.dS, c, b, h, plan, i), plan, i, c, x.key, b, h, scratch.forward,
                to: x.queryGradient.block(b, h, plan.queries(i)))
        }
        // 4. dV = Pᵀ dO; dK = dSᵀ Q
        forEachKeyTile(c, memory) { b, hkv, j, scratch in keyTile(j, b, hkv, c, x, shared, scratch) }
    }

    private static func scoreGradient(
        _ b: Int, _ h: Int, _ i: Int, _ c: CPUContext, _ x: Operands, _ shared: Shared, _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        let steps = scratch.steps
        let P = Forward.rows(shared.P, c, b, h, plan, i)
        let dP = Forward.rows(shared.dS, c, b, h, plan, i)
        let dOi = steps.load(
            x.outputGradient.block(b, h, plan.queries(i)), into: scratch.forward.queries)
        var done = 0
        for j in plan.keyTiles(forQueryTile: i) {
            let tile = plan.tile(i, j)
            let Vj = steps.load(
                x.value.block(b, h / c.shape.groupSize, tile.keys), into: scratch.forward.keys)
            let dPij = dP.columns(tile.keys)
            steps.probabilityGradient(dOi, steps.pack(Vj, panels: scratch.forward.panels), into: dPij)
            steps.clearHidden(dPij, tile, plan)
            done = tile.keys.upperBound
        }
        dP.columns(done..<plan.keyLength).fill(0)
        steps.rowDot(P.readOnly, dP.readOnly, into: scratch.forward.correction)
        for r in 0..<P.rows { scratch.forward.correction[r] *= Scalar(steps.scale) }
        steps.scoreGradient(P, dP, scaledDelta: scratch.forward.correction)
        for j in plan.keyTiles(forQueryTile: i) {
            let tile = plan.tile(i, j)
            steps.clearHidden(dP.columns(tile.keys), tile, plan)
        }
    }

    private static func keyTile(
        _ j: Int, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands, _ shared: Shared, _ scratch: Scratch
    ) {
        let (steps, queries) = (scratch.steps, scratch.forward.queries)
        sumKeyTile(j, b, hkv, c, x, steps, dK: scratch.dK, dV: scratch.dV) { h, tile, plan, dK, dV in
            let P = Forward.rows(shared.P, c, b, h, plan, tile.queryTile).columns(tile.keys)
            let dS = Forward.rows(shared.dS, c, b, h, plan, tile.queryTile).columns(tile.keys)
            let dOi = steps.load(x.outputGradient.block(b, h, tile.queries), into: queries)
            steps.accumulateTransposed(P, dOi, into: dV, tile, plan)
            let Qi = steps.load(x.query.block(b, h, tile.queries), into: queries)
            steps.accumulateTransposed(dS, Qi, into: dK, tile, plan)
        }
    }
}
