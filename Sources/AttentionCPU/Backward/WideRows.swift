import AttentionCore

/// The backward pass over operands in the type that is summed in, widened where they hold another.
struct WideRows<Element: CPUElement>: BackwardRows {
    typealias Scalar = Element.Accumulator

    struct Keys {
        let K: Block<Scalar>
        /// K_jᵀ and V_jᵀ, packed; K_j as it lies where the forward pass takes it so.
        let KT, VT: BlockGEMM<Scalar>.Transposed
    }

    let steps: TileSteps<Scalar>
    let O, dO: MutableBlock<Scalar>
    /// Tiles of the operands where they have to be widened: `[Br][D]`, `[Bc][D]`, `[Bc][Dv]`.
    private let Q, K, V: MutableBlock<Scalar>
    /// S, then P, and dP, then dS: `[Br][Bc]` each.
    private let S, dP: MutableBlock<Scalar>
    /// K_jᵀ and V_jᵀ in panels.
    private let keyPanels, valuePanels: UnsafeMutablePointer<Scalar>
    private let takesDots: Bool

    init(_ c: CPUContext, _ arena: inout Arena) {
        let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        steps = TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self))
        Q = c.loaded(Br, D, &arena)
        O = c.loaded(Br, Dv, &arena)
        dO = c.loaded(Br, Dv, &arena)
        K = c.loaded(Bc, D, &arena)
        V = c.loaded(Bc, Dv, &arena)
        S = arena.block(Br, Bc, stride: c.paddedColumns(Bc))
        dP = arena.block(Br, Bc, stride: c.paddedColumns(Bc))
        keyPanels = arena.take(c.kernels.packedCount(rows: Bc, depth: D), of: Scalar.self)
        valuePanels = arena.take(c.kernels.packedCount(rows: Bc, depth: Dv), of: Scalar.self)
        takesDots = c.takesDots
    }

    func ready(_ K: Block<Element>, _ V: Block<Element>) -> Keys {
        let Kj = steps.load(K, into: self.K)
        let Vj = steps.load(V, into: self.V)
        return Keys(
            K: Kj, KT: takesDots ? .init(inPlace: Kj) : steps.pack(Kj, panels: keyPanels),
            VT: steps.pack(Vj, panels: valuePanels))
    }

    func visit(
        _ part: TilePlan.Tile, _ plan: TilePlan, _ K: Keys, _ Q: Block<Element>, _ dO: Block<Element>,
        _ row: RowPreparation<Scalar>, into dK: MutableBlock<Scalar>, _ dV: MutableBlock<Scalar>
    ) -> MutableBlock<Scalar> {
        let S = self.S.corner(part.queries.count, part.keys.count)
        let dP = self.dP.corner(part.queries.count, part.keys.count)
        let Qi = steps.load(Q, into: self.Q)
        let dOi = steps.load(dO, into: self.dO)
        steps.scores(Qi, K.KT, into: S)
        steps.probabilities(S, row.lse)
        steps.clearHidden(S, part, plan)
        steps.accumulateTransposed(S, dOi, into: dV, part, plan)
        steps.probabilityGradient(dOi, K.VT, into: dP)
        steps.scoreGradient(S, dP, scaledDelta: row.scaledDelta)
        steps.clearHidden(dP, part, plan)
        steps.accumulateTransposed(dP, Qi, into: dK, part, plan)
        return dP
    }

    func accumulate(
        _ dS: MutableBlock<Scalar>, _ K: Keys, into dQ: MutableBlock<Scalar>, _ part: TilePlan.Tile,
        _ plan: TilePlan
    ) {
        steps.accumulate(dS, K.K.rows(0..<part.keys.count), into: dQ, keep: .everything, part, plan)
    }
}
