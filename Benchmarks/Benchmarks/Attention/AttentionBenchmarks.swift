import Benchmark
import FlashAttention

/// The problems that are timed, each forward and backward, by FlashAttention-2 on all cores.
///
/// Small on purpose: `fattn bench` compares the algorithms, this follows one of them from commit to commit.
private let problems: [(name: String, shape: AttentionShape, mask: AttentionMask)] = [
    ("1x8x512x64 full", AttentionShape(batch: 1, heads: 8, queryLength: 512, headSize: 64), .full),
    ("1x8x512x64 causal", AttentionShape(batch: 1, heads: 8, queryLength: 512, headSize: 64), .causal),
    ("1x4x1024x128 full", AttentionShape(batch: 1, heads: 4, queryLength: 1024, headSize: 128), .full),
    (
        "1x8/2x1x4096x128 one query",
        AttentionShape(
            batch: 1, heads: 8, keyValueHeads: 2, queryLength: 1, keyLength: 4096, headSize: 128), .causal
    ),
]

let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(
        metrics: [.wallClock, .throughput], warmupIterations: 3, maxDuration: .seconds(2))
    for (name, shape, mask) in problems {
        Benchmark("forward \(name)") { benchmark in
            var run = try Run(shape, mask)
            benchmark.startMeasurement()
            for _ in benchmark.scaledIterations { try run.forward() }
            benchmark.stopMeasurement()
            blackHole(run.result)
        }
        Benchmark("backward \(name)") { benchmark in
            var run = try Run(shape, mask)
            try run.forward()
            benchmark.startMeasurement()
            for _ in benchmark.scaledIterations { try run.backward() }
            benchmark.stopMeasurement()
            blackHole(run.gradients)
        }
    }
}

/// One planned problem with its operands and results, so that nothing is allocated while it is timed.
private struct Run {
    let attention: Attention<Float>
    /// `[B, H, Nq, D]`, `[B, Hkv, Nk, D]`, `[B, Hkv, Nk, Dv]` and `[B, H, Nq, Dv]`.
    let query, key, value, outputGradient: Tensor<Float>
    var result: AttentionOutput<Float>
    var gradients: AttentionGradients<Float>

    init(_ shape: AttentionShape, _ mask: AttentionMask) throws {
        attention = try Attention(shape: shape, options: AttentionOptions(mask: mask))
        query = try Self.operand(shape.queryExtents, phase: 1)
        key = try Self.operand(shape.keyExtents, phase: 2)
        value = try Self.operand(shape.valueExtents, phase: 3)
        outputGradient = try Self.operand(shape.outputExtents, phase: 4)
        result = try attention.forward(query: query, key: key, value: value)
        gradients = try attention.backward(
            query: query, key: key, value: value, forward: result, outputGradient: outputGradient)
    }

    mutating func forward() throws {
        try attention.forward(query: query, key: key, value: value, into: &result)
    }

    mutating func backward() throws {
        try attention.backward(
            query: query, key: key, value: value, forward: result, outputGradient: outputGradient,
            into: &gradients)
    }

    /// Entries from −1 to 1 that do not repeat within a row; their values do not matter to the time.
    private static func operand(_ extents: TensorExtents, phase: Int) throws -> Tensor<Float> {
        try Tensor(
            extents,
            elements: (0..<extents.count).map { Float(($0 * 7919 + phase * 104_729) % 2003) / 1001 - 1 })
    }
}
