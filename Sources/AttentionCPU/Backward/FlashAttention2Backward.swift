import AttentionCore
import Synchronization

/// FlashAttention-2, backward.
///
/// Source: Dao, "FlashAttention-2", arXiv 2307.08691, Algorithm 2. In our words:
///
///  1. delta = rowsum(dO ∘ O) for every row; dQ = 0 in memory.
///  2. For each key tile j, in parallel: load K_j, V_j; set dK_j = dV_j = 0;
///  3.   for each query tile i that visits it: load Q_i, dO_i, lse_i, delta_i;
///  4.     S = Q_i K_jᵀ; P = exp(S − lse_i), 0 where the zone says masked;
///  5.     dV_j += Pᵀ dO_i;
///  6.     dP = dO_i V_jᵀ; dS = P ∘ (dP − delta_i);
///  7.     dQ_i += dS K_j, in memory, shared by all key tiles;
///  8.     dK_j += dSᵀ Q_i.
///  9.   dK_j and dV_j are written, once.
///
/// The paper adds to dQ_i with atomics, in any order. Here the key tiles take turns at each dQ_i, in
/// ascending j, so that the sum is the same for any number of threads. A tile waits only for tiles before
/// it, which walk the same query tiles in the same order one step ahead, so the turns form a pipeline;
/// step 8 comes before step 7 to give them time. The factor `scale` of dQ and dK is folded into dS.
enum FlashAttention2Backward<Scalar: CPUScalar>: CPUAlgorithm {
    typealias Operands = BackwardOperands<Scalar>

    struct Shared {
        let rows: RowPreparation<Scalar>
        /// The turns taken at each dQ_i: `[B, H, Tr]`.
        let turns: UnsafeMutablePointer<Atomic<Int>>
    }

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// S, then P, and dP, then dS: `[Br][Bc]` each.
        let S, dP: MutableBlock<Scalar>
        /// dK_j `[Bc][D]` and dV_j `[Bc][Dv]`.
        let dK, dV: MutableBlock<Scalar>
        /// K_jᵀ and V_jᵀ in panels.
        let keyPanels, valuePanels: UnsafeMutablePointer<Scalar>
    }

    static func shared(_ c: CPUContext, _ arena: inout Arena) -> Shared {
        Shared(
            rows: RowPreparation(c, &arena),
            turns: arena.take(c.shape.batch * c.shape.heads * c.queryTileCount, of: Atomic<Int>.self))
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
            valuePanels: arena.take(c.kernels.packedCount(rows: Bc, depth: Dv), of: Scalar.self))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let (B, H, Hkv, Tr, Tc) = (
            c.shape.batch, c.shape.heads, c.shape.keyValueHeads, c.queryTileCount, c.keyTileCount
        )
        let shared = memory.shared { Self.shared(c, &$0) }
        let turns = Turns(shared.turns, count: B * H * Tr)
        parallelTiles(B * H * Tr, threads: c.threads, scratch: { memory.worker($0) { Self.scratch(c, &$0) } }) {
            task, scratch in
            let (b, h, i) = (task / (H * Tr), task / Tr % H, task % Tr)
            let rows = c.plan(b, x.keyLengths).queries(i)
            shared.rows.prepare(rows, b, h, c.shape, x, scratch.steps)
            x.queryGradient.block(b, h, rows).fill(0)
        }
        parallelTiles(B * Hkv * Tc, threads: c.threads, scratch: { memory.worker($0) { Self.scratch(c, &$0) } }) {
            task, scratch in
            keyTile(task % Tc, task / (Hkv * Tc), task / Tc % Hkv, c, x, shared.rows, turns, scratch)
        }
    }

    private static func keyTile(
        _ j: Int, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands, _ rows: RowPreparation<Scalar>,
        _ turns: Turns, _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        guard j < plan.keyTileCount else { return }
        let (steps, keys) = (scratch.steps, plan.keys(j))
        let Kj = x.key.block(b, hkv, keys)
        let dKj = scratch.dK.rows(0..<keys.count)
        let dVj = scratch.dV.rows(0..<keys.count)
        let KjT = steps.pack(Kj, panels: scratch.keyPanels)
        let VjT = steps.pack(x.value.block(b, hkv, keys), panels: scratch.valuePanels)
        dKj.fill(0)
        dVj.fill(0)
        for h in hkv * c.shape.groupSize..<(hkv + 1) * c.shape.groupSize {
            for i in plan.queryTiles(forKeyTile: j) {
                let tile = plan.tile(i, j)
                let seen = 0..<tile.keys.count
                let (S, dP) = (
                    scratch.S.corner(tile.queries.count, tile.keys.count),
                    scratch.dP.corner(tile.queries.count, tile.keys.count)
                )
                let Qi = x.query.block(b, h, tile.queries)
                let dOi = x.outputGradient.block(b, h, tile.queries)
                let first = c.shape.row(b, h, tile.queries.lowerBound)
                steps.scores(Qi, KjT, into: S)
                steps.probabilities(S, rows.lse.rows(from: first))
                steps.clearHidden(S, tile, plan)
                steps.accumulateTransposed(S, dOi, into: dVj.rows(seen), tile, plan)
                steps.probabilityGradient(dOi, VjT, into: dP)
                steps.scoreGradient(S, dP, scaledDelta: rows.scaledDelta + first)
                steps.clearHidden(dP, tile, plan)
                steps.accumulateTransposed(dP, Qi, into: dKj.rows(seen), tile, plan)

                let turn = (b * c.shape.heads + h) * c.queryTileCount + i
                turns.wait(tile: turn, for: j - plan.keyTiles(forQueryTile: i).lowerBound)
                steps.accumulate(
                    dP, Kj.rows(seen), into: x.queryGradient.block(b, h, tile.queries),
                    keep: .everything, tile, plan)
                turns.take(tile: turn)
            }
        }
        x.keyGradient.block(b, hkv, keys).copy(from: dKj.readOnly)
        x.valueGradient.block(b, hkv, keys).copy(from: dVj.readOnly)
    }
}
