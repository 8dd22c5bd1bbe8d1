// swift-tools-version: 6.2
// A package of its own, so that those who use the library do not fetch what only measuring it needs.
import PackageDescription

let package = Package(
    name: "Benchmarks",
    platforms: [.macOS(.v26)],
    dependencies: [
        .package(name: "swift-flash-attention", path: ".."),
        // Without its default trait, which counts allocations and needs jemalloc installed.
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.0", traits: []),
    ],
    targets: [
        .executableTarget(
            name: "Attention",
            dependencies: [
                .product(name: "FlashAttention", package: "swift-flash-attention"),
                .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "Benchmarks/Attention",
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
        .executableTarget(
            name: "Kernels",
            dependencies: [
                .product(name: "AttentionBenchmarkSupport", package: "swift-flash-attention"),
                .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "Benchmarks/Kernels",
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
    ]
)
