import AttentionCore

/// FlashAttention, forward.
///
/// Source: Dao, Fu, Ermon, Rudra and Ré, "FlashAttention: Fast and Memory-Efficient Exact Attention with
/// IO-Awareness", arXiv 2205.14135, Algorithm 1. In our words:
///
///  1. Set O = 0, l = 0, m = −∞ in memory.
///  2. For each key tile j: load K_j, V_j;
///  3.   for each query tile i: load Q_i, O_i, l_i, m_i;
///  4.     S = Q_i K_jᵀ, masked where the zone says so;
///  5.     m̃ = rowmax S, P̃ = exp(S − m̃), l̃ = rowsum P̃;
///  6.     m_new = max(m_i, m̃), l_new = exp(m_i − m_new) l_i + exp(m̃ − m_new) l̃;
///  7.     O_i = diag(l_new)⁻¹ (diag(l_i) exp(m_i − m_new) O_i + exp(m̃ − m_new) P̃ V_j), written back;
///  8.     l_i = l_new and m_i = m_new, written back.
///
/// The keys are outside, so O, l and m go through memory at every visit and O is normalised at every visit;
/// the parallelism is over batch and heads alone. Both are what FlashAttention-2 changes. The lse is made
/// of l and m at the end, for the backward pass.
enum FlashAttention1Forward<Element: CPUElement>: CPUAlgorithm {
    typealias Scalar = Element.Accumulator
    typealias Operands = ForwardOperands<Element>

    struct Shared {
        /// m and l of every row: `[B, H, Nq]` each.
        let maximum, sum: UnsafeMutablePointer<Scalar>
    }

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// Q_i, K_j and V_j where they have to be widened, `[Br][D]`, `[Bc][D]`, `[Bc][Dv]`, and the O of a
        /// head until it is rounded, `[Nq][Dv]`.
        let Q, K, V, O: MutableBlock<Scalar>
        /// S, then P̃: `[Br][Bc]`.
        let S: MutableBlock<Scalar>
        let panels: UnsafeMutablePointer<Scalar>
        /// m̃, what exp subtracts for it, and l̃: `[Br]` each.
        let tileMaximum, offset, tileSum: UnsafeMutablePointer<Scalar>
        /// The factors of step 7 on O_i and on P̃ V_j: `[Br]` each.
        let oldFactor, newFactor: UnsafeMutablePointer<Scalar>
    }

    static func shared(_ c: CPUContext, _ arena: inout Arena) -> Shared {
        Shared(
            maximum: arena.take(c.shape.rowCount, of: Scalar.self),
            sum: arena.take(c.shape.rowCount, of: Scalar.self))
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        return Scratch(
            steps: TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self)),
            Q: c.loaded(Br, D, &arena), K: c.loaded(Bc, D, &arena), V: c.loaded(Bc, Dv, &arena),
            O: c.loaded(c.shape.queryLength, Dv, &arena),
            S: arena.block(Br, Bc, stride: c.paddedColumns(Bc)),
            panels: arena.take(c.kernels.packedCount(rows: Bc, depth: D), of: Scalar.self),
            tileMaximum: arena.take(Br, of: Scalar.self), offset: arena.take(Br, of: Scalar.self),
            tileSum: arena.take(Br, of: Scalar.self),
            oldFactor: arena.take(Br, of: Scalar.self), newFactor: arena.take(Br, of: Scalar.self))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let shared = memory.shared { Self.shared(c, &$0) }
        forEachHead(c, memory, of: c.shape.heads) { b, h, scratch in head(b, h, c, x, shared, scratch) }
    }

    private static func head(
        _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands, _ shared: Shared, _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        let steps = scratch.steps
        let (Nq, first) = (plan.queryLength, c.shape.row(b, h, 0))
        let statistics = RowStatistics(
            scale: steps.scoreScale, maximum: shared.maximum + first, sum: shared.sum + first)
        let O = steps.accumulator(x.output.block(b, h, 0..<Nq), or: scratch.O)
        O.fill(0)
        statistics.reset(Nq)
        for j in 0..<plan.keyTileCount {
            let keys = plan.keys(j)
            let Kj = steps.load(x.key.block(b, h / c.shape.groupSize, keys), into: scratch.K)
            let Vj = steps.load(x.value.block(b, h / c.shape.groupSize, keys), into: scratch.V)
            let prepared = steps.pack(Kj, panels: scratch.panels)
            for i in plan.queryTiles(forKeyTile: j) {
                visit(plan.tile(i, j), plan, b, h, x, prepared, Vj, O, statistics, scratch)
            }
        }
        let lse = x.logSumExp.baseAddress.unsafelyUnwrapped + first
        statistics.finish(Nq, logSumExp: lse)
        steps.store(O, to: x.output.block(b, h, 0..<Nq))
    }

    private static func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ b: Int, _ h: Int, _ x: Operands,
        _ Kj: BlockGEMM<Scalar>.Transposed, _ Vj: Block<Scalar>, _ O: MutableBlock<Scalar>,
        _ statistics: RowStatistics<Scalar>, _ scratch: Scratch
    ) {
        let (steps, Br) = (scratch.steps, tile.queries.count)
        let Qi = steps.load(x.query.block(b, h, tile.queries), into: scratch.Q)
        let Oi = O.rows(tile.queries)
        let S = scratch.S.corner(Br, tile.keys.count)
        steps.scores(Qi, Kj, into: S)
        steps.maskTile(S, tile, plan)
        steps.rowMaximum(S, into: scratch.tileMaximum)
        RowStatistics.subtrahends(Br, of: scratch.tileMaximum, into: scratch.offset)
        steps.exponentiate(S, offset: scratch.offset, sum: scratch.tileSum)
        statistics.rows(from: tile.queries.lowerBound).merge(
            Br, tileMaximum: scratch.tileMaximum, tileSum: scratch.tileSum, oldFactor: scratch.oldFactor,
            newFactor: scratch.newFactor)
        steps.scaleRows(S, by: scratch.newFactor)
        steps.accumulate(
            S, Vj.rows(0..<tile.keys.count), into: Oi, keep: .scaled(scratch.oldFactor), tile, plan)
    }
}
