import AttentionCore

/// Rows of Q in panels, over pairs of BF16.
///
/// As `PanelRows`, with both products by the processor's dot product of pairs. Q_i and K_j are pairs along D
/// where they lie. P comes out of the exponential rounded and in pairs of keys, in place of the scores, and
/// V_j is paired likewise when it is loaded. Scores, O, m and l are Float; l sums what P was before it was
/// rounded.
struct PairPanelRows: ForwardRows {
    typealias Element = BFloat16

    private let pairs: PairSteps
    private let operands: PairedOperands
    /// Q_iᵀ in panels.
    private let panels: UnsafeMutablePointer<UInt32>
    /// Sᵀ, then Pᵀ: `[Bc][Br]`.
    private let St: MutableBlock<Float>
    private let row: RowSums<Float>
    /// Rows of a strip.
    private let stripRows: Int

    var steps: TileSteps<Float> { pairs.float }

    init(_ c: CPUContext, _ arena: inout Arena) {
        let (Br, Bc) = (c.tileRows, c.tileKeys)
        pairs = PairSteps(c, &arena)
        operands = PairedOperands(c, &arena)
        panels = arena.take(
            c.kernels.packedCount(rows: Br, depth: PairSteps.count(c.shape.headSize)), of: UInt32.self)
        St = arena.block(Bc, Br, stride: c.paddedColumns(Br))
        row = RowSums(c, &arena)
        stripRows = c.kernels.panelWidth / 2
    }

    func ready(_ Q: Block<BFloat16>) -> PairSteps.Panels {
        pairs.pack(pairs.load(Q, into: operands.Q), panels: panels)
    }

    func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ Q: PairSteps.Panels, _ K: Block<BFloat16>,
        _ V: Block<BFloat16>, next: Block<BFloat16>?, into O: MutableBlock<Float>,
        _ statistics: RowStatistics<Float>
    ) {
        let Kj = pairs.load(K, into: operands.K)
        if let next, tile.zone != .masked, V.rows % 2 == 0 {
            return visit(passing: Kj, V, Q, next: next, O, statistics)
        }
        let Vj = pairs.pair(V, into: operands.V)
        for part in plan.parts(of: tile, rows: stripRows) {
            visit(strip: part, of: tile, plan, Q, Kj, Vj, O, statistics)
        }
    }

    /// Steps 6 to 8 for a tile that hides nothing and passes by once. V is paired on its way into the
    /// registers, or with more rows by a copy: 8 rows at a time would pair it too often.
    private func visit(
        passing K: Block<UInt32>, _ V: Block<BFloat16>, _ Q: PairSteps.Panels, next: Block<BFloat16>,
        _ O: MutableBlock<Float>, _ statistics: RowStatistics<Float>
    ) {
        let (St, isCopied) = (self.St.corner(K.rows, O.rows), O.rows > 16)
        pairs.scores(passing: K, Q, into: St, next: Upcoming(isCopied ? next : V))
        let Pt = softmax(St, statistics)
        if isCopied {
            pairs.accumulate(
                transposed: Pt, pairs.pair(V, into: operands.V), count: V.rows, into: O,
                keep: .scaled(row.correction), isMasked: false
            ) { _ in 0..<V.rows }
        } else {
            pairs.accumulate(
                Pt, isTransposed: true, passing: V, into: O, keep: row.correction, next: Upcoming(next))
        }
    }

    /// Steps 6 to 8 for a tile or a strip of it.
    private func visit(
        strip: TilePlan.Tile, of tile: TilePlan.Tile, _ plan: TilePlan, _ Q: PairSteps.Panels,
        _ K: Block<UInt32>, _ V: PairSteps.Paired, _ O: MutableBlock<Float>,
        _ statistics: RowStatistics<Float>
    ) {
        let (keys, rows) = (0..<strip.keys.count, strip.rows(in: tile))
        let statistics = statistics.rows(from: rows.lowerBound)
        let St = self.St.rows(keys).columns(rows)
        pairs.scores(K.rows(keys), Q.rows(from: rows.lowerBound), into: St)
        steps.maskTransposedTile(St, strip, plan)
        let Pt = softmax(St, statistics)
        pairs.accumulate(
            transposed: Pt, V, count: keys.count, into: O.rows(rows), keep: .scaled(row.correction),
            isMasked: strip.zone == .masked
        ) { plan.visibleKeys(row: $0, of: strip) }
    }

    /// Step 7: Pᵀ in place of Sᵀ, as pairs.
    private func softmax(_ St: MutableBlock<Float>, _ statistics: RowStatistics<Float>) -> Block<UInt32> {
        steps.columnMaximum(St, into: row.maximum)
        statistics.update(St.columns, tileMaximum: row.maximum, correction: row.correction)
        let Pt = pairs.exponentiate(St, offset: row.maximum, sum: row.sum)
        statistics.add(St.columns, tileSum: row.sum)
        return Pt
    }
}
