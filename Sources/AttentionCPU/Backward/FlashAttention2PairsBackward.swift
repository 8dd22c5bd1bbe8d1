import AttentionCore
import Synchronization

/// FlashAttention-2, backward, over pairs of BF16.
///
/// The steps of `FlashAttention2Backward`, whose comment has them and their source, with all five products by
/// the processor's dot product of pairs. Scores, P, dP and dS are Float and rounded for the products that
/// take them: P in pairs of rows for dV, dS in pairs of rows for dK and in pairs of keys, which is how rows
/// of BF16 lie, for dQ. dQ, dK and dV are summed in Float.
enum FlashAttention2PairsBackward: CPUAlgorithm {
    typealias Element = BFloat16
    typealias Operands = BackwardOperands<BFloat16>

    struct Shared {
        let rows: RowPreparation<Float>
        /// The turns taken at each dQ_i: `[B, H, Tr]`.
        let turns: UnsafeMutablePointer<Atomic<Int>>
        /// dQ until it is rounded: `[B·H·Nq][D]`.
        let dQ: MutableBlock<Float>

        /// Some rows of the dQ of a head.
        func queryGradient(_ b: Int, _ h: Int, _ rows: Range<Int>, _ c: CPUContext) -> MutableBlock<Float> {
            let first = c.shape.row(b, h, rows.lowerBound)
            return dQ.rows(first..<first + rows.count)
        }
    }

    struct Scratch {
        let steps: PairSteps
        /// O and dO widened for delta: `[Br][Dv]`.
        let O, dO: MutableBlock<Float>
        /// Q_i, dO_i, K_j and V_j where they cannot be read as pairs: `[Br][⌈D / 2⌉]`, `[Br][⌈Dv / 2⌉]`,
        /// `[Bc][⌈D / 2⌉]`, `[Bc][⌈Dv / 2⌉]`.
        let Q, gradient, K, V: MutableBlock<UInt32>
        /// Q_i, dO_i and K_j in pairs of rows: `[⌈Br / 2⌉][D]`, `[⌈Br / 2⌉][Dv]`, `[⌈Bc / 2⌉][D]`.
        let pairedQ, pairedGradient, pairedK: MutableBlock<UInt32>
        /// S, then P, and dP, then dS: `[Br][Bc]` each.
        let S, dP: MutableBlock<Float>
        /// P or dS in pairs of rows, `[⌈Br / 2⌉][Bc]`, and dS rounded, `[Br][Bc]`.
        let pairs: MutableBlock<UInt32>
        let dS: MutableBlock<BFloat16>
        /// dK_j `[Bc][D]` and dV_j `[Bc][Dv]`.
        let dK, dV: MutableBlock<Float>
        /// K_jᵀ and V_jᵀ in panels.
        let keyPanels, valuePanels: UnsafeMutablePointer<UInt32>

        init(_ c: CPUContext, _ steps: PairSteps, _ arena: inout Arena) {
            let (Br, Bc, D, Dv) = (c.tileRows, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
            let (pairsOfD, pairsOfDv) = (PairSteps.count(D), PairSteps.count(Dv))
            let scores = c.paddedColumns(Bc)
            self.steps = steps
            O = arena.block(Br, Dv, stride: c.paddedColumns(Dv))
            dO = arena.block(Br, Dv, stride: c.paddedColumns(Dv))
            Q = arena.block(Br, pairsOfD, stride: pairsOfD)
            gradient = arena.block(Br, pairsOfDv, stride: pairsOfDv)
            K = arena.block(Bc, pairsOfD, stride: pairsOfD)
            V = arena.block(Bc, pairsOfDv, stride: pairsOfDv)
            pairedQ = arena.block(PairSteps.count(Br), D, stride: c.paddedColumns(D))
            pairedGradient = arena.block(PairSteps.count(Br), Dv, stride: c.paddedColumns(Dv))
            pairedK = arena.block(PairSteps.count(Bc), D, stride: c.paddedColumns(D))
            S = arena.block(Br, Bc, stride: scores)
            dP = arena.block(Br, Bc, stride: scores)
            pairs = arena.block(PairSteps.count(Br), Bc, stride: scores)
            dS = arena.block(Br, Bc, stride: scores)
            dK = arena.block(Bc, D, stride: c.paddedColumns(D))
            dV = arena.block(Bc, Dv, stride: c.paddedColumns(Dv))
            keyPanels = arena.take(c.kernels.packedCount(rows: Bc, depth: pairsOfD), of: UInt32.self)
            valuePanels = arena.take(c.kernels.packedCount(rows: Bc, depth: pairsOfDv), of: UInt32.self)
        }
    }

    /// What stays for all visits of a key tile.
    private struct KeyTile {
        /// K_jᵀ and V_jᵀ, packed.
        let KT, VT: PairSteps.Panels
        /// K_j in pairs along its rows.
        let pairsOfK: Block<UInt32>
        let K: PairSteps.Paired
        let dK, dV: MutableBlock<Float>
    }

    static func shared(_ c: CPUContext, _ arena: inout Arena) -> Shared {
        let D = c.shape.headSize
        return Shared(
            rows: RowPreparation(c, &arena),
            turns: arena.take(c.shape.batch * c.shape.heads * c.queryTileCount, of: Atomic<Int>.self),
            dQ: arena.block(c.shape.rowCount, D, stride: c.paddedColumns(D)))
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let steps = PairSteps(c, &arena)
        return Scratch(c, steps, &arena)
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let shared = memory.shared { Self.shared(c, &$0) }
        let turns = Turns(shared.turns, count: c.shape.batch * c.shape.heads * c.queryTileCount)
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let rows = c.plan(b, x.keyLengths).queries(i)
            shared.rows.prepare(rows, b, h, c.shape, x, scratch.steps.float, dO: scratch.dO, O: scratch.O)
            shared.queryGradient(b, h, rows, c).fill(0)
        }
        forEachKeyTile(c, memory) { b, hkv, j, scratch in keyTile(j, b, hkv, c, x, shared, turns, scratch) }
        forEachQueryTile(c, memory) { b, h, i, scratch in
            let rows = c.plan(b, x.keyLengths).queries(i)
            scratch.steps.float.store(
                shared.queryGradient(b, h, rows, c), to: x.queryGradient.block(b, h, rows))
        }
    }

    private static func keyTile(
        _ j: Int, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands, _ shared: Shared, _ turns: Turns,
        _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        guard j < plan.keyTileCount else { return }
        let (steps, keys) = (scratch.steps, plan.keys(j))
        let (Kj, Vj) = (x.key.block(b, hkv, keys), x.value.block(b, hkv, keys))
        let pairsOfK = steps.load(Kj, into: scratch.K)
        let tile = KeyTile(
            KT: steps.pack(pairsOfK, panels: scratch.keyPanels),
            VT: steps.pack(steps.load(Vj, into: scratch.V), panels: scratch.valuePanels), pairsOfK: pairsOfK,
            K: steps.pair(Kj, into: scratch.pairedK), dK: scratch.dK.rows(0..<keys.count),
            dV: scratch.dV.rows(0..<keys.count))
        tile.dK.fill(0)
        tile.dV.fill(0)
        for h in hkv * c.shape.groupSize..<(hkv + 1) * c.shape.groupSize {
            for i in plan.queryTiles(forKeyTile: j) {
                let dQ = (b * c.shape.heads + h) * c.queryTileCount + i
                let turn = j - plan.keyTiles(forQueryTile: i).lowerBound
                for part in plan.parts(of: plan.tile(i, j), rows: 8 * c.kernels.registerRows) {
                    let dS = visit(part, plan, b, h, c, x, shared.rows, tile, scratch)
                    turns.wait(tile: dQ, for: turn)
                    steps.accumulate(
                        dS, tile.K, count: part.keys.count,
                        into: shared.queryGradient(b, h, part.queries, c), keep: .everything,
                        isMasked: part.zone == .masked
                    ) { plan.visibleKeys(row: $0, of: part) }
                }
                turns.wait(tile: dQ, for: turn)
                turns.take(tile: dQ)
            }
        }
        steps.float.store(tile.dK, to: x.keyGradient.block(b, hkv, keys))
        steps.float.store(tile.dV, to: x.valueGradient.block(b, hkv, keys))
    }

    /// Steps 4 to 6 and 8 for a tile or a strip of it; leaves dS for step 7.
    private static func visit(
        _ part: TilePlan.Tile, _ plan: TilePlan, _ b: Int, _ h: Int, _ c: CPUContext, _ x: Operands,
        _ rows: RowPreparation<Float>, _ tile: KeyTile, _ scratch: Scratch
    ) -> Block<UInt32> {
        let (steps, Br, Bc) = (scratch.steps, part.queries.count, part.keys.count)
        let (S, dP) = (scratch.S.corner(Br, Bc), scratch.dP.corner(Br, Bc))
        let Qi = steps.pair(x.query.block(b, h, part.queries), into: scratch.pairedQ)
        let dOi = steps.pair(x.outputGradient.block(b, h, part.queries), into: scratch.pairedGradient)
        let first = c.shape.row(b, h, part.queries.lowerBound)
        func add(_ P: Block<UInt32>, _ rows: PairSteps.Paired, to sum: MutableBlock<Float>) {
            steps.accumulate(
                transposed: P, rows, count: Br, into: sum.rows(0..<Bc), keep: .everything,
                isMasked: part.zone == .masked
            ) { plan.visibleQueries(key: $0, of: part) }
        }
        let pairsOfQ = steps.load(Qi.rows, into: scratch.Q)
        if c.takesDots {
            // The forward pass's scores to the last bit.
            steps.scores(pairsOfQ, passing: tile.pairsOfK, into: S, next: Upcoming(tile.pairsOfK))
        } else {
            steps.scores(pairsOfQ, tile.KT, into: S)
        }
        let P = steps.probabilities(S, rows.lse.rows(from: first), part, plan, into: scratch.pairs)
        add(P, dOi, to: tile.dV)
        steps.multiply(steps.load(dOi.rows, into: scratch.gradient), transposed: tile.VT, into: dP)
        let dS = steps.scoreGradient(
            S, dP, scaledDelta: rows.scaledDelta + first, part, plan, into: scratch.pairs, scratch.dS)
        add(dS.columns, Qi, to: tile.dK)
        return dS.rows
    }
}
