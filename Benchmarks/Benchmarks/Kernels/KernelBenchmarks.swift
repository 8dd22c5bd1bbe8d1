import AttentionBenchmarkSupport
import Benchmark

/// How near a kernel comes to what bounds it, in percent: the multiply-add peak, or reading from the cache
/// that holds its block. Both are measured beside it.
private let share = BenchmarkMetric.custom(
    "% of the limit", polarity: .prefersLarger, useScalingFactor: false)
/// Picoseconds for each entry of the block, or each multiply-add of a product.
private let cost = BenchmarkMetric.custom("ps an element", polarity: .prefersSmaller, useScalingFactor: false)

/// Every micro-kernel of every table that this machine runs, one core, in the caches.
let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(
        metrics: [share, cost], warmupIterations: 1, maxDuration: .milliseconds(60))
    for kernel in KernelBenchmark.all {
        Benchmark(kernel.name) { benchmark, prepared in
            let clock = ContinuousClock()
            benchmark.startMeasurement()
            let seconds = clock.measure { prepared.kernel.run(prepared.calls) } / .seconds(1)
            benchmark.stopMeasurement()
            let call = seconds / Double(prepared.calls)
            benchmark.measurement(share, Int((100 * prepared.limit / call).rounded()))
            benchmark.measurement(cost, Int((1e12 * call / Double(kernel.elements)).rounded()))
        } setup: {
            try Prepared(kernel)
        }
    }
}

/// A kernel with its operands, its limit, and how often it is called for a time that a clock can tell.
private struct Prepared {
    let kernel: PreparedKernel
    let limit: Double
    let calls: Int

    init(_ benchmark: KernelBenchmark) throws {
        kernel = try benchmark.prepared()
        limit = try benchmark.limit()
        calls = max(1, Int(0.5e-3 / max(limit, 1e-9)))
    }
}
