import AttentionCore

/// FlashAttention, backward.
///
/// Source: Dao et al., arXiv 2205.14135, Algorithm 4. In our words:
///
///  1. Set dQ = 0 in memory.
///  2. For each key tile j: load K_j, V_j; set dK_j = dV_j = 0;
///  3.   for each query tile i: load Q_i, O_i, dO_i, dQ_i and the row statistics;
///  4.     S = Q_i K_jᵀ; P = diag(l_i)⁻¹ exp(S − m_i), 0 where the zone says masked;
///  5.     dV_j += Pᵀ dO_i;
///  6.     dP = dO_i V_jᵀ; D_i = rowsum(dO_i ∘ O_i); dS = P ∘ (dP − D_i);
///  7.     dQ_i += scale · dS K_j, written back;
///  8.     dK_j += scale · dSᵀ Q_i.
///  9.   dK_j and dV_j are written.
///
/// As in the paper D_i is computed at every visit, and the parallelism is over batch and heads alone.
/// Where the paper keeps l and m, the library's interface carries lse = m + ln l, so that step 4 is
/// P = exp(S − lse_i). There is no dropout, so P is what the paper calls P^dropped.
enum FlashAttention1Backward<Element: CPUElement>: CPUAlgorithm {
    typealias Scalar = Element.Accumulator
    typealias Operands = BackwardOperands<Element>
    typealias Shared = Void

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// Tiles of the operands where they have to be widened: `[Br][D]`, `[Br][Dv]`, `[Br][Dv]`, `[Bc][D]`,
        /// `[Bc][Dv]`.
        let Q, O, dO, K, V: MutableBlock<Scalar>
        /// The dQ of a group of heads until it is rounded: `[H/Hkv · Nq][D]`.
        let dQ: MutableBlock<Scalar>
        /// S, then P, and dP, then dS: `[Br][Bc]` each.
        let S, dP: MutableBlock<Scalar>
        /// dK_j `[Bc][D]` and dV_j `[Bc][Dv]`.
        let dK, dV: MutableBlock<Scalar>
        /// K_jᵀ and V_jᵀ in panels.
        let keyPanels, valuePanels: UnsafeMutablePointer<Scalar>
        /// lse_i and scale · D_i: `[Br]` each.
        let lse: RowOffsets<Scalar>
        let scaledDelta: UnsafeMutablePointer<Scalar>
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        return Scratch(
            steps: TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self)),
            Q: c.loaded(Br, D, &arena), O: c.loaded(Br, Dv, &arena), dO: c.loaded(Br, Dv, &arena),
            K: c.loaded(Bc, D, &arena), V: c.loaded(Bc, Dv, &arena),
            dQ: c.loaded(c.shape.groupSize * c.shape.queryLength, D, &arena),
            S: arena.block(Br, Bc, stride: c.paddedColumns(Bc)),
            dP: arena.block(Br, Bc, stride: c.paddedColumns(Bc)),
            dK: arena.block(Bc, D, stride: c.paddedColumns(D)),
            dV: arena.block(Bc, Dv, stride: c.paddedColumns(Dv)),
            keyPanels: arena.take(c.kernels.packedCount(rows: Bc, depth: D), of: Scalar.self),
            valuePanels: arena.take(c.kernels.packedCount(rows: Bc, depth: Dv), of: Scalar.self),
            lse: RowOffsets(Br, &arena), scaledDelta: arena.take(Br, of: Scalar.self))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        forEachHead(c, memory, of: c.shape.keyValueHeads) { b, hkv, scratch in head(b, hkv, c, x, scratch) }
    }

    private static func head(_ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands, _ scratch: Scratch) {
        let plan = c.plan(b, x.keyLengths)
        let steps = scratch.steps
        let heads = hkv * c.shape.groupSize..<(hkv + 1) * c.shape.groupSize
        for h in heads { queryGradient(b, h, c, x, scratch).fill(0) }
        for j in 0..<plan.keyTileCount {
            let keys = plan.keys(j)
            let Kj = steps.load(x.key.block(b, hkv, keys), into: scratch.K)
            let dKj = scratch.dK.rows(0..<keys.count)
            let dVj = scratch.dV.rows(0..<keys.count)
            let KjT = steps.pack(Kj, panels: scratch.keyPanels)
            let VjT = steps.pack(
                steps.load(x.value.block(b, hkv, keys), into: scratch.V), panels: scratch.valuePanels)
            dKj.fill(0)
            dVj.fill(0)
            for h in heads {
                for i in plan.queryTiles(forKeyTile: j) {
                    visit(plan.tile(i, j), plan, b, h, c, x, Kj, KjT, VjT, dKj, dVj, scratch)
                }
            }
            steps.store(dKj, to: x.keyGradient.block(b, hkv, keys))
            steps.store(dVj, to: x.valueGradient.block(b, hkv, keys))
        }
        for h in heads {
            steps.store(
                queryGradient(b, h, c, x, scratch), to: x.queryGradient.block(b, h, 0..<plan.queryLength))
        }
    }

    /// Where the dQ of a head is summed up.
    private static func queryGradient(
        _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands, _ scratch: Scratch
    ) -> MutableBlock<Scalar> {
        let Nq = c.shape.queryLength
        let first = h % c.shape.groupSize * Nq
        return scratch.steps.accumulator(
            x.queryGradient.block(b, h, 0..<Nq), or: scratch.dQ.rows(first..<first + Nq))
    }

    private static func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands,
        _ Kj: Block<Scalar>, _ KjT: BlockGEMM<Scalar>.Transposed, _ VjT: BlockGEMM<Scalar>.Transposed,
        _ dKj: MutableBlock<Scalar>, _ dVj: MutableBlock<Scalar>, _ scratch: Scratch
    ) {
        let (steps, Br, seen) = (scratch.steps, tile.queries.count, 0..<tile.keys.count)
        let Qi = steps.load(x.query.block(b, h, tile.queries), into: scratch.Q)
        let Oi = steps.load(x.output.block(b, h, tile.queries), into: scratch.O)
        let dOi = steps.load(x.outputGradient.block(b, h, tile.queries), into: scratch.dO)
        let (S, dP) = (scratch.S.corner(Br, tile.keys.count), scratch.dP.corner(Br, tile.keys.count))
        let lse = x.logSumExp.baseAddress.unsafelyUnwrapped + c.shape.row(b, h, tile.queries.lowerBound)
        scratch.lse.prepare(Br, lse, scale: steps.scoreScale)

        steps.scores(Qi, KjT, into: S)
        steps.probabilities(S, scratch.lse)
        steps.clearHidden(S, tile, plan)
        steps.accumulateTransposed(S, dOi, into: dVj.rows(seen), tile, plan)
        steps.probabilityGradient(dOi, VjT, into: dP)
        steps.rowDot(dOi, Oi, into: scratch.scaledDelta)
        for r in 0..<Br { scratch.scaledDelta[r] *= Scalar(steps.scale) }
        steps.scoreGradient(S, dP, scaledDelta: scratch.scaledDelta)
        steps.clearHidden(dP, tile, plan)
        steps.accumulate(
            dP, Kj.rows(seen), into: queryGradient(b, h, c, x, scratch).rows(tile.queries),
            keep: .everything, tile, plan)
        steps.accumulateTransposed(dP, Qi, into: dKj.rows(seen), tile, plan)
    }
}
