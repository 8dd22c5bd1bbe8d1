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
/// and the processor's cache alone, never on the number of threads.
package enum TileTuning {
    /// - Parameters:
    ///   - cacheBytes: a core's own cache (L2), 0 where it is not known.
    package static func sizes(
        _ shape: AttentionShape, _ options: AttentionOptions, _ pass: AttentionPass, scalarSize: Int,
        cacheBytes: Int
    ) -> TileSizes {
        let chosen =
            options.tileSizes
            ?? tuned(
                shape, options, pass, scalarSize: scalarSize,
                cacheBytes: cacheBytes > 0 ? cacheBytes : 1 << 20)
        // The online softmax goes row by row, whatever else is asked for.
        return options.algorithm == .onlineSoftmax ? TileSizes(queries: 1, keys: chosen.keys) : chosen
    }

    /// Measured on 2 cores of a Zen 4 (1 MB of L2), F32, 2026-11-21; how far from the best of a sweep:
    /// `Docs/Performance.md`.
    ///
    /// - Forward: Br 192. A wide Bc wins, because the work for each row and tile (the maximum, the
    ///   correction, O) is done less often: as wide as leaves S, K and V in the core's cache, and at most
    ///   512.
    /// - Backward: Br 192, Bc 128; causal Bc 64, which wastes less on the diagonal, but for a tile
    ///   of all keys, which has Br 32.
    /// - The side that tasks are made of is cut into equal tiles, and into more than these where that makes
    ///   too few tasks.
    ///
    /// Decoding, B1 H32 Hkv8 Nk16384 D128, milliseconds, by Bc:
    ///
    ///                                       64     128    256           192    384
    ///     dot products, F32, Nq 1 | 2    6.01|5.62  4.62|4.70  4.30|5.14
    ///     dot products, BF16, Nq 1 | 2   2.33|3.47  2.14|3.70  2.58|3.71
    ///     dot products, F16, Nq 1 | 2    3.30|5.06  2.19|4.16  3.04|3.61
    ///
    /// With panels and 16 rows 96 and 192 are the same; both are whole register tiles of 6 and 12 rows.
    ///
    /// Double has half as many keys, for the same bytes.
    private static func tuned(
        _ shape: AttentionShape, _ options: AttentionOptions, _ pass: AttentionPass, scalarSize: Int,
        cacheBytes: Int
    ) -> TileSizes {
        let (queries, heads) = (shape.queryLength, shape.batch * shape.heads)
        let (isFull, isOneTile) = (options.mask == .full, shape.keyLength <= 128)
        // Half a tile of keys gives a second thread work where there is only one; but OpenBLAS sums so few
        // scores in another order than the forward pass had, which costs digits where scores are in the
        // hundreds.
        let isAlone = shape.batch * shape.keyValueHeads * TilePlan.tiles(shape.keyLength, of: 64) < 2
        let keyUnit = isAlone && options.gemm != .openblas ? 32 : 64
        return switch (options.algorithm, pass) {
        case (.flashAttention2, .forward) where takesDots(shape):
            TileSizes(queries: 64, keys: 128 * 4 / scalarSize)
        case (.flashAttention2, .forward) where hasFewQueries(shape):
            TileSizes(queries: 64, keys: 192 * 4 / scalarSize)
        case (.onlineSoftmax, .forward): TileSizes(queries: 1, keys: 256)
        case (.onlineSoftmax, .backward): TileSizes(queries: 1, keys: 64)
        case (.flashAttention2, .forward):
            TileSizes(
                queries: part(of: queries, heads: heads, upTo: 192, unit: queries > 64 ? 64 : 32),
                keys: keysInCache(shape, queries: 192, scalarSize: scalarSize, cacheBytes: cacheBytes))
        case (.flashAttention2, .backward):
            TileSizes(
                queries: part(of: queries, heads: heads, upTo: isOneTile && !isFull ? 32 : 192, unit: 32),
                keys: part(
                    of: shape.keyLength, heads: shape.batch * shape.keyValueHeads,
                    upTo: (isOneTile || isFull ? 128 : 64) * 4 / scalarSize,
                    unit: keyUnit * 4 / scalarSize))
        case (_, .forward): TileSizes(queries: 192, keys: 512 * 4 / scalarSize)
        case (_, .backward): TileSizes(queries: 192, keys: 128 * 4 / scalarSize)
        }
    }

    /// A tile of a length that is cut into equal parts of up to `most`, or into more where all heads together
    /// would have fewer than 16; in whole units, which fill the vectors of a register tile.
    private static func part(of length: Int, heads: Int, upTo most: Int, unit: Int) -> Int {
        let wanted = min(TilePlan.tiles(16, of: max(heads, 1)), TilePlan.tiles(length, of: unit))
        let parts = max(TilePlan.tiles(length, of: most), wanted, 1)
        return max(TilePlan.tiles(TilePlan.tiles(length, of: parts), of: unit), 1) * unit
    }

    /// Bc such that a tile of S, K and V fills three quarters of the cache, for Q and O come beside them:
    /// with 1 MB 512 for D 64, 384 for D 128 and 256 for D 256.
    private static func keysInCache(
        _ shape: AttentionShape, queries: Int, scalarSize: Int, cacheBytes: Int
    ) -> Int {
        let bytesOfKey = (queries + shape.headSize + shape.valueHeadSize) * scalarSize
        return min(max(cacheBytes / 4 * 3 / bytesOfKey / 64 * 64, 64), 512 * 4 / scalarSize)
    }

    // MARK: Decoding

    /// How the keys are split among tasks: where there are few queries, else not at all (nil). As many splits
    /// as make 128 tasks of a batch entry, two for each of 64 threads, but between 8 and 64 of them, and none
    /// of fewer than 256 keys or four tiles: the merge is to be little beside the reading of K and V.
    package static func keySplits(
        _ shape: AttentionShape, _ algorithm: AttentionAlgorithm, _ pass: AttentionPass, _ sizes: TileSizes
    ) -> KeySplits? {
        guard algorithm == .flashAttention2, pass == .forward, hasFewQueries(shape), shape.heads > 0 else {
            return nil
        }
        let tiles = TilePlan.tiles(shape.keyLength, of: sizes.keys)
        let most = min(max(128 / max(shape.keyValueHeads, 1), 8), 64)
        return KeySplits(
            tilesOfSplit: max(min(4, TilePlan.tiles(256, of: sizes.keys)), TilePlan.tiles(tiles, of: most)))
    }

    /// Whether a problem of decoding has so few rows, the queries of all heads that share K and V, that they
    /// are best taken as they lie.
    package static func takesDots(_ shape: AttentionShape) -> Bool {
        hasFewQueries(shape) && shape.queryLength * shape.groupSize < 12
    }

    /// Whether a problem is one of decoding.
    package static func hasFewQueries(_ shape: AttentionShape) -> Bool { shape.queryLength <= 16 }
}
