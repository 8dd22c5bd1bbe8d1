import FlashAttention

/// What the machine at hand can run, found out by asking the library for it.
public struct VerificationMachine: Hashable, Sendable {
    /// In the order of `KernelSet`.
    public var kernelSets: [KernelSet]
    /// In the order of `GEMMProvider`.
    public var providers: [GEMMProvider]

    public init(kernelSets: [KernelSet], providers: [GEMMProvider]) {
        self.kernelSets = kernelSets
        self.providers = providers
    }

    /// This machine.
    public static let current = VerificationMachine(
        kernelSets: KernelSet.allCases.filter { runs(AttentionOptions(gemm: .simd, kernels: $0)) },
        providers: GEMMProvider.allCases.filter { runs(AttentionOptions(gemm: $0)) })

    private static func runs(_ options: AttentionOptions) -> Bool {
        let shape = AttentionShape(batch: 1, heads: 1, queryLength: 1, headSize: 1)
        return (try? Attention<Float>(shape: shape, options: options)) != nil
    }
}
