import AttentionCore

/// Attention row by row over chunks of keys, with the maximum and normaliser found in one pass.
///
/// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867,
/// Algorithm 3, applied to one row of scores at a time:
///
///  1. m = −∞, d = 0.
///  2. For each chunk of keys: x = Q_i Kᵀ for the chunk, kept; m_new = max(m, max x);
///     d = d · exp(m − m_new) + Σ exp(x − m_new); m = m_new.
///  3. For each chunk of keys: y = exp(x − m) / d; O_i += y V.
///
/// One row of scores is kept between the passes, nothing of size N × N. In step 2 the exponentials serve
/// d only; the row keeps x. The division by d is done once, on O_i. The plan has tiles of one row.
enum OnlineSoftmaxForward<Element: CPUElement>: CPUAlgorithm {
    typealias Scalar = Element.Accumulator
    typealias Operands = ForwardOperands<Element>

    struct Scratch {
        let steps: TileSteps<Scalar>
        /// Q_i and a chunk of K and of V where they have to be widened: `[1][D]`, `[Bc][D]`, `[Bc][Dv]`.
        let Q, K, V: MutableBlock<Scalar>
        /// The row of scores, `[1][Nk]`, and a chunk of it for exp to consume, `[1][Bc]`.
        let x, chunk: MutableBlock<Scalar>
        /// O_i: `[1][Dv]`.
        let O: MutableBlock<Scalar>
        /// m and d of the row.
        let statistics: RowStatistics<Scalar>
        let maximum, correction, sum: UnsafeMutablePointer<Scalar>
    }

    static func scratch(_ c: CPUContext, _ arena: inout Arena) -> Scratch {
        let (Nk, Bc, D, Dv) = (c.shape.keyLength, c.tileKeys, c.shape.headSize, c.shape.valueHeadSize)
        return Scratch(
            steps: TileSteps(c, scratch: arena.take(c.gemmScratch, of: Scalar.self)),
            Q: c.loaded(1, D, &arena), K: c.loaded(Bc, D, &arena), V: c.loaded(Bc, Dv, &arena),
            x: arena.block(1, Nk, stride: c.paddedColumns(Nk)),
            chunk: arena.block(1, Bc, stride: c.paddedColumns(Bc)),
            O: arena.block(1, Dv, stride: c.paddedColumns(Dv)),
            statistics: RowStatistics(
                scale: c.scoreScale(), maximum: arena.take(1, of: Scalar.self),
                sum: arena.take(1, of: Scalar.self)),
            maximum: arena.take(1, of: Scalar.self), correction: arena.take(1, of: Scalar.self),
            sum: arena.take(1, of: Scalar.self))
    }

    static func run(_ c: CPUContext, _ x: Operands, _ memory: WorkMemory) {
        forEachQueryTile(c, memory) { b, h, i, scratch in row(i, b, h, c, x, scratch) }
    }

    private static func row(
        _ i: Int, _ b: Int, _ h: Int, _ c: CPUContext, _ operands: Operands, _ scratch: Scratch
    ) {
        let plan = c.plan(b, operands.keyLengths)
        let (steps, statistics) = (scratch.steps, scratch.statistics)
        let Qi = steps.load(operands.query.block(b, h, plan.queries(i)), into: scratch.Q)
        let hkv = h / c.shape.groupSize
        let chunks = plan.keyTiles(forQueryTile: i)
        statistics.reset(1)
        for j in chunks {
            let tile = plan.tile(i, j)
            let x = scratch.x.columns(tile.keys)
            let K = steps.load(operands.key.block(b, hkv, tile.keys), into: scratch.K)
            steps.scores(Qi, .init(inPlace: K), into: x)
            steps.maskTile(x, tile, plan)
            steps.rowMaximum(x, into: scratch.maximum)
            statistics.update(1, tileMaximum: scratch.maximum, correction: scratch.correction)
            let exponentials = scratch.chunk.corner(1, tile.keys.count)
            exponentials.copy(from: x.readOnly)
            steps.exponentiate(exponentials, offset: scratch.maximum, sum: scratch.sum)
            statistics.add(1, tileSum: scratch.sum)
        }
        for j in chunks {
            let tile = plan.tile(i, j)
            let y = scratch.x.columns(tile.keys)
            let V = steps.load(operands.value.block(b, hkv, tile.keys), into: scratch.V)
            // After the last update `maximum` holds the row's own maximum.
            steps.exponentiate(y, offset: scratch.maximum, sum: scratch.sum)
            steps.accumulate(
                y, V, into: scratch.O, keep: j == chunks.lowerBound ? .nothing : .everything, tile, plan)
        }
        let lse = operands.logSumExp.baseAddress.unsafelyUnwrapped
        statistics.finish(1, logSumExp: lse + c.shape.row(b, h, plan.queries(i).lowerBound))
        steps.divideRows(scratch.O, by: statistics.sum, to: operands.output.block(b, h, plan.queries(i)))
    }
}
