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
///
/// Steps 4 to 8 are those of the form that the operands are held in.
enum FlashAttention2Backward<Rows: BackwardRows>: CPUAlgorithm {
    typealias Element = Rows.Element
    typealias Scalar = Rows.Scalar
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
        let rows: Rows
        /// dK_j `[Bc][D]` and dV_j `[Bc][Dv]`.
        let dK, dV: MutableBlock<Scalar>
    }

    static func shared(_ c: CPUContext, _ arena: inout Arena) -> Shared {
        Shared(
            rows: RowPreparation(c, &arena),
            turns: arena.take(c.shape.batch * c.shape.heads * c.queryTileCount, of: Atomic<Int>.self),
            dQ: c.loaded(c.shape.rowCount, c.shape.headSize, &arena))
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (Bc, D, Dv) = (c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        return Scratch(
            rows: Rows(c, &arena), dK: arena.block(Bc, D, stride: c.paddedColumns(D)),
            dV: arena.block(Bc, Dv, stride: c.paddedColumns(Dv)))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let shared = memory.shared { Self.shared(c, &$0) }
        let turns = Turns(shared.turns, count: c.shape.batch * c.shape.heads * c.queryTileCount)
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let (rows, steps) = (c.plan(b, x.keyLengths).queries(i), scratch.rows.steps)
            shared.rows.prepare(rows, b, h, c.shape, x, steps, dO: scratch.rows.dO, O: scratch.rows.O)
            shared.queryGradient(b, h, rows, c, x, steps).fill(0)
        }
        forEachKeyTile(c, memory) { b, hkv, j, scratch in
            keyTile(j, b, hkv, c, x, shared, turns, scratch)
        }
        guard c.conversion != nil else { return }
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let (rows, steps) = (c.plan(b, x.keyLengths).queries(i), scratch.rows.steps)
            steps.store(
                shared.queryGradient(b, h, rows, c, x, steps), to: x.queryGradient.block(b, h, rows))
        }
    }

    private static func keyTile(
        _ j: Int, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands, _ shared: Shared,
        _ turns: Turns, _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        guard j < plan.keyTileCount else { return }
        let (keys, rows, steps) = (plan.keys(j), scratch.rows, scratch.rows.steps)
        let Kj = rows.ready(x.key.block(b, hkv, keys), x.value.block(b, hkv, keys))
        let (dKj, dVj) = (scratch.dK.rows(0..<keys.count), scratch.dV.rows(0..<keys.count))
        dKj.fill(0)
        dVj.fill(0)
        for h in hkv * c.shape.groupSize..<(hkv + 1) * c.shape.groupSize {
            for i in plan.queryTiles(forKeyTile: j) {
                let dQ = (b * c.shape.heads + h) * c.queryTileCount + i
                let turn = j - plan.keyTiles(forQueryTile: i).lowerBound
                for part in plan.parts(of: plan.tile(i, j), rows: 8 * c.kernels.registerRows) {
                    let (queries, seen) = (part.queries, 0..<part.keys.count)
                    let dS = rows.visit(
                        part, plan, Kj, x.query.block(b, h, queries), x.outputGradient.block(b, h, queries),
                        shared.rows.rows(from: c.shape.row(b, h, queries.lowerBound)),
                        into: dKj.rows(seen), dVj.rows(seen))
                    turns.wait(tile: dQ, for: turn)
                    rows.accumulate(
                        dS, Kj, into: shared.queryGradient(b, h, queries, c, x, steps), part, plan)
                }
                turns.wait(tile: dQ, for: turn)
                turns.take(tile: dQ)
            }
        }
        steps.store(dKj, to: x.keyGradient.block(b, hkv, keys))
        steps.store(dVj, to: x.valueGradient.block(b, hkv, keys))
    }
}
