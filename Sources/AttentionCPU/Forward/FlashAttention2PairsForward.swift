import AttentionCore

/// FlashAttention-2, forward, over pairs of BF16.
///
/// The steps of `FlashAttention2Forward`, whose comment has them and their source, with both products by the
/// processor's dot product of pairs. Q_i and K_j are pairs along D where they lie. P comes out of the
/// exponential rounded and in pairs of keys, in place of the scores, and V_j is paired likewise when it is
/// loaded. Scores, O, m and l are Float; l sums what P was before it was rounded.
enum FlashAttention2PairsForward: CPUAlgorithm {
    typealias Element = BFloat16
    typealias Operands = ForwardOperands<BFloat16>

    struct Scratch {
        let steps: PairSteps
        /// Q_i and K_j where they cannot be read as pairs: `[Br][⌈D / 2⌉]`, `[Bc][⌈D / 2⌉]`.
        let Q, K: MutableBlock<UInt32>
        /// V_j in pairs of keys: `[⌈Bc / 2⌉][Dv]`.
        let V: MutableBlock<UInt32>
        /// Q_iᵀ in panels.
        let panels: UnsafeMutablePointer<UInt32>
        /// Sᵀ, then Pᵀ: `[Bc][Br]`.
        let St: MutableBlock<Float>
        /// O_i: `[Br][Dv]`.
        let O: MutableBlock<Float>
        /// m_i and l_i: `[Br]` each.
        let statistics: RowStatistics<Float>
        /// rowmax S, then what exp subtracts; exp(m_old − m_i); rowsum P: `[Br]` each.
        let maximum, correction, sum: UnsafeMutablePointer<Float>

        init(_ c: CPUContext, _ steps: PairSteps, _ arena: inout Arena) {
            let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
            let (padded, pairs) = (c.paddedColumns(Br), PairSteps.count(D))
            self.steps = steps
            Q = arena.block(Br, pairs, stride: pairs)
            K = arena.block(Bc, pairs, stride: pairs)
            V = arena.block(PairSteps.count(Bc), Dv, stride: c.paddedColumns(Dv))
            panels = arena.take(c.kernels.packedCount(rows: Br, depth: pairs), of: UInt32.self)
            St = arena.block(Bc, Br, stride: padded)
            O = arena.block(Br, Dv, stride: c.paddedColumns(Dv))
            statistics = RowStatistics(
                scale: c.scoreScale(), maximum: arena.take(padded, of: Float.self),
                sum: arena.take(padded, of: Float.self))
            maximum = arena.take(padded, of: Float.self)
            correction = arena.take(padded, of: Float.self)
            sum = arena.take(padded, of: Float.self)
        }
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        guard let kernels = c.pairs else { preconditionFailure("planned without kernels over pairs") }
        let steps = PairSteps(c, kernels, &arena)
        return Scratch(c, steps, &arena)
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        forEachQueryTile(c, memory) { b, h, i, scratch in queryTile(i, b, h, c, x, scratch) }
    }

    private static func queryTile(
        _ i: Int, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands, _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        let rows = plan.queries(i)
        let (steps, statistics, hkv) = (scratch.steps, scratch.statistics, h / c.shape.groupSize)
        let Qi = steps.pack(steps.load(x.query.block(b, h, rows), into: scratch.Q), panels: scratch.panels)
        let Oi = scratch.O.rows(0..<rows.count)
        Oi.fill(0)
        statistics.reset(rows.count)
        for j in plan.keyTiles(forQueryTile: i) {
            let tile = plan.tile(i, j)
            let Kj = steps.load(x.key.block(b, hkv, tile.keys), into: scratch.K)
            let Vj = steps.pair(x.value.block(b, hkv, tile.keys), into: scratch.V)
            for part in plan.parts(of: tile, rows: c.kernels.panelWidth / 2) {
                visit(part, plan, rows.lowerBound, Qi, Kj, Vj, Oi, scratch)
            }
        }
        let lse = x.logSumExp.baseAddress.unsafelyUnwrapped
        statistics.finish(rows.count, logSumExp: lse + c.shape.row(b, h, rows.lowerBound))
        steps.float.divideRows(Oi, by: statistics.sum, to: x.output.block(b, h, rows))
    }

    /// Steps 6 to 8 for a tile or a strip of it.
    private static func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ firstRow: Int, _ Qi: PairSteps.Panels,
        _ Kj: Block<UInt32>, _ Vj: PairSteps.Paired, _ Oi: MutableBlock<Float>, _ scratch: Scratch
    ) {
        let steps = scratch.steps
        let keys = 0..<tile.keys.count
        let rows = tile.queries.lowerBound - firstRow..<tile.queries.upperBound - firstRow
        let statistics = scratch.statistics.rows(from: rows.lowerBound)
        let St = scratch.St.rows(keys).columns(rows)
        steps.scores(Kj.rows(keys), Qi.rows(from: rows.lowerBound), into: St)
        steps.float.maskTransposedTile(St, tile, plan)
        steps.float.columnMaximum(St, into: scratch.maximum)
        statistics.update(rows.count, tileMaximum: scratch.maximum, correction: scratch.correction)
        let Pt = steps.exponentiate(St, offset: scratch.maximum, sum: scratch.sum)
        statistics.add(rows.count, tileSum: scratch.sum)
        steps.accumulate(
            transposed: Pt, Vj, count: keys.count, into: Oi.rows(rows), keep: .scaled(scratch.correction),
            isMasked: tile.zone == .masked
        ) { plan.visibleKeys(row: $0, of: tile) }
    }
}
