import AttentionCore

/// Few rows of Q as they lie: S is dot products with rows of K, a query a row.
///
/// The work is the reading of K and V. Both pass by where they lie, each tile once, and are widened, where
/// they have to be, on their way into the registers: a widened copy costs more than the products with four
/// rows.
struct DotRows<Element: CPUElement>: ForwardRows {
    typealias Scalar = Element.Accumulator

    let steps: TileSteps<Scalar>
    /// Q_i and, of a masked tile, V_j where they have to be widened: `[Br][D]`, `[Bc][Dv]`.
    private let Q, V: MutableBlock<Scalar>
    /// S, then P: `[Br][Bc]`.
    private let S: MutableBlock<Scalar>
    private let row: RowSums<Scalar>

    init(_ c: CPUContext, _ arena: inout Arena) {
        let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        steps = TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self))
        Q = c.loaded(Br, D, &arena)
        V = c.loaded(Bc, Dv, &arena)
        S = arena.block(Br, Bc, stride: c.paddedColumns(Bc))
        row = RowSums(c, &arena)
    }

    func ready(_ Q: Block<Element>) -> Block<Scalar> { steps.load(Q, into: self.Q) }

    func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ Q: Block<Scalar>, _ K: Block<Element>, _ V: Block<Element>,
        next: Block<Element>?, into O: MutableBlock<Scalar>, _ statistics: RowStatistics<Scalar>
    ) {
        let S = self.S.corner(Q.rows, K.rows)
        steps.scores(Q, passing: K, into: S, next: Upcoming(V))
        steps.maskTile(S, tile, plan)
        steps.rowMaximum(S, into: row.maximum)
        statistics.update(Q.rows, tileMaximum: row.maximum, correction: row.correction)
        steps.exponentiate(S, offset: row.maximum, sum: row.sum)
        statistics.add(Q.rows, tileSum: row.sum)
        if tile.zone == .masked {
            let Vj = steps.load(V, into: self.V)
            steps.accumulate(S, Vj, into: O, keep: .scaled(row.correction), tile, plan)
        } else {
            accumulate(S, V, into: O, next: Upcoming(next ?? K))
        }
    }

    /// O = diag(exp(m_old − m)) O + P V, by strips of V that half of the nearest cache holds: a row of V then
    /// comes there once, in the order of addresses, however many sweeps of the product its columns take.
    private func accumulate(
        _ P: MutableBlock<Scalar>, _ V: Block<Element>, into O: MutableBlock<Scalar>, next: Upcoming
    ) {
        let rows = max(16384 / (V.columns * MemoryLayout<Element>.stride), 1)
        for first in stride(from: 0, to: V.rows, by: rows) {
            let strip = first..<min(first + rows, V.rows)
            steps.accumulate(
                P.columns(strip), passing: V.rows(strip), into: O, keep: row.correction,
                next: next.skipping(first))
            // O has been corrected.
            row.correction.update(repeating: 1, count: O.rows)
        }
    }
}
