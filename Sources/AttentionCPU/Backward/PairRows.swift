import AttentionCore

/// The backward pass over pairs of BF16.
///
/// As `WideRows`, with all five products by the processor's dot product of pairs. Scores, P, dP and dS are
/// Float and rounded for the products that take them: P in pairs of rows for dV, dS in pairs of rows for dK
/// and in pairs of keys, which is how rows of BF16 lie, for dQ. dQ, dK and dV are summed in Float.
struct PairRows: BackwardRows {
    typealias Element = BFloat16

    struct Keys {
        /// K_jᵀ and V_jᵀ, packed.
        let KT, VT: PairSteps.Panels
        /// K_j in pairs along its rows.
        let pairsOfK: Block<UInt32>
        let K: PairSteps.Paired
    }

    let O, dO: MutableBlock<Float>
    private let pairs: PairSteps
    /// Q_i, dO_i, K_j and V_j where they cannot be read as pairs: `[Br][⌈D / 2⌉]`, `[Br][⌈Dv / 2⌉]`,
    /// `[Bc][⌈D / 2⌉]`, `[Bc][⌈Dv / 2⌉]`.
    private let Q, gradient, K, V: MutableBlock<UInt32>
    /// Q_i, dO_i and K_j in pairs of rows: `[⌈Br / 2⌉][D]`, `[⌈Br / 2⌉][Dv]`, `[⌈Bc / 2⌉][D]`.
    private let pairedQ, pairedGradient, pairedK: MutableBlock<UInt32>
    /// S, then P, and dP, then dS: `[Br][Bc]` each.
    private let S, dP: MutableBlock<Float>
    /// P or dS in pairs of rows, `[⌈Br / 2⌉][Bc]`, and dS rounded, `[Br][Bc]`.
    private let pairsOfRows: MutableBlock<UInt32>
    private let dS: MutableBlock<BFloat16>
    /// K_jᵀ and V_jᵀ in panels.
    private let keyPanels, valuePanels: UnsafeMutablePointer<UInt32>
    private let takesDots: Bool

    var steps: TileSteps<Float> { pairs.float }

    init(_ c: CPUContext, _ arena: inout Arena) {
        let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        let (pairsOfD, pairsOfDv) = (PairSteps.count(D), PairSteps.count(Dv))
        let scores = c.paddedColumns(Bc)
        pairs = PairSteps(c, &arena)
        O = c.loaded(Br, Dv, &arena)
        dO = c.loaded(Br, Dv, &arena)
        Q = arena.block(Br, pairsOfD, stride: pairsOfD)
        gradient = arena.block(Br, pairsOfDv, stride: pairsOfDv)
        K = arena.block(Bc, pairsOfD, stride: pairsOfD)
        V = arena.block(Bc, pairsOfDv, stride: pairsOfDv)
        pairedQ = arena.block(PairSteps.count(Br), D, stride: c.paddedColumns(D))
        pairedGradient = arena.block(PairSteps.count(Br), Dv, stride: c.paddedColumns(Dv))
        pairedK = arena.block(PairSteps.count(Bc), D, stride: c.paddedColumns(D))
        S = arena.block(Br, Bc, stride: scores)
        dP = arena.block(Br, Bc, stride: scores)
        pairsOfRows = arena.block(PairSteps.count(Br), Bc, stride: scores)
        dS = arena.block(Br, Bc, stride: scores)
        keyPanels = arena.take(c.kernels.packedCount(rows: Bc, depth: pairsOfD), of: UInt32.self)
        valuePanels = arena.take(c.kernels.packedCount(rows: Bc, depth: pairsOfDv), of: UInt32.self)
        takesDots = c.takesDots
    }

    func ready(_ K: Block<BFloat16>, _ V: Block<BFloat16>) -> Keys {
        let pairsOfK = pairs.load(K, into: self.K)
        return Keys(
            KT: pairs.pack(pairsOfK, panels: keyPanels),
            VT: pairs.pack(pairs.load(V, into: self.V), panels: valuePanels), pairsOfK: pairsOfK,
            K: pairs.pair(K, into: pairedK))
    }

    func visit(
        _ part: TilePlan.Tile, _ plan: TilePlan, _ K: Keys, _ Q: Block<BFloat16>, _ dO: Block<BFloat16>,
        _ row: RowPreparation<Float>, into dK: MutableBlock<Float>, _ dV: MutableBlock<Float>
    ) -> Block<UInt32> {
        let S = self.S.corner(part.queries.count, part.keys.count)
        let dP = self.dP.corner(part.queries.count, part.keys.count)
        let (Qi, dOi) = (pairs.pair(Q, into: pairedQ), pairs.pair(dO, into: pairedGradient))
        func add(_ P: Block<UInt32>, _ rows: PairSteps.Paired, to sum: MutableBlock<Float>) {
            pairs.accumulate(
                transposed: P, rows, count: part.queries.count, into: sum, keep: .everything,
                isMasked: part.zone == .masked
            ) { plan.visibleQueries(key: $0, of: part) }
        }
        let pairsOfQ = pairs.load(Q, into: self.Q)
        if takesDots {
            // The forward pass's scores to the last bit.
            pairs.scores(pairsOfQ, passing: K.pairsOfK, into: S, next: Upcoming(K.pairsOfK))
        } else {
            pairs.scores(pairsOfQ, K.KT, into: S)
        }
        let P = pairs.probabilities(S, row.lse, part, plan, into: pairsOfRows)
        add(P, dOi, to: dV)
        pairs.multiply(pairs.load(dO, into: gradient), transposed: K.VT, into: dP)
        let dS = pairs.scoreGradient(
            S, dP, scaledDelta: row.scaledDelta, part, plan, into: pairsOfRows, self.dS)
        add(dS.columns, Qi, to: dK)
        return dS.rows
    }

    func accumulate(
        _ dS: Block<UInt32>, _ K: Keys, into dQ: MutableBlock<Float>, _ part: TilePlan.Tile, _ plan: TilePlan
    ) {
        pairs.accumulate(
            dS, K.K, count: part.keys.count, into: dQ, keep: .everything, isMasked: part.zone == .masked
        ) { plan.visibleKeys(row: $0, of: part) }
    }
}
