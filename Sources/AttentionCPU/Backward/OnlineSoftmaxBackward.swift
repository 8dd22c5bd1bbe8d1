import AttentionCore

/// The gradients of attention row by row, the counterpart of `OnlineSoftmaxForward`.
///
/// Milakov and Gimelshein give no backward pass. This one follows from the definition with P recomputed
/// from the lse, one query row against a chunk of keys at a time, and nothing of size N × N kept:
///
///  1. delta_i = rowsum(dO_i ∘ O_i) for every row.
///  2. For each row i, in parallel: for each chunk of keys: P = exp(Q_i Kᵀ − lse_i),
///     dS = P ∘ (dO_i Vᵀ − delta_i); dQ_i += dS K.
///  3. For each chunk of keys, in parallel: for each row i: P and dS again; dV += Pᵀ dO_i, dK += dSᵀ Q_i.
///
/// Computing P and dS twice keeps the two sums apart, so that no two threads ever add to the same row.
enum OnlineSoftmaxBackward<Element: CPUElement>: CPUAlgorithm {
    typealias Scalar = Element.Accumulator
    typealias Operands = BackwardOperands<Element>
    typealias Shared = RowPreparation<Scalar>

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// Rows of the operands where they have to be widened: `[1][D]`, `[1][Dv]`, `[1][Dv]`, `[Bc][D]`,
        /// `[Bc][Dv]`.
        let Q, dO, O, K, V: MutableBlock<Scalar>
        /// Gradients until they are rounded: `[1][D]`, `[Bc][D]`, `[Bc][Dv]`.
        let dQ, dK, dV: MutableBlock<Scalar>
        /// P and dS of a row and a chunk: `[1][Bc]` each.
        let P, dS: MutableBlock<Scalar>
    }

    static func shared(_ c: CPUContext, _ arena: inout Arena) -> Shared { RowPreparation(c, &arena) }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (Bc, D, Dv) = (c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        return Scratch(
            steps: TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self)),
            Q: c.loaded(1, D, &arena), dO: c.loaded(1, Dv, &arena), O: c.loaded(1, Dv, &arena),
            K: c.loaded(Bc, D, &arena), V: c.loaded(Bc, Dv, &arena), dQ: c.loaded(1, D, &arena),
            dK: c.loaded(Bc, D, &arena), dV: c.loaded(Bc, Dv, &arena),
            P: arena.block(1, Bc, stride: c.paddedColumns(Bc)),
            dS: arena.block(1, Bc, stride: c.paddedColumns(Bc)))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let rows = memory.shared { Self.shared(c, &$0) }
        // 1 and 2: delta and dQ, a task a row.
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let plan = c.plan(b, x.keyLengths)
            rows.prepare(
                plan.queries(i), b, h, c.shape, x, scratch.steps, dO: scratch.dO, O: scratch.O, inPlace: true)
            let block = x.queryGradient.block(b, h, plan.queries(i))
            let dQ = scratch.steps.accumulator(block, or: scratch.dQ)
            dQ.fill(0)
            for j in plan.keyTiles(forQueryTile: i) {
                let tile = plan.tile(i, j)
                let made = recompute(tile, plan, b, h, c, x, rows, scratch)
                scratch.steps.accumulate(made.dS, made.K, into: dQ, keep: .everything, tile, plan)
            }
            scratch.steps.store(dQ, to: block)
        }
        // 3: dK and dV, a task a chunk of keys.
        forEachKeyTile(c, memory) { b, hkv, j, scratch in
            let steps = scratch.steps
            sumKeyTile(j, b, hkv, c, x, steps, dK: scratch.dK, dV: scratch.dV) { h, tile, plan, dK, dV in
                let made = recompute(tile, plan, b, h, c, x, rows, scratch)
                steps.accumulateTransposed(made.P, made.dO, into: dV, tile, plan)
                steps.accumulateTransposed(made.dS, made.Q, into: dK, tile, plan)
            }
        }
    }

    /// One row against one chunk of keys: what was computed, and the rows it was computed from.
    private struct Recomputed {
        let P, dS: MutableBlock<Scalar>
        let Q, dO, K: Block<Scalar>
    }

    private static func recompute(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands,
        _ rows: Shared, _ scratch: Scratch
    ) -> Recomputed {
        let (steps, hkv) = (scratch.steps, h / c.shape.groupSize)
        let P = scratch.P.corner(1, tile.keys.count)
        let dS = scratch.dS.corner(1, tile.keys.count)
        let first = c.shape.row(b, h, tile.queries.lowerBound)
        let Q = steps.load(x.query.block(b, h, tile.queries), into: scratch.Q)
        let K = steps.load(x.key.block(b, hkv, tile.keys), into: scratch.K)
        steps.scores(Q, .init(inPlace: K), into: P)
        steps.probabilities(P, rows.lse.rows(from: first))
        steps.clearHidden(P, tile, plan)
        let dO = steps.load(x.outputGradient.block(b, h, tile.queries), into: scratch.dO)
        let V = steps.load(x.value.block(b, hkv, tile.keys), into: scratch.V)
        steps.probabilityGradient(dO, .init(inPlace: V), into: dS)
        steps.scoreGradient(P, dS, scaledDelta: rows.scaledDelta + first)
        steps.clearHidden(dS, tile, plan)
        return Recomputed(P: P, dS: dS, Q: Q, dO: dO, K: K)
    }
}
