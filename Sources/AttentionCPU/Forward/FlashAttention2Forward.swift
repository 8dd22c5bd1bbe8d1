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
/// The tile is held transposed: Sᵀ = K_j Q_iᵀ. Then it is Q_i, which stays, that is packed for the
/// multiplication, and K_j and V_j, which pass by, are read where they lie; and each lane of a vector has a
/// query of its own, so that maxima and sums are never taken across a vector. Step 8 corrects O_i in the
/// multiply-add that adds the product to it. A masked tile goes through steps 6 to 8 in strips of rows, so
/// that little is computed above the diagonal.
enum FlashAttention2Forward<Element: CPUElement>: CPUAlgorithm {
    typealias Scalar = Element.Accumulator
    typealias Operands = ForwardOperands<Element>

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// Q_i, K_j and V_j where they have to be widened: `[Br][D]`, `[Bc][D]`, `[Bc][Dv]`.
        let Q, K, V: MutableBlock<Scalar>
        /// Q_iᵀ in panels.
        let panels: UnsafeMutablePointer<Scalar>
        /// Sᵀ, then Pᵀ: `[Bc][Br]`.
        let St: MutableBlock<Scalar>
        /// O_i: `[Br][Dv]`.
        let O: MutableBlock<Scalar>
        /// m_i and l_i: `[Br]` each.
        let statistics: RowStatistics<Scalar>
        /// rowmax S, then what exp subtracts; exp(m_old − m_i); rowsum P: `[Br]` each.
        let maximum, correction, sum: UnsafeMutablePointer<Scalar>
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        let padded = c.paddedColumns(Br)
        return Scratch(
            steps: TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self)),
            Q: c.loaded(Br, D, &arena), K: c.loaded(Bc, D, &arena), V: c.loaded(Bc, Dv, &arena),
            panels: arena.take(c.kernels.packedCount(rows: Br, depth: D), of: Scalar.self),
            St: arena.block(Bc, Br, stride: padded), O: arena.block(Br, Dv, stride: c.paddedColumns(Dv)),
            statistics: RowStatistics(
                scale: c.scoreScale(), maximum: arena.take(padded, of: Scalar.self), sum: arena.take(padded, of: Scalar.self)),
            maximum: arena.take(padded, of: Scalar.self), correction: arena.take(padded, of: Scalar.self),
            sum: arena.take(padded, of: Scalar.self))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        forEachQueryTile(c, memory) { b, h, i, scratch in queryTile(i, b, h, c, x, scratch) }
    }

    private static func queryTile(
        _ i: Int, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands, _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        let rows = plan.queries(i)
        let (steps, statistics) = (scratch.steps, scratch.statistics)
        let Qi = steps.pack(steps.load(x.query.block(b, h, rows), into: scratch.Q), panels: scratch.panels)
        let Oi = scratch.O.rows(0..<rows.count)
        Oi.fill(0)
        statistics.reset(rows.count)
        for j in plan.keyTiles(forQueryTile: i) {
            let tile = plan.tile(i, j)
            let Kj = steps.load(x.key.block(b, h / c.shape.groupSize, tile.keys), into: scratch.K)
            let Vj = steps.load(x.value.block(b, h / c.shape.groupSize, tile.keys), into: scratch.V)
            for part in plan.parts(of: tile, rows: c.kernels.panelWidth / 2) {
                visit(part, plan, rows.lowerBound, Qi, Kj, Vj, Oi, scratch)
            }
        }
        let lse = x.logSumExp.baseAddress.unsafelyUnwrapped
        statistics.finish(rows.count, logSumExp: lse + c.shape.row(b, h, rows.lowerBound))
        steps.divideRows(Oi, by: statistics.sum, to: x.output.block(b, h, rows))
    }

    /// Steps 6 to 8 for a tile or a strip of it.
    private static func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ firstRow: Int, _ Qi: BlockGEMM<Scalar>.Transposed,
        _ Kj: Block<Scalar>, _ Vj: Block<Scalar>, _ Oi: MutableBlock<Scalar>, _ scratch: Scratch
    ) {
        let steps = scratch.steps
        let keys = 0..<tile.keys.count
        let rows = tile.queries.lowerBound - firstRow..<tile.queries.upperBound - firstRow
        let statistics = scratch.statistics.rows(from: rows.lowerBound)
        let St = scratch.St.rows(keys).columns(rows)
        steps.scores(Kj.rows(keys), Qi.rows(rows), into: St)
        steps.maskTransposedTile(St, tile, plan)
        steps.columnMaximum(St, into: scratch.maximum)
        statistics.update(rows.count, tileMaximum: scratch.maximum, correction: scratch.correction)
        steps.exponentiateColumns(St, offset: scratch.maximum, sum: scratch.sum)
        statistics.add(rows.count, tileSum: scratch.sum)
        steps.accumulate(
            transposed: St, Vj.rows(keys), into: Oi.rows(rows), keep: scratch.correction, tile, plan)
    }
}
