import AttentionCore

/// Rows of Q in panels, a query a lane.
///
/// The tile is held transposed: Sᵀ = K_j Q_iᵀ. Then it is Q_i, which stays, that is packed for the
/// multiplication, and K_j and V_j, which pass by, are read where they lie; and each lane of a vector has a
/// query of its own, so that maxima and sums are never taken across a vector. Step 8 corrects O_i in the
/// multiply-add that adds the product to it. A masked tile goes through steps 6 to 8 in strips of rows, so
/// that little is computed above the diagonal.
struct PanelRows<Element: CPUElement>: ForwardRows {
    typealias Scalar = Element.Accumulator

    let steps: TileSteps<Scalar>
    /// Q_i, K_j and V_j where they have to be widened: `[Br][D]`, `[Bc][D]`, `[Bc][Dv]`.
    private let Q, K, V: MutableBlock<Scalar>
    /// Q_iᵀ in panels.
    private let panels: UnsafeMutablePointer<Scalar>
    /// Sᵀ, then Pᵀ: `[Bc][Br]`.
    private let St: MutableBlock<Scalar>
    private let row: RowSums<Scalar>
    /// Rows of a strip.
    private let stripRows: Int

    init(_ c: CPUContext, _ arena: inout Arena) {
        let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        steps = TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self))
        Q = c.loaded(Br, D, &arena)
        K = c.loaded(Bc, D, &arena)
        V = c.loaded(Bc, Dv, &arena)
        panels = arena.take(c.kernels.packedCount(rows: Br, depth: D), of: Scalar.self)
        St = arena.block(Bc, Br, stride: c.paddedColumns(Br))
        row = RowSums(c, &arena)
        stripRows = c.kernels.panelWidth / 2
    }

    func ready(_ Q: Block<Element>) -> BlockGEMM<Scalar>.Transposed {
        steps.pack(steps.load(Q, into: self.Q), panels: panels)
    }

    func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ Q: BlockGEMM<Scalar>.Transposed, _ K: Block<Element>,
        _ V: Block<Element>, next: Block<Element>?, into O: MutableBlock<Scalar>,
        _ statistics: RowStatistics<Scalar>
    ) {
        if let next, let panels = Q.panels, tile.zone != .masked {
            return visit(passing: K, V, panels, next: next, O, statistics)
        }
        let Kj = steps.load(K, into: self.K)
        let Vj = steps.load(V, into: self.V)
        for part in plan.parts(of: tile, rows: stripRows) {
            visit(strip: part, of: tile, plan, Q, Kj, Vj, O, statistics)
        }
    }

    /// Steps 6 to 8 for a tile that hides nothing and passes by once.
    private func visit(
        passing K: Block<Element>, _ V: Block<Element>, _ panels: UnsafePointer<Scalar>, next: Block<Element>,
        _ O: MutableBlock<Scalar>, _ statistics: RowStatistics<Scalar>
    ) {
        let St = self.St.corner(K.rows, O.rows)
        steps.scores(passing: K, panels, into: St, next: Upcoming(V))
        softmax(St, statistics)
        steps.accumulate(
            St, isTransposed: true, passing: V, into: O, keep: row.correction, next: Upcoming(next))
    }

    /// Steps 6 to 8 for a tile or a strip of it.
    private func visit(
        strip: TilePlan.Tile, of tile: TilePlan.Tile, _ plan: TilePlan, _ Q: BlockGEMM<Scalar>.Transposed,
        _ K: Block<Scalar>, _ V: Block<Scalar>, _ O: MutableBlock<Scalar>,
        _ statistics: RowStatistics<Scalar>
    ) {
        let (keys, rows) = (0..<strip.keys.count, strip.rows(in: tile))
        let statistics = statistics.rows(from: rows.lowerBound)
        let St = self.St.rows(keys).columns(rows)
        steps.scores(K.rows(keys), Q.rows(rows), into: St)
        steps.maskTransposedTile(St, strip, plan)
        softmax(St, statistics)
        steps.accumulate(
            transposed: St, V.rows(keys), into: O.rows(rows), keep: row.correction, strip, plan)
    }

    /// Step 7: Sᵀ becomes Pᵀ.
    private func softmax(_ St: MutableBlock<Scalar>, _ statistics: RowStatistics<Scalar>) {
        steps.columnMaximum(St, into: row.maximum)
        statistics.update(St.columns, tileMaximum: row.maximum, correction: row.correction)
        steps.exponentiateColumns(St, offset: row.maximum, sum: row.sum)
        statistics.add(St.columns, tileSum: row.sum)
    }
}
