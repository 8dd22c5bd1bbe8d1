import FlashAttention

/// Which feature runs on which algorithm and device.
enum FeatureTable {
    struct Feature: Encodable {
        let feature: String
        /// By device, the algorithms that have it.
        let algorithms: [String: [String]]
    }

    static let features: [Feature] =
        there.map {
            Feature(
                feature: $0, algorithms: [
                    "cpu": AttentionAlgorithm.allCases.map(\.rawValue),
                    "cuda": onGPU.contains($0) ? AttentionAlgorithm.allCases.map(\.rawValue) : [],
                ])
        } + later.map { Feature(feature: $0, algorithms: ["cpu": [], "cuda": []]) }

    private static let there = [
        "forward", "backward", "F32", "F64", "F16 and BF16", "any D and Dv", "Nq ≠ Nk",
        "GQA and MQA (Hkv < H)", "causal, bottom-right or top-left", "seqused_k",
        "layouts bhnd and bnhd", "GEMM by simd or openblas",
        "bit-identical for any thread count",
    ]
    #if CUDA
    /// Head sizes up to 256.
    private static let onGPU: Set = [
        "forward", "backward", "F32", "F16 and BF16", "Nq ≠ Nk", "GQA and MQA (Hkv < H)",
        "causal, bottom-right or top-left", "seqused_k", "layouts bhnd and bnhd",
    ]
    #else
    private static let onGPU: Set<String> = []
    #endif
    private static let later = [
        "window", "softcap", "bias and mask", "ALiBi", "sinks", "dropout",
        "variable lengths (cu_seqlens)", "paged keys (block_table)", "block_mask",
    ]

    static var lines: [String] {
        let algorithms = AttentionAlgorithm.allCases.map(\.rawValue)
        let table = TextTable(
            columns: [.init("feature", features.map(\.feature.count).max() ?? 0, .left)]
                + algorithms.map { .init("cpu \($0)", 4) } + [.init("cuda", 4)])
        return [table.header]
            + features.map { feature in
                let onCPU = feature.algorithms["cpu"] ?? []
                let onCUDA = feature.algorithms["cuda"] ?? []
                return table.row(
                    [feature.feature] + algorithms.map { onCPU.contains($0) ? "yes" : "-" }
                        + [onCUDA.isEmpty ? "-" : "yes"])
            }
    }
}
