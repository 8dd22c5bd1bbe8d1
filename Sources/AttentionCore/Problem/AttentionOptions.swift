/// How to compute an attention problem.
public struct AttentionOptions: Hashable, Sendable {
    /// Which keys a query sees.
    public var mask: AttentionMask
    /// The factor on Q Kᵀ; 1/√D if nil. Of a magnitude up to 0.69 times the largest number that attention
    /// computes with, 2.3e38 in Float.
    public var softmaxScale: Double?
    /// How to compute; every algorithm gives the same function.
    public var algorithm: AttentionAlgorithm
    /// Where to compute. A device that is not there is an error, never a silent fall-back.
    public var device: AttentionDevice
    /// Who multiplies the blocks; the library's own micro-kernels if nil.
    public var gemm: GEMMProvider?
    /// The micro-kernels; the widest that the processor runs if nil, unless the environment variable
    /// `FATTN_KERNELS` names others.
    public var kernels: KernelSet?
    /// Threads at work on the CPU; if nil one for each processor that the program may run on. The result does
    /// not depend on it.
    public var threads: Int?
    /// Who brings the threads on the CPU; Dispatch if nil. The result does not depend on it.
    public var parallelRuntime: ParallelRuntime?
    /// The tile sizes of both passes; chosen for the problem, from a table of measurements, if nil.
    public var tileSizes: TileSizes?
    /// Whether results must be bit-identical from run to run. They are in any case, but for the
    /// gradients of FlashAttention-2 on a GPU, whose backward pass is slower with it.
    public var deterministic: Bool

    /// Options of which every one has a default; see the properties for what nil means.
    public init(
        mask: AttentionMask = .full, softmaxScale: Double? = nil,
        algorithm: AttentionAlgorithm = .flashAttention2, device: AttentionDevice = .cpu,
        gemm: GEMMProvider? = nil, kernels: KernelSet? = nil, threads: Int? = nil,
        parallelRuntime: ParallelRuntime? = nil, tileSizes: TileSizes? = nil,
        deterministic: Bool = false
    ) {
        self.mask = mask
        self.softmaxScale = softmaxScale
        self.algorithm = algorithm
        self.device = device
        self.gemm = gemm
        self.kernels = kernels
        self.threads = threads
        self.parallelRuntime = parallelRuntime
        self.tileSizes = tileSizes
        self.deterministic = deterministic
    }

    /// Checks what depends neither on the machine nor on the element type.
    /// - Throws: `AttentionError.invalidOption` for a scale that is not finite, fewer than one thread, or
    ///   tile sizes below 1.
    public func validate() throws(AttentionError) {
        if let softmaxScale, !softmaxScale.isFinite {
            throw .invalidOption("softmaxScale must be finite, got \(softmaxScale)")
        }
        if let threads, threads < 1 { throw .invalidOption("threads must be at least 1, got \(threads)") }
        if let tileSizes, tileSizes.queries < 1 || tileSizes.keys < 1 {
            throw .invalidOption(
                "tileSizes must be at least 1, got \(tileSizes.queries),\(tileSizes.keys)")
        }
    }

    /// Checks what depends on the type that attention computes in.
    /// - Throws: `AttentionError.invalidOption` for a scale beyond the type's numbers.
    package func validate<Scalar: AttentionScalar>(for type: Scalar.Type) throws(AttentionError) {
        let limit = Scalar.largestSoftmaxScale
        if let softmaxScale, abs(softmaxScale) > Double(limit) {
            throw .invalidOption(
                "softmaxScale must be from -\(limit) to \(limit) in \(Scalar.self), got \(softmaxScale)")
        }
    }
}

/// The algorithms. All compute the same function; they differ in what they keep and move.
public enum AttentionAlgorithm: String, Hashable, Sendable, CaseIterable {
    /// S and P whole in memory.
    case naive
    /// Row by row with a running maximum and normaliser (Milakov and Gimelshein, 2018).
    case onlineSoftmax = "online"
    /// Dao, Fu, Ermon, Rudra and Ré, 2022.
    case flashAttention1 = "fa1"
    /// Dao, 2023.
    case flashAttention2 = "fa2"
}

/// Where attention is computed.
public enum AttentionDevice: String, Hashable, Sendable, CaseIterable {
    case cpu
    /// The first NVIDIA GPU, in a build with the trait `CUDA`.
    case cuda
}

/// Who multiplies the blocks on the CPU.
public enum GEMMProvider: String, Hashable, Sendable, CaseIterable {
    /// This library's SIMD micro-kernels.
    case simd
    /// OpenBLAS, loaded when it is first asked for; Accelerate on Apple platforms.
    case openblas
}

/// Who brings the threads that work on the CPU.
public enum ParallelRuntime: String, Hashable, Sendable, CaseIterable {
    /// Dispatch. Its threads look out for the next call for 200 µs and sleep then, and a call never waits for
    /// one that has not started.
    case dispatch
    /// An OpenMP library, LLVM's or GCC's, loaded when it is first asked for: for programs that compute with
    /// it anyway, whose threads it shares. A call waits for all of them, so it takes milliseconds where
    /// others use the cores. They wait for the next call in a loop; `OMP_WAIT_POLICY` and `KMP_BLOCKTIME` say
    /// for how long.
    case openMP = "openmp"
}

/// A set of micro-kernels, named for what it needs of the processor.
public enum KernelSet: String, Hashable, Sendable, CaseIterable {
    /// What every x86-64 processor runs: 128-bit registers, and no fused multiply-add.
    case generic
    /// AVX2 and FMA: 256-bit registers.
    case avx2
    /// x86-64-v4: 512-bit registers.
    case avx512
    /// What every arm64 processor runs: 128-bit registers.
    case neon
}
