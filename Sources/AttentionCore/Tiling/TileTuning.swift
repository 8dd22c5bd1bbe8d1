/// The two passes of an attention problem.
public enum AttentionPass: String, Hashable, Sendable, CaseIterable {
    case forward, backward
}

/// The one place that chooses tile sizes on the CPU.
///
/// The result of a problem may depend on its tiles in the last digit, so the choice depends on the problem
/// alone, never on the number of threads.
package enum TileTuning {
    package static func sizes(
        _ shape: AttentionShape, _ options: AttentionOptions, _ pass: AttentionPass, _ gemm: GEMMProvider,
        scalarSize: Int
    ) -> TileSizes {
        let chosen = options.tileSizes ?? tuned(shape, options, pass, gemm, scalarSize: scalarSize)
        // The online softmax goes row by row, whatever else is asked for.
        return options.algorithm == .onlineSoftmax ? TileSizes(queries: 1, keys: chosen.keys) : chosen
    }

    private static func tuned(
        _ shape: AttentionShape, _ options: AttentionOptions, _ pass: AttentionPass, _ gemm: GEMMProvider,
        scalarSize: Int
    ) -> TileSizes {
        switch (options.algorithm, pass) {
        case (.onlineSoftmax, .forward): return TileSizes(queries: 1, keys: 256)
        case (.onlineSoftmax, .backward): return TileSizes(queries: 1, keys: 64)
        case (_, .forward): return TileSizes(queries: 192, keys: 512 * 4 / scalarSize)
        case (_, .backward): return TileSizes(queries: 192, keys: 256 * 4 / scalarSize)
        }
    }
}
