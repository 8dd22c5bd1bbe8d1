import AttentionCore

/// Few rows of Q as they lie, over pairs of BF16.
///
/// As `DotRows`, with both products by the processor's dot product of pairs. Q_i and K_j are pairs along D
/// where they lie; P is rounded, which makes pairs of keys of it, and rows of V_j are paired on their way
/// into the registers. Scores, O, m and l are Float; l sums what P was before it was rounded.
struct PairDotRows: ForwardRows {
    typealias Element = BFloat16

    private let pairs: PairSteps
    /// V_j is paired here only where it cannot be on its way.
    private let operands: PairedOperands
    /// S, then what P was before it was rounded: `[Br][Bc]`.
    private let S: MutableBlock<Float>
    /// P: `[Br][Bc]`.
    private let P: MutableBlock<BFloat16>
    private let row: RowSums<Float>

    var steps: TileSteps<Float> { pairs.float }

    init(_ c: CPUContext, _ arena: inout Arena) {
        let (Br, Bc) = (c.tileRows, c.tileKeys)
        pairs = PairSteps(c, &arena)
        operands = PairedOperands(c, &arena)
        S = arena.block(Br, Bc, stride: c.paddedColumns(Bc))
        P = arena.block(Br, Bc, stride: c.paddedColumns(Bc))
        row = RowSums(c, &arena)
    }

    func ready(_ Q: Block<BFloat16>) -> Block<UInt32> { pairs.load(Q, into: operands.Q) }

    func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ Q: Block<UInt32>, _ K: Block<BFloat16>,
        _ V: Block<BFloat16>, next: Block<BFloat16>?, into O: MutableBlock<Float>,
        _ statistics: RowStatistics<Float>
    ) {
        let S = self.S.corner(Q.rows, K.rows)
        pairs.scores(Q, passing: pairs.load(K, into: operands.K), into: S, next: Upcoming(V))
        steps.maskTile(S, tile, plan)
        steps.rowMaximum(S, into: row.maximum)
        statistics.update(Q.rows, tileMaximum: row.maximum, correction: row.correction)
        steps.exponentiate(S, offset: row.maximum, sum: row.sum)
        statistics.add(Q.rows, tileSum: row.sum)
        let P = pairs.round(S, into: self.P)
        if tile.zone == .masked || V.rows % 2 == 1 {
            pairs.accumulate(
                P, pairs.pair(V, into: operands.V), count: V.rows, into: O, keep: .scaled(row.correction),
                isMasked: tile.zone == .masked
            ) { plan.visibleKeys(row: $0, of: tile) }
        } else {
            pairs.accumulate(
                P, passing: V, into: O, keep: row.correction, next: Upcoming(next ?? K))
        }
    }
}
