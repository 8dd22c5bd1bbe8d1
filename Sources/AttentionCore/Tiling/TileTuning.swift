/// The two passes of an attention problem.
public enum AttentionPass: String, Hashable, Sendable, CaseIterable {
    /// O and the log-sum-exp.
    case forward
    /// dQ, dK and dV.
    case backward
}

/// The one place that chooses tile sizes on the CPU.
///
/// The result of a problem may depend on its tiles in the last digit, so the choice depends on the problem
/// alone, never on the number of threads.
package enum TileTuning {
    package static func sizes(
        _ shape: AttentionShape, _ options: AttentionOptions, _ pass: AttentionPass, scalarSize: Int
    ) -> TileSizes {
        let chosen = options.tileSizes ?? tuned(shape, options, pass, scalarSize: scalarSize)
        // The online softmax goes row by row, whatever else is asked for.
        return options.algorithm == .onlineSoftmax ? TileSizes(queries: 1, keys: chosen.keys) : chosen
    }

    /// Measured on 2 cores of a Zen 4 (1 MB of L2), F32, B1 H8 N2048, 2026-11-21, as shares of the FMA peak,
    /// full | causal; the size chosen first, then others of the sweep:
    ///
    ///     forward, D 128   192×512 0.90 | 0.86  192×256 0.90 | 0.85   96×512 0.88 | 0.83   96×128 0.85 | 0.82
    ///     forward, D 64    192×512 0.88 | 0.83  192×256 0.85 | 0.82   96×512 0.87 | 0.83   96×128 0.84 | 0.80
    ///     backward, D 128  192×128 0.92 | 0.80  192×256 0.92 | 0.79   96×256 0.88 | 0.76   96×128 0.86 | 0.81
    ///     backward, D 64   192×128 0.90 | 0.82  192×256 0.91 | 0.77   96×256 0.87 | 0.76   96×128 0.82 | 0.82
    ///
    /// A wide Bc wins forward, because the work per row and tile (the maximum, the correction, O) is done less
    /// often; backward has none of it, and a narrow Bc wastes less on the diagonal. Double has half as many
    /// keys, for the same bytes.
    private static func tuned(
        _ shape: AttentionShape, _ options: AttentionOptions, _ pass: AttentionPass, scalarSize: Int
    ) -> TileSizes {
        switch (options.algorithm, pass) {
        case (.flashAttention2, .forward) where takesDots(shape):
            TileSizes(queries: 64, keys: 64 * 4 / scalarSize)
        case (.flashAttention2, .forward) where hasFewQueries(shape):
            TileSizes(queries: 64, keys: 192 * 4 / scalarSize)
        case (.onlineSoftmax, .forward): TileSizes(queries: 1, keys: 256)
        case (.onlineSoftmax, .backward): TileSizes(queries: 1, keys: 64)
        case (_, .forward): TileSizes(queries: 192, keys: 512 * 4 / scalarSize)
        case (_, .backward): TileSizes(queries: 192, keys: 128 * 4 / scalarSize)
        }
    }

    // MARK: Decoding

    /// How the keys are split among tasks: where there are few queries, else not at all (nil). As many splits as
    /// 64 threads would need with a single head, but none of fewer than four tiles, so that the merge is
    /// little beside the reading of K and V.
    package static func keySplits(
        _ shape: AttentionShape, _ algorithm: AttentionAlgorithm, _ pass: AttentionPass, _ sizes: TileSizes
    ) -> KeySplits? {
        guard algorithm == .flashAttention2, pass == .forward, hasFewQueries(shape), shape.heads > 0 else {
            return nil
        }
        let tiles = TilePlan.tiles(shape.keyLength, of: sizes.keys)
        return KeySplits(tilesOfSplit: max(4, TilePlan.tiles(tiles, of: 64)))
    }

    /// Whether a problem of decoding has so few rows that they are best taken as they lie: the queries of all heads that
    /// share K and V.
    package static func takesDots(_ shape: AttentionShape) -> Bool {
        hasFewQueries(shape) && shape.queryLength * shape.groupSize < 12
    }

    /// Whether a problem is one of decoding.
    package static func hasFewQueries(_ shape: AttentionShape) -> Bool { shape.queryLength <= 16 }
}
