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
enum OnlineSoftmaxBackward<Scalar: CPUScalar>: CPUAlgorithm {
    typealias Operands = BackwardOperands<Scalar>
    typealias Shared = RowPreparation<Scalar>

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// P and dS of a row and a chunk: `[1][Bc]` each.
        let P, dS: MutableBlock<Scalar>
    }

    static func shared(_ c: CPUContext, _ arena: inout Arena) -> Shared { RowPreparation(c, &arena) }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let Bc = c.tileKeys
        return Scratch(
            steps: TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self)),
            P: arena.block(1, Bc, stride: c.paddedColumns(Bc)),
            dS: arena.block(1, Bc, stride: c.paddedColumns(Bc)))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let rows = memory.shared { Self.shared(c, &$0) }
        // 1 and 2: delta and dQ, a task a row.
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let plan = c.plan(b, x.keyLengths)
            rows.prepare(plan.queries(i), b, h, c.shape, x, scratch.steps, inPlace: true)
            let dQ = x.queryGradient.block(b, h, plan.queries(i))
            dQ.fill(0)
            for j in plan.keyTiles(forQueryTile: i) {
                let tile = plan.tile(i, j)
                let (_, dS) = recompute(tile, plan, b, h, c, x, rows, scratch)
                scratch.steps.accumulate(
                    dS, x.key.block(b, h / c.shape.groupSize, tile.keys), into: dQ, keep: .everything, tile,
                    plan)
            }
        }
        // 3: dK and dV, a task a chunk of keys.
        forEachKeyTile(c, memory) { b, hkv, j, scratch in chunk(j, b, hkv, c, x, rows, scratch) }
    }

    private static func chunk(
        _ j: Int, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands, _ rows: Shared, _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        guard j < plan.keyTileCount else { return }
        let dK = x.keyGradient.block(b, hkv, plan.keys(j))
        let dV = x.valueGradient.block(b, hkv, plan.keys(j))
        dK.fill(0)
        dV.fill(0)
        for h in hkv * c.shape.groupSize..<(hkv + 1) * c.shape.groupSize {
            for i in plan.queryTiles(forKeyTile: j) {
                let tile = plan.tile(i, j)
                let seen = 0..<tile.keys.count
                let (P, dS) = recompute(tile, plan, b, h, c, x, rows, scratch)
                scratch.steps.accumulateTransposed(
                    P, x.outputGradient.block(b, h, tile.queries), into: dV.rows(seen), tile, plan)
                scratch.steps.accumulateTransposed(
                    dS, x.query.block(b, h, tile.queries), into: dK.rows(seen), tile, plan)
            }
        }
    }

    /// P and dS of one row against one chunk of keys.
    private static func recompute(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands,
        _ rows: Shared, _ scratch: Scratch
    ) -> (P: MutableBlock<Scalar>, dS: MutableBlock<Scalar>) {
        let (steps, hkv) = (scratch.steps, h / c.shape.groupSize)
        let P = scratch.P.corner(1, tile.keys.count)
        let dS = scratch.dS.corner(1, tile.keys.count)
        let first = c.shape.row(b, h, tile.queries.lowerBound)
        let K = x.key.block(b, hkv, tile.keys)
        steps.scores(x.query.block(b, h, tile.queries), .init(inPlace: K), into: P)
        steps.probabilities(P, rows.lse.rows(from: first))
        steps.clearHidden(P, tile, plan)
        let V = x.value.block(b, hkv, tile.keys)
        steps.probabilityGradient(x.outputGradient.block(b, h, tile.queries), .init(inPlace: V), into: dS)
        steps.scoreGradient(P, dS, scaledDelta: rows.scaledDelta + first)
        steps.clearHidden(dS, tile, plan)
        return (P, dS)
    }
}
