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
    ///     forward, D 128   192×512 0.87 | 0.79   96×512 0.84 | 0.76   192×256 0.85 | 0.74   96×128 0.80 | 0.73
    ///     forward, D 64     96×512 0.80 | 0.76  192×512 0.80 | 0.72   192×256 0.81 | 0.71   96×128 0.76 | 0.72
    ///     backward, D 128  192×128 0.86 | 0.74  192×256 0.85 | 0.69   96×256 0.86 | 0.72    96×128 0.81 | 0.75
    ///     backward, D 64   192×128 0.90 | 0.75  192×256 0.80 | 0.72   96×256 0.88 | 0.75    96×128 0.90 | 0.79
    ///
    /// A wide Bc wins forward, because the work per row and tile (the horizontal maximum, the correction)
    /// is paid less often; backward has none of it, and a narrow Bc wastes less on the diagonal. Double has
    /// half as many keys, for the same bytes.
    private static func tuned(
        _ shape: AttentionShape, _ options: AttentionOptions, _ pass: AttentionPass, scalarSize: Int
    ) -> TileSizes {
        let wide = max(shape.headSize, shape.valueHeadSize) > 64
        return switch (options.algorithm, pass) {
        case (.onlineSoftmax, .forward): TileSizes(queries: 1, keys: 256)
        case (.onlineSoftmax, .backward): TileSizes(queries: 1, keys: 64)
        case (_, .forward): TileSizes(queries: wide ? 192 : 96, keys: 512 * 4 / scalarSize)
        case (_, .backward): TileSizes(queries: 192, keys: 128 * 4 / scalarSize)
        }
    }
}
