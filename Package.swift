// swift-tools-version: 6.2
// 6.2 is the first version that accepts a tagged dependency with unsafeFlags, which our kernel targets need.
import PackageDescription

/// One set of micro-kernels: the shared source in `Sources/TileKernelsSource`, compiled for one
/// instruction set and one scalar type; BF16 is pairs of it, multiplied into Float. Each target's folder
/// holds a symbolic link to that source.
func tileKernels(_ isa: String, _ scalar: String, flags: [String] = []) -> Target {
    .target(
        name: "TileKernels\(isa)\(scalar)",
        dependencies: ["TileKernelTable", "CVectorInstructions"],
        path: "Sources/TileKernels\(isa)/\(scalar)",
        swiftSettings: [
            .define("KERNEL_\(isa.uppercased())"),
            .define("KERNEL_\(scalar)"),
            .unsafeFlags(["-Ounchecked"] + flags.flatMap { ["-Xcc", $0] }, .when(configuration: .release)),
        ])
}

var kernelTargets = [tileKernels("Generic", "F32"), tileKernels("Generic", "F64")]
#if arch(x86_64)
let avx2 = ["-mavx2", "-mfma", "-mf16c"]
let avx512 = ["-march=x86-64-v4", "-mprefer-vector-width=512"]
for scalar in ["F32", "F64"] {
    kernelTargets.append(tileKernels("AVX2", scalar, flags: avx2))
    kernelTargets.append(tileKernels("AVX512", scalar, flags: avx512))
}
kernelTargets.append(tileKernels("AVX512", "BF16", flags: avx512 + ["-mavx512bf16"]))
#endif

let package = Package(
    name: "swift-flash-attention",
    platforms: [.macOS(.v26), .iOS(.v26), .tvOS(.v26), .watchOS(.v26), .visionOS(.v26)],
    products: [
        .library(name: "FlashAttention", targets: ["FlashAttention"]),
        // For the package in Benchmarks, no part of the API.
        .library(name: "AttentionBenchmarkSupport", targets: ["AttentionBenchmarkSupport"]),
        .executable(name: "fattn", targets: ["fattn"]),
    ],
    traits: [
        .trait(name: "CUDA", description: "A second device: compiles the CUDA kernels, which needs nvcc.")
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0")
    ],
    targets: kernelTargets + [
        .target(name: "TileKernelTable"),
        // Single instructions that Swift has no spelling for.
        .target(name: "CVectorInstructions"),
        .target(name: "AttentionCore"),
        .target(name: "CProcessor"),
        .target(
            name: "AttentionCPU",
            dependencies: ["AttentionCore", "TileKernelTable", "CProcessor"]
                + kernelTargets.map { .init(stringLiteral: $0.name) }),
        // The launch parameters, read by Swift and by nvcc.
        .target(name: "CTileABI"),
        .target(name: "CCUDADriver"),
        .executableTarget(name: "cuda-embed"),
        .plugin(
            name: "CompileCUDA", capability: .buildTool(), dependencies: ["cuda-embed"],
            path: "Sources/CompileCUDA"),
        // Without the trait CUDA it has no kernels, and says so when it is asked for a device.
        .target(
            name: "AttentionCUDA", dependencies: ["AttentionCore", "CTileABI", "CCUDADriver"],
            exclude: ["Kernels"], plugins: ["CompileCUDA"]),
        .target(
            name: "FlashAttention",
            dependencies: ["AttentionCore", "AttentionCPU", "AttentionCUDA"]),
        .target(name: "AttentionVerification", dependencies: ["FlashAttention"]),
        .target(
            name: "AttentionBenchmarkSupport",
            dependencies: ["AttentionCPU", "AttentionCore", "TileKernelTable"]),
        .target(name: "SafeTensors"),
        .executableTarget(
            name: "fattn",
            dependencies: [
                "FlashAttention", "AttentionVerification", "SafeTensors",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        .testTarget(name: "SafeTensorsTests", dependencies: ["SafeTensors"]),
        .testTarget(name: "fattnTests", dependencies: ["fattn", "FlashAttention", "SafeTensors"]),
        .testTarget(name: "AttentionCoreTests", dependencies: ["AttentionCore", "AttentionVerification"]),
        .testTarget(
            name: "TileKernelsTests",
            dependencies: ["AttentionCPU", "AttentionCore", "AttentionVerification", "TileKernelTable"]),
        .testTarget(
            name: "AttentionCPUTests", dependencies: ["AttentionCPU", "AttentionCore", "CProcessor"]),
        .testTarget(
            name: "FlashAttentionTests",
            dependencies: ["FlashAttention", "AttentionVerification", "CAllocationCounter"]),
        .testTarget(
            name: "AttentionCUDATests",
            dependencies: ["AttentionCUDA", "AttentionCore", "CTileABI", "CFakeCUDA", "FlashAttention"]),
        // A driver that computes nothing and remembers what it was asked for.
        .target(name: "CFakeCUDA", dependencies: ["CCUDADriver"], path: "Tests/CFakeCUDA"),
        // Counts what the test program allocates.
        .target(name: "CAllocationCounter", path: "Tests/CAllocationCounter"),
        .testTarget(name: "AttentionVerificationTests", dependencies: ["AttentionVerification"]),
        .testTarget(
            name: "AttentionBenchmarkSupportTests",
            dependencies: ["AttentionBenchmarkSupport", "AttentionCPU", "AttentionCore", "TileKernelTable"]),
    ]
)
