import AttentionCore

/// FlashAttention-2, forward.
///
/// Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
/// arXiv 2307.08691, Algorithm 1. In our words:
///
///  1. Divide Q into Tr tiles of Br rows, K and V into Tc tiles of Bc rows; O and the lse go with Q.
///  2. For each query tile i, in parallel:
///  3.   load Q_i; set O_i = 0, l_i = 0, m_i = −∞;
///  4.   for each key tile j that i visits:
///  5.     load K_j, V_j;
///  6.     S = Q_i K_jᵀ, masked where the zone says so;
///  7.     m_i becomes max(m_i, rowmax S), P = exp(S − m_i), l_i = exp(m_old − m_i) l_i + rowsum P;
///  8.     O_i = diag(exp(m_old − m_i)) O_i + P V_j — unnormalised;
///  9.   at the end O_i = diag(l_i)⁻¹ O_i and lse_i = m_i + ln l_i are written, once.
///
/// Steps 5 to 8 are those of the form that the rows are held in.
enum FlashAttention2Forward<Rows: ForwardRows>: CPUAlgorithm {
    typealias Element = Rows.Element
    typealias Scalar = Rows.Scalar
    typealias Operands = ForwardOperands<Element>

    struct Scratch {
        let rows: Rows
        /// O_i: `[Br][Dv]`.
        let O: MutableBlock<Scalar>
        /// m_i and l_i: `[Br]` each.
        let statistics: RowStatistics<Scalar>
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (rows, Dv) = (Rows(c, &arena), c.shape.valueHeadSize)
        return Scratch(
            rows: rows, O: arena.block(c.tileRows, Dv, stride: c.paddedColumns(Dv)),
            statistics: RowStatistics(
                scale: c.scoreScale(), maximum: arena.take(c.tileRows, of: Scalar.self),
                sum: arena.take(c.tileRows, of: Scalar.self)))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        forEachQueryTile(c, memory) { b, h, i, scratch in queryTile(i, b, h, c, x, scratch) }
    }

    private static func queryTile(
        _ i: Int, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands, _ scratch: Scratch
    ) {
        let (plan, hkv) = (c.plan(b, x.keyLengths), h / c.shape.groupSize)
        let (rows, steps, statistics) = (plan.queries(i), scratch.rows.steps, scratch.statistics)
        let Oi = scratch.O.rows(0..<rows.count)
        scratch.rows.attend(
            x.query.block(b, h, rows), plan.keyTiles(forQueryTile: i), ofQueryTile: i, plan,
            { (x.key.block(b, hkv, $0), x.value.block(b, hkv, $0)) }, into: Oi, statistics)
        let lse = x.logSumExp.baseAddress.unsafelyUnwrapped
        statistics.finish(rows.count, logSumExp: lse + c.shape.row(b, h, rows.lowerBound))
        steps.divideRows(Oi, by: statistics.sum, to: x.output.block(b, h, rows))
    }
}
