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
/// step 8 comes before step 7 to give them time. A masked tile is visited in strips of rows, so that little
/// is computed above the diagonal. The factor `scale` of dQ and dK is folded into dS.
enum FlashAttention2Backward<Element: CPUElement>: CPUAlgorithm {
    typealias Scalar = Element.Accumulator
    typealias Operands = BackwardOperands<Element>

    struct Shared {
        let rows: RowPreparation<Scalar>
        /// The turns taken at each dQ_i: `[B, H, Tr]`.
        let turns: UnsafeMutablePointer<Atomic<Int>>
        /// dQ until it is rounded, where it has to be: `[B·H·Nq][D]`.
        let dQ: MutableBlock<Scalar>

        /// Where some rows of the dQ of a head are summed up.
        func queryGradient(
            _ b: Int, _ h: Int, _ rows: Range<Int>, _ c: CPUContext, _ x: Operands, _ steps: TileSteps<Scalar>
        ) -> MutableBlock<Scalar> {
            let first = c.shape.row(b, h, rows.lowerBound)
            return steps.accumulator(
                x.queryGradient.block(b, h, rows), or: dQ.rows(first..<first + rows.count))
        }
    }

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// Tiles of the operands where they have to be widened: `[Br][D]`, `[Br][Dv]`, `[Br][Dv]`, `[Bc][D]`,
        /// `[Bc][Dv]`.
        let Q, O, dO, K, V: MutableBlock<Scalar>
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
            turns: arena.take(c.shape.batch * c.shape.heads * c.queryTileCount, of: Atomic<Int>.self),
            dQ: c.loaded(c.shape.rowCount, c.shape.headSize, &arena))
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        return Scratch(
            steps: TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self)),
            Q: c.loaded(Br, D, &arena), O: c.loaded(Br, Dv, &arena), dO: c.loaded(Br, Dv, &arena),
            K: c.loaded(Bc, D, &arena), V: c.loaded(Bc, Dv, &arena),
            S: arena.block(Br, Bc, stride: c.paddedColumns(Bc)),
            dP: arena.block(Br, Bc, stride: c.paddedColumns(Bc)),
            dK: arena.block(Bc, D, stride: c.paddedColumns(D)),
            dV: arena.block(Bc, Dv, stride: c.paddedColumns(Dv)),
            keyPanels: arena.take(c.kernels.packedCount(rows: Bc, depth: D), of: Scalar.self),
            valuePanels: arena.take(c.kernels.packedCount(rows: Bc, depth: Dv), of: Scalar.self))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let shared = memory.shared { Self.shared(c, &$0) }
        let turns = Turns(shared.turns, count: c.shape.batch * c.shape.heads * c.queryTileCount)
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let rows = c.plan(b, x.keyLengths).queries(i)
            shared.rows.prepare(rows, b, h, c.shape, x, scratch.steps, dO: scratch.dO, O: scratch.O)
            shared.queryGradient(b, h, rows, c, x, scratch.steps).fill(0)
        }
        forEachKeyTile(c, memory) { b, hkv, j, scratch in
            keyTile(j, b, hkv, c, x, shared, turns, scratch)
        }
        guard c.conversion != nil else { return }
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let rows = c.plan(b, x.keyLengths).queries(i)
            scratch.steps.store(
                shared.queryGradient(b, h, rows, c, x, scratch.steps), to: x.queryGradient.block(b, h, rows))
        }
    }

    private static func keyTile(
        _ j: Int, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands, _ shared: Shared,
        _ turns: Turns, _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        guard j < plan.keyTileCount else { return }
        let keys = plan.keys(j)
        let steps = scratch.steps
        let Kj = steps.load(x.key.block(b, hkv, keys), into: scratch.K)
        let Vj = steps.load(x.value.block(b, hkv, keys), into: scratch.V)
        let tile = KeyTile(
            KT: c.takesDots ? .init(inPlace: Kj) : steps.pack(Kj, panels: scratch.keyPanels),
            VT: steps.pack(Vj, panels: scratch.valuePanels),
            dK: scratch.dK.rows(0..<keys.count), dV: scratch.dV.rows(0..<keys.count))
        tile.dK.fill(0)
        tile.dV.fill(0)
        for h in hkv * c.shape.groupSize..<(hkv + 1) * c.shape.groupSize {
            for i in plan.queryTiles(forKeyTile: j) {
                let dQ = (b * c.shape.heads + h) * c.queryTileCount + i
                let turn = j - plan.keyTiles(forQueryTile: i).lowerBound
                for part in plan.parts(of: plan.tile(i, j), rows: 8 * c.kernels.registerRows) {
                    let dS = visit(part, plan, b, h, c, x, shared.rows, tile, scratch)
                    turns.wait(tile: dQ, for: turn)
                    steps.accumulate(
                        dS, Kj.rows(0..<part.keys.count),
                        into: shared.queryGradient(b, h, part.queries, c, x, steps), keep: .everything, part,
                        plan)
                }
                turns.wait(tile: dQ, for: turn)
                turns.take(tile: dQ)
            }
        }
        steps.store(tile.dK, to: x.keyGradient.block(b, hkv, keys))
        steps.store(tile.dV, to: x.valueGradient.block(b, hkv, keys))
    }

    /// What stays for all visits of a key tile.
    private struct KeyTile {
        /// K_jᵀ and V_jᵀ, packed; K_j as it lies where the forward pass takes it so.
        let KT, VT: BlockGEMM<Scalar>.Transposed
        let dK, dV: MutableBlock<Scalar>
    }

    /// Steps 4 to 6 and 8 for a tile or a strip of it; leaves dS for step 7.
    private static func visit(
        _ part: TilePlan.Tile, _ plan: TilePlan, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands,
        _ rows: RowPreparation<Scalar>, _ tile: KeyTile, _ scratch: Scratch
    ) -> MutableBlock<Scalar> {
        let (steps, seen) = (scratch.steps, 0..<part.keys.count)
        let S = scratch.S.corner(part.queries.count, seen.count)
        let dP = scratch.dP.corner(part.queries.count, seen.count)
        let Qi = steps.load(x.query.block(b, h, part.queries), into: scratch.Q)
        let dOi = steps.load(x.outputGradient.block(b, h, part.queries), into: scratch.dO)
        let first = c.shape.row(b, h, part.queries.lowerBound)
        steps.scores(Qi, tile.KT, into: S)
        steps.probabilities(S, rows.lse.rows(from: first))
        steps.clearHidden(S, part, plan)
        steps.accumulateTransposed(S, dOi, into: tile.dV.rows(seen), part, plan)
        steps.probabilityGradient(dOi, tile.VT, into: dP)
        steps.scoreGradient(S, dP, scaledDelta: rows.scaledDelta + first)
        steps.clearHidden(dP, part, plan)
        steps.accumulateTransposed(dP, Qi, into: tile.dK.rows(seen), part, plan)
        return dP
    }
}
