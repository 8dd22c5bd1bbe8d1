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
enum FlashAttention1Backward<Scalar: CPUScalar>: CPUAlgorithm {
    typealias Operands = BackwardOperands<Scalar>
    typealias Shared = Void

    struct Scratch {
        let steps: TileSteps<Scalar>
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
        for h in heads { x.queryGradient.block(b, h, 0..<plan.queryLength).fill(0) }
        for j in 0..<plan.keyTileCount {
            let keys = plan.keys(j)
            let Kj = x.key.block(b, hkv, keys)
            let dKj = scratch.dK.rows(0..<keys.count)
            let dVj = scratch.dV.rows(0..<keys.count)
            let KjT = steps.pack(Kj, panels: scratch.keyPanels)
            let VjT = steps.pack(x.value.block(b, hkv, keys), panels: scratch.valuePanels)
            dKj.fill(0)
            dVj.fill(0)
            for h in heads {
                for i in plan.queryTiles(forKeyTile: j) {
                    visit(plan.tile(i, j), plan, b, h, c, x, Kj, KjT, VjT, dKj, dVj, scratch)
                }
            }
            x.keyGradient.block(b, hkv, keys).copy(from: dKj.readOnly)
            x.valueGradient.block(b, hkv, keys).copy(from: dVj.readOnly)
        }
    }

    private static func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands,
        _ Kj: Block<Scalar>, _ KjT: BlockGEMM<Scalar>.Transposed, _ VjT: BlockGEMM<Scalar>.Transposed,
        _ dKj: MutableBlock<Scalar>, _ dVj: MutableBlock<Scalar>, _ scratch: Scratch
    ) {
        let (steps, Br, seen) = (scratch.steps, tile.queries.count, 0..<tile.keys.count)
        let Qi = x.query.block(b, h, tile.queries)
        let Oi = x.output.block(b, h, tile.queries)
        let dOi = x.outputGradient.block(b, h, tile.queries)
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
            dP, Kj.rows(seen), into: x.queryGradient.block(b, h, tile.queries),
            keep: .everything, tile, plan)
        steps.accumulateTransposed(dP, Qi, into: dKj.rows(seen), tile, plan)
    }
}
