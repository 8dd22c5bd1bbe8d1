/// What a device offers to the public API: one planned problem, run often.
///
/// Operands have been validated when they come here; a backend throws only for what happens while running.
package protocol AttentionBackend<Element>: AnyObject, Sendable {
    associatedtype Element: AttentionElement

    /// What was decided for the problem.
    var configuration: AttentionConfiguration { get }
    func forward(_ operands: ForwardOperands<Element>) throws(AttentionError)
    func backward(_ operands: BackwardOperands<Element>) throws(AttentionError)
}

/// What was decided for a problem: the options with every default filled in.
public struct AttentionConfiguration: Hashable, Sendable {
    /// The algorithm of both passes.
    public var algorithm: AttentionAlgorithm
    /// Who multiplies the blocks. This, the kernels and the threads mean something on the CPU alone.
    public var gemm: GEMMProvider
    /// The micro-kernels, for everything that a GEMM provider does not do.
    public var kernels: KernelSet
    /// The most threads that a call works on.
    public var threads: Int
    /// The factor on Q Kᵀ.
    public var softmaxScale: Double
    /// Br and Bc of the forward pass.
    public var forwardTiles: TileSizes
    /// Br and Bc of the backward pass.
    public var backwardTiles: TileSizes
    /// Peak memory of a forward call beyond its inputs and outputs, in bytes.
    public var forwardWorkspaceBytes: Int
    /// Peak memory of a backward call beyond its inputs and outputs, in bytes.
    public var backwardWorkspaceBytes: Int

    package init(
        algorithm: AttentionAlgorithm, gemm: GEMMProvider, kernels: KernelSet, threads: Int,
        softmaxScale: Double, forwardTiles: TileSizes, backwardTiles: TileSizes,
        forwardWorkspaceBytes: Int, backwardWorkspaceBytes: Int
    ) {
        self.algorithm = algorithm
        self.gemm = gemm
        self.kernels = kernels
        self.threads = threads
        self.softmaxScale = softmaxScale
        self.forwardTiles = forwardTiles
        self.backwardTiles = backwardTiles
        self.forwardWorkspaceBytes = forwardWorkspaceBytes
        self.backwardWorkspaceBytes = backwardWorkspaceBytes
    }
}

/// The operands of a forward pass.
package struct ForwardOperands<Element: AttentionElement> {
    /// `[B, H, Nq, D]`
    package let query: TensorView<Element>
    /// `[B, Hkv, Nk, D]`
    package let key: TensorView<Element>
    /// `[B, Hkv, Nk, Dv]`
    package let value: TensorView<Element>
    /// `[B, H, Nq, Dv]`, written.
    package let output: MutableTensorView<Element>
    /// `[B, H, Nq]`, written: natural logarithm.
    package let logSumExp: UnsafeMutableBufferPointer<Double>
    /// `[B]`: how many of the keys exist; all if nil.
    package let keyLengths: UnsafeBufferPointer<Int32>?

    package init(
        query: TensorView<Element>, key: TensorView<Element>, value: TensorView<Element>,
        output: MutableTensorView<Element>, logSumExp: UnsafeMutableBufferPointer<Double>,
        keyLengths: UnsafeBufferPointer<Int32>?
    ) {
        self.query = query
        self.key = key
        self.value = value
        self.output = output
        self.logSumExp = logSumExp
        self.keyLengths = keyLengths
    }
}

/// The operands of a backward pass.
package struct BackwardOperands<Element: AttentionElement> {
    /// `[B, H, Nq, D]`
    package let query: TensorView<Element>
    /// `[B, Hkv, Nk, D]`
    package let key: TensorView<Element>
    /// `[B, Hkv, Nk, Dv]`
    package let value: TensorView<Element>
    /// `[B, H, Nq, Dv]`, of the forward pass.
    package let output: TensorView<Element>
    /// `[B, H, Nq]`, of the forward pass.
    package let logSumExp: UnsafeBufferPointer<Double>
    /// dO, `[B, H, Nq, Dv]`
    package let outputGradient: TensorView<Element>
    /// dQ, `[B, H, Nq, D]`, written.
    package let queryGradient: MutableTensorView<Element>
    /// dK, `[B, Hkv, Nk, D]`, written.
    package let keyGradient: MutableTensorView<Element>
    /// dV, `[B, Hkv, Nk, Dv]`, written.
    package let valueGradient: MutableTensorView<Element>
    /// `[B]`: how many of the keys exist; all if nil.
    package let keyLengths: UnsafeBufferPointer<Int32>?

    package init(
        query: TensorView<Element>, key: TensorView<Element>, value: TensorView<Element>,
        output: TensorView<Element>, logSumExp: UnsafeBufferPointer<Double>,
        outputGradient: TensorView<Element>, queryGradient: MutableTensorView<Element>,
        keyGradient: MutableTensorView<Element>, valueGradient: MutableTensorView<Element>,
        keyLengths: UnsafeBufferPointer<Int32>?
    ) {
        self.query = query
        self.key = key
        self.value = value
        self.output = output
        self.logSumExp = logSumExp
        self.outputGradient = outputGradient
        self.queryGradient = queryGradient
        self.keyGradient = keyGradient
        self.valueGradient = valueGradient
        self.keyLengths = keyLengths
    }
}
