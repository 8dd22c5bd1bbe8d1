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
/// Step 8 corrects O_i while the product is added to it, in the same multiply-add.
enum FlashAttention2Forward<Scalar: CPUScalar>: CPUAlgorithm {
    typealias Operands = ForwardOperands<Scalar>

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// S, then P: `[Br][Bc]`.
        let S: MutableBlock<Scalar>
        /// O_i: `[Br][Dv]`.
        let O: MutableBlock<Scalar>
        /// K_jᵀ in panels.
        let panels: UnsafeMutablePointer<Scalar>
        /// m_i and l_i: `[Br]` each.
        let statistics: RowStatistics<Scalar>
        /// rowmax S, then what exp subtracts; exp(m_old − m_i); rowsum P: `[Br]` each.
        let maximum, correction, sum: UnsafeMutablePointer<Scalar>
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        return Scratch(
            steps: TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self)),
            S: arena.block(Br, Bc, stride: c.paddedColumns(Bc)),
            O: arena.block(Br, Dv, stride: c.paddedColumns(Dv)),
            panels: arena.take(c.kernels.packedCount(rows: Bc, depth: D), of: Scalar.self),
            statistics: RowStatistics(
                maximum: arena.take(Br, of: Scalar.self), sum: arena.take(Br, of: Scalar.self)),
            maximum: arena.take(Br, of: Scalar.self), correction: arena.take(Br, of: Scalar.self),
            sum: arena.take(Br, of: Scalar.self))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let (H, Tr) = (c.shape.heads, c.queryTileCount)
        parallelTiles(
            c.shape.batch * H * Tr, threads: c.threads, scratch: { memory.worker($0) { Self.scratch(c, &$0) } }
        ) { task, scratch in
            // Last tiles first: under a causal mask they are the longest.
            let (b, h, i) = (task / (H * Tr), task / Tr % H, Tr - 1 - task % Tr)
            queryTile(i, b, h, c, x, scratch)
        }
    }

    private static func queryTile(
        _ i: Int, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands, _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        let rows = plan.queries(i)
        let (steps, statistics, Br) = (scratch.steps, scratch.statistics, rows.count)
        let Qi = x.query.block(b, h, rows)
        let Oi = scratch.O.rows(0..<Br)
        statistics.reset(Br)
        let visited = plan.keyTiles(forQueryTile: i)
        for j in visited {
            let tile = plan.tile(i, j)
            let Kj = x.key.block(b, h / c.shape.groupSize, tile.keys)
            let Vj = x.value.block(b, h / c.shape.groupSize, tile.keys)
            let S = scratch.S.corner(Br, tile.keys.count)
            steps.scores(Qi, steps.prepare(Kj, forRows: c.tileRows, panels: scratch.panels), into: S)
            steps.maskTile(S, tile, plan)
            steps.rowMaximum(S, into: scratch.maximum)
            statistics.update(Br, tileMaximum: scratch.maximum, correction: scratch.correction)
            steps.exponentiate(S, offset: scratch.maximum, sum: scratch.sum)
            statistics.add(Br, tileSum: scratch.sum)
            steps.accumulate(
                S, Vj, into: Oi, keep: j == visited.lowerBound ? .nothing : .scaled(scratch.correction),
                tile, plan)
        }
        // Rows without any key get 1/l = 0, which makes O = 0 whatever the scratch holds.
        let lse = x.logSumExp.baseAddress.unsafelyUnwrapped
        statistics.finish(
            Br, inverse: statistics.sum, logSumExp: lse + c.shape.row(b, h, rows.lowerBound))
        steps.scaleRows(Oi, by: statistics.sum)
        x.output.block(b, h, rows).copy(from: Oi.readOnly)
    }
}
