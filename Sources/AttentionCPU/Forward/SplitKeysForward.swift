import AttentionCore

/// FlashAttention-2, forward, for few queries over many keys (decoding): the keys are split among tasks.
///
/// Source: Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context inference", 2023. The merge is the
/// associative one of Milakov and Gimelshein, arXiv 1805.02867, section 3.1. In our words:
///
///  1. The rows of Q are those of all query heads that share a key/value head: K and V are then read once for
///     the group. Divide them into tiles of Br rows, K and V into tiles of Bc, and the key tiles into splits.
///  2. For each row tile i and split s, in parallel:
///  3.   gather Q_i; set O_s = 0, l_s = 0, m_s = −∞;
///  4.   for each key tile j of the split that i visits:
///  5.     S = Q_i K_jᵀ, masked where the zone says so;
///  6.     m_s becomes max(m_s, rowmax S), P = exp(S − m_s), l_s = exp(m_old − m_s) l_s + rowsum P;
///  7.     O_s = diag(exp(m_old − m_s)) O_s + P V_j — unnormalised;
///  8.   whoever ends the last split of i merges them, in their order: m = max m_s, w_s = exp(m_s − m),
///       l = Σ w_s l_s, O_i = Σ w_s O_s / l and lse_i = m + ln l.
///
/// Steps 5 to 7 are those of FlashAttention-2, in the form that the rows are held in. The rows of the
/// context's tiles are those of a group.
enum SplitKeysForward<Rows: ForwardRows>: CPUAlgorithm {
    typealias Element = Rows.Element
    typealias Scalar = Rows.Scalar
    typealias Operands = ForwardOperands<Element>

    /// What the splits found, a part for each (batch entry, key/value head, row tile, split).
    struct Shared {
        /// O_s: `[parts · Br][Dv]`.
        let O: MutableBlock<Scalar>
        /// m_s, which become w_s, and l_s: `[parts][Br]` each.
        let maximum, sum: MutableBlock<Scalar>
        /// How many splits of a row tile have come to their end.
        let arrivals: Arrivals
    }

    struct Scratch {
        let rows: Rows
        /// Q_i: `[Br][D]`.
        let Q: MutableBlock<Element>
        /// O_i: `[Br][Dv]`.
        let O: MutableBlock<Scalar>
        /// m and l of the merged splits, and what the softmax of the m_s subtracts: `[Br]` each, in whole
        /// panels.
        let maximum, sum, offset: UnsafeMutablePointer<Scalar>
        /// lse_i: `[Br]`.
        let logSumExp: UnsafeMutablePointer<Double>
    }

    static func shared(_ c: CPUContext, _ arena: inout Arena) -> Shared {
        let tiles = c.shape.batch * c.shape.keyValueHeads * c.queryTileCount
        let (Br, Dv, parts) = (c.tileRows, c.shape.valueHeadSize, tiles * c.splitCount)
        return Shared(
            O: arena.block(parts * Br, Dv, stride: c.paddedColumns(Dv)),
            maximum: arena.block(parts, Br, stride: c.paddedColumns(Br)),
            sum: arena.block(parts, Br, stride: c.paddedColumns(Br)),
            arrivals: Arrivals(arena.take(tiles, of: Arrivals.Counter.self), count: tiles))
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (Br, D, Dv) = (c.tileRows, c.shape.headSize, c.shape.valueHeadSize)
        let padded = c.paddedColumns(Br)
        return Scratch(
            rows: Rows(c, &arena), Q: arena.block(Br, D, stride: D),
            O: arena.block(Br, Dv, stride: c.paddedColumns(Dv)),
            maximum: arena.take(padded, of: Scalar.self), sum: arena.take(padded, of: Scalar.self),
            offset: arena.take(padded, of: Scalar.self), logSumExp: arena.take(Br, of: Double.self))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        let shared = memory.shared { Self.shared(c, &$0) }
        shared.arrivals.reset()
        forEachSplit(c, memory) { b, hkv, i, s, scratch in
            split(s, i, b, hkv, c, x, shared, scratch)
        }
    }

    /// Steps 3 to 8 for split s of row tile i.
    private static func split(
        _ s: Int, _ i: Int, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands, _ shared: Shared,
        _ scratch: Scratch
    ) {
        let plan = c.plan(b, x.keyLengths)
        let visited = plan.keyTiles(forQueryTile: i).upperBound
        let splits = c.splits.count(keyTiles: visited)
        guard s < splits else { return }
        let rows = plan.queries(i)
        let tile = (b * c.shape.keyValueHeads + hkv) * c.queryTileCount + i
        let part = tile * c.splitCount + s
        let next = visited == 0 ? nil : likelyNext(s, i, b, hkv, c, x)
        let statistics = RowStatistics(
            scale: scratch.rows.steps.scoreScale, maximum: shared.maximum.row(part),
            sum: shared.sum.row(part))
        scratch.rows.attend(
            gather(rows, b, hkv, c, x, into: scratch.Q), c.splits.tiles(s, of: visited), ofQueryTile: i, plan,
            { (x.key.block(b, hkv, $0), x.value.block(b, hkv, $0)) }, before: next,
            into: shared.O.rows(part * c.tileRows..<part * c.tileRows + rows.count), statistics)
        if shared.arrivals.isLast(at: tile, of: splits) {
            let parts = tile * c.splitCount..<tile * c.splitCount + splits
            merge(parts, rows, b, hkv, c, x, shared, scratch)
        }
    }

    /// The first K of the task that this worker is likely to take next, for all take them in turns.
    private static func likelyNext(
        _ s: Int, _ i: Int, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands
    ) -> Block<Element> {
        let heads = c.shape.keyValueHeads
        let task = ((b * heads + hkv) * c.splitCount + s) * c.queryTileCount + i + c.threads
        let (head, split) = (task / c.queryTileCount / c.splitCount, task / c.queryTileCount % c.splitCount)
        let first = c.splits.tiles(split, of: c.keyTileCount).lowerBound * c.tiles.keys
        guard head < c.shape.batch * heads else { return x.key.block(b, hkv, 0..<0) }
        return x.key.block(head / heads, head % heads, first..<first)
    }

    /// Rows of Q of a group's heads, next to each other.
    private static func gather(
        _ rows: Range<Int>, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands,
        into Q: MutableBlock<Element>
    ) -> Block<Element> {
        for (r, row) in rows.enumerated() {
            let (h, n) = c.groupRow(row, hkv)
            Q.rows(r..<r + 1).copy(from: x.query.block(b, h, n..<n + 1))
        }
        return Q.rows(0..<rows.count).readOnly
    }

    /// Step 8. The weights of the splits are what the softmax of their maxima would have above its sum.
    private static func merge(
        _ parts: Range<Int>, _ rows: Range<Int>, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands,
        _ shared: Shared, _ scratch: Scratch
    ) {
        let (steps, count) = (scratch.rows.steps, rows.count)
        let weights = shared.maximum.rows(parts).columns(0..<count)
        let total = RowStatistics(scale: steps.scoreScale, maximum: scratch.maximum, sum: scratch.sum)
        steps.columnMaximum(weights, into: total.maximum)
        RowStatistics.subtrahends(count, of: total.maximum, into: scratch.offset)
        steps.exponentiateColumns(weights, offset: scratch.offset, sum: total.sum)
        weightedSums(weights.readOnly, shared.sum.rows(parts).readOnly, into: total.sum)
        for r in 0..<count {
            let Or = Block(
                memory: UnsafePointer(shared.O.row(parts.lowerBound * c.tileRows + r)),
                rows: parts.count, columns: shared.O.columns, stride: c.tileRows * shared.O.stride)
            steps.gemm.multiply(
                transposed: weights.columns(r..<r + 1).readOnly, Or, into: scratch.O.rows(r..<r + 1),
                keep: .nothing)
        }
        total.finish(count, logSumExp: scratch.logSumExp)
        for (r, row) in rows.enumerated() {
            let (h, n) = c.groupRow(row, hkv)
            x.logSumExp[c.shape.row(b, h, n)] = scratch.logSumExp[r]
            steps.divideRows(
                scratch.O.rows(r..<r + 1), by: total.sum + r, to: x.output.block(b, h, n..<n + 1))
        }
    }

    /// l = Σ w_s l_s.
    private static func weightedSums(
        _ weights: Block<Scalar>, _ sums: Block<Scalar>, into total: UnsafeMutablePointer<Scalar>
    ) {
        total.update(repeating: 0, count: weights.columns)
        for s in 0..<weights.rows {
            for r in 0..<weights.columns {
                total[r] += weights.memory[s * weights.stride + r] * sums.memory[s * sums.stride + r]
            }
        }
    }
}

extension CPUContext {
    /// Head and query of a row of a group's plan.
    fileprivate func groupRow(_ row: Int, _ hkv: Int) -> (h: Int, n: Int) {
        (hkv * shape.groupSize + row % shape.groupSize, row / shape.groupSize)
    }

    fileprivate var splits: KeySplits { keySplits ?? KeySplits(tilesOfSplit: 1) }
}
