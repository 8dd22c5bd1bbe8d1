/// How much an attention problem computes and moves, counted from its plan. The shape must be valid, as
/// ``AttentionShape/validate()`` says, and so must be what is given beside it.
public enum WorkCount {
    /// Floating-point operations of a pass, by the field's convention: 2 · (D + Dv) for each (row, key) pair
    /// and head, the pairs of a causal square counted as half of it, and 2.5 times that for the backward
    /// pass. An algorithm may compute more; what it spends on softmax and recomputation does not count.
    ///
    /// - Parameters:
    ///   - keyLengths: `[B]`, from 0 to Nk: how many of the keys exist; all if nil.
    public static func flops(
        _ shape: AttentionShape, mask: AttentionMask, pass: AttentionPass, keyLengths: [Int]? = nil
    ) -> Double {
        var pairs = 0.0
        for b in 0..<shape.batch {
            let keys = keyLengths?[b] ?? shape.keyLength
            if mask != .full && keys == shape.queryLength {
                pairs += Double(keys) * Double(keys) / 2
            } else {
                let plan = TilePlan(
                    queryLength: shape.queryLength, keyLength: keys, mask: mask,
                    sizes: TileSizes(queries: 1, keys: max(keys, 1)))
                pairs += Double(plan.visibleCount)
            }
        }
        let forward = 2 * pairs * Double(shape.heads) * Double(shape.headSize + shape.valueHeadSize)
        return pass == .forward ? forward : 2.5 * forward
    }

    /// Bytes that an algorithm reads and writes outside its tiles: operands, statistics and whatever else it
    /// keeps in memory, each tile counted whenever the algorithm's pseudocode loads or stores it.
    ///
    /// - Parameters:
    ///   - sizes: the tiles of this pass, 1 or more each way.
    ///   - scalarSize: bytes of an element.
    ///   - keyLengths: `[B]`, from 0 to Nk: how many of the keys exist; all if nil.
    public static func trafficBytes(
        _ shape: AttentionShape, mask: AttentionMask, pass: AttentionPass, algorithm: AttentionAlgorithm,
        sizes: TileSizes, scalarSize: Int, keyLengths: [Int]? = nil
    ) -> Int {
        let splits = TileTuning.keySplits(shape, algorithm, pass, sizes)
        var scalars = 0
        for b in 0..<shape.batch {
            let plan = TilePlan(
                queryLength: shape.queryLength, keyLength: keyLengths?[b] ?? shape.keyLength, mask: mask,
                sizes: algorithm == .onlineSoftmax ? TileSizes(queries: 1, keys: sizes.keys) : sizes,
                groupSize: splits == nil ? 1 : shape.groupSize)
            let traffic = Traffic(
                plan: plan, D: shape.headSize, Dv: shape.valueHeadSize, H: shape.heads,
                Hkv: shape.keyValueHeads)
            if let splits {
                scalars += traffic.splitKeys(splits)
            } else {
                scalars += pass == .forward ? traffic.forward(algorithm) : traffic.backward(algorithm)
            }
        }
        return scalars * scalarSize
    }
}

/// The scalars that one batch entry moves.
private struct Traffic {
    let plan: TilePlan
    let D, Dv, H, Hkv: Int
    /// Rows of query tiles, rows of key tiles and elements of score tiles, over all visits of one head.
    private let visitedRows, visitedKeys, visitedScores: Int

    init(plan: TilePlan, D: Int, Dv: Int, H: Int, Hkv: Int) {
        (self.plan, self.D, self.Dv, self.H, self.Hkv) = (plan, D, Dv, H, Hkv)
        var (rows, keys, scores) = (0, 0, 0)
        for i in 0..<plan.queryTileCount {
            for j in plan.keyTiles(forQueryTile: i) {
                let tile = plan.tile(i, j)
                rows += tile.queries.count
                keys += tile.keys.count
                scores += tile.queries.count * tile.keys.count
            }
        }
        (visitedRows, visitedKeys, visitedScores) = (rows, keys, scores)
    }

    private var Nq: Int { plan.queryLength }
    private var Nk: Int { plan.keyLength }

    func forward(_ algorithm: AttentionAlgorithm) -> Int {
        switch algorithm {
        case .naive:
            // 1: Q and K tiles in, S out. 2: whole rows of S in, P out. 3: P and V tiles in, O out and, from
            // the second key tile on, in again.
            let scores = Nq * D + visitedKeys * D + visitedScores
            let softmax = 2 * Nq * Nk + Nq
            let output = visitedScores + visitedKeys * Dv + 2 * visitedRows * Dv
            return H * (scores + softmax + output)
        case .onlineSoftmax:
            // Every row reads all its keys and values; its scores stay in the worker's memory.
            return H * (Nq * D + visitedKeys * (D + Dv) + Nq * (Dv + 1))
        case .flashAttention1:
            // K and V once; at every visit Q in, O, l and m in and out; O, l and m set up, the lse last.
            let visits = visitedRows * D + 2 * visitedRows * (Dv + 2)
            return H * (Nk * (D + Dv) + visits + Nq * (Dv + 2) + 3 * Nq)
        case .flashAttention2:
            // Q once; K and V at every visit; O and the lse once.
            return H * (Nq * D + visitedKeys * (D + Dv) + Nq * (Dv + 1))
        }
    }

    /// FlashAttention-2 over split keys, where the rows of the plan are those of a whole group.
    func splitKeys(_ splits: KeySplits) -> Int {
        // Rows that a split works on, over all splits.
        let parts = (0..<plan.queryTileCount).reduce(0) {
            $0 + plan.queries($1).count * splits.count(keyTiles: plan.keyTiles(forQueryTile: $1).upperBound)
        }
        // Q at every split; K and V at every visit; O, l and m of every split out and in; O and the lse once.
        let visits = parts * D + visitedKeys * (D + Dv)
        return Hkv * (visits + 2 * parts * (Dv + 2) + plan.rowCount * (Dv + 1))
    }

    func backward(_ algorithm: AttentionAlgorithm) -> Int {
        switch algorithm {
        case .naive:
            // 1: as forward, and P out. 2: dO and V tiles in, dP out, P and dP in, dS out.
            let probabilities = Nq * D + visitedKeys * D + visitedScores + 2 * Nq * Nk + Nq
            let gradients = Nq * Dv + visitedKeys * Dv + visitedScores + 3 * Nq * Nk
            // 3: dS and K in, dQ in and out. 4: P and dO in, dV in and out; dS and Q in, dK in and out.
            let query = visitedScores + visitedKeys * D + 2 * visitedRows * D
            let keys = 2 * visitedScores + visitedRows * (D + Dv) + 2 * visitedKeys * (D + Dv)
            return H * (probabilities + gradients + query + keys)
        case .onlineSoftmax:
            // dQ: every row reads all its keys and values. dK and dV: every row of Q and dO passes every
            // chunk, which updates its dK and dV.
            let query = Nq * (2 * Dv + D + 2) + 2 * visitedKeys * D + visitedKeys * Dv + Nq * D
            let keys = visitedRows * (D + Dv + 2) + 3 * visitedKeys * (D + Dv)
            return H * (query + keys)
        case .flashAttention1:
            // K and V once, dK and dV out; at every visit Q, O, dO and the lse in, dQ in and out.
            let visits = visitedRows * (D + 2 * Dv + 1) + 2 * visitedRows * D
            return Hkv * 2 * Nk * (D + Dv) + H * (visits + Nq * D)
        case .flashAttention2:
            // delta: O and dO in; dQ set up. K and V once, dK and dV out; at every visit Q, dO, lse and
            // delta in, dQ in and out.
            let visits = visitedRows * (D + Dv + 2) + 2 * visitedRows * D
            return Hkv * 2 * Nk * (D + Dv) + H * (visits + Nq * (2 * Dv + 3) + Nq * D)
        }
    }
}
