import FlashAttention

/// One thing to check: a problem, how it is computed, and what it is fed with.
public struct VerificationCase: Hashable, Sendable {
    /// The types that tensors hold.
    public enum ElementType: String, Hashable, Sendable, CaseIterable {
        case f64, f32, f16, bf16

        /// Whether results are rounded to it from Float.
        public var isRounded: Bool { self == .f16 || self == .bf16 }

        init<Element: AttentionElement>(_ type: Element.Type) {
            self = Element.self == Double.self ? .f64 : .f32
            if MemoryLayout<Element>.size == 2 { self = Element.self == BFloat16.self ? .bf16 : .f16 }
        }
    }

    public var pass: AttentionPass
    public var element: ElementType
    public var algorithm: AttentionAlgorithm
    /// On a GPU, `gemm`, `kernels` and `threads` mean nothing.
    public var device: AttentionDevice = .cpu
    public var gemm: GEMMProvider
    public var kernels: KernelSet
    public var problem: Problem
    /// The order of the operands' axes in memory.
    public var layout: TensorLayout = .bhnd
    /// Elements between the end of a row and the next; filled with NaN, and checked to be left alone.
    public var padding: Int = 0
    public var threads: Int = 2
    /// The library's choice if nil.
    public var tileSizes: TileSizes?
    public var deterministic = false

    public init(
        pass: AttentionPass, element: ElementType, algorithm: AttentionAlgorithm, gemm: GEMMProvider,
        kernels: KernelSet, problem: Problem
    ) {
        self.pass = pass
        self.element = element
        self.algorithm = algorithm
        self.gemm = gemm
        self.kernels = kernels
        self.problem = problem
    }

    /// What decides the right answer.
    public struct Problem: Hashable, Sendable {
        public var shape: AttentionShape
        public var mask: AttentionMask = .full
        /// 1/√D if nil.
        public var softmaxScale: Double?
        /// `[B]`; all keys if nil.
        public var keyLengths: [Int]?
        public var inputs: InputKind = .normal

        public init(_ shape: AttentionShape) { self.shape = shape }

        /// The right answer's source.
        public var oracle: Oracle {
            Oracle(shape: shape, mask: mask, softmaxScale: softmaxScale, keyLengths: keyLengths)
        }
    }

    /// The options with which the library is to compute the case.
    public var options: AttentionOptions {
        AttentionOptions(
            mask: problem.mask, softmaxScale: problem.softmaxScale, algorithm: algorithm, device: device,
            gemm: gemm, kernels: kernels, threads: threads, tileSizes: tileSizes,
            deterministic: deterministic)
    }
}
