import AttentionCUDA
@_exported import AttentionCore

/// Exact attention, planned once and run often.
///
/// `O = softmax(scale · Q Kᵀ + mask) V`, and its gradients. The plan fixes sizes, mask, algorithm, tiles,
/// threads and micro-kernels; a call after the first allocates no working memory. One plan may be used
/// from several threads at once: each call in flight has working memory of its own.
///
/// ```swift
/// let attention = try Attention<Float>(
///     shape: AttentionShape(batch: 1, heads: 8, queryLength: 512, headSize: 64),
///     options: AttentionOptions(mask: .causal))
/// ```
///
/// A row that sees no key gets an output of 0, a log-sum-exp of −∞ and gradients of 0.
public final class Attention<Element: AttentionElement>: Sendable {
    /// The sizes that the plan was made for.
    public let shape: AttentionShape
    /// The options as they were given.
    public let options: AttentionOptions
    let backend: any AttentionBackend<Element>
    /// The same, if it is a GPU's.
    let deviceBackend: CUDAAttention<Element>?

    /// Decides everything and allocates no working memory yet.
    ///
    /// - Throws: `AttentionError` when the shape or an option is not valid, or when micro-kernels, a library
    ///   or a device are asked for that are not there.
    public convenience init(
        shape: AttentionShape, options: AttentionOptions = .init()
    ) throws(AttentionError) {
        try shape.validate()
        try options.validate()
        try options.validate(for: Element.Accumulator.self)
        self.init(shape, options, try makeBackend(shape: shape, options: options))
    }

    /// - Parameters:
    ///   - backend: plans the same problem; shape and options are valid.
    package init(
        _ shape: AttentionShape, _ options: AttentionOptions, _ backend: any AttentionBackend<Element>
    ) {
        self.shape = shape
        self.options = options
        self.backend = backend
        deviceBackend = backend as? CUDAAttention<Element>
    }

    /// What was decided for this problem.
    public var configuration: AttentionConfiguration { backend.configuration }

    /// Computes O and the log-sum-exp of every row of scores.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - output: `[B, H, Nq, Dv]`, overwritten; must not overlap the inputs.
    ///   - logSumExp: `[B, H, Nq]`, dense, overwritten; natural logarithm, in Double for every element type:
    ///     rounded to Float it would cost the gradients of large scores their last digits.
    ///   - keyLengths: `[B]`: only the first so many keys of a batch entry exist, and bottom-right alignment
    ///     counts from them. All keys if nil.
    /// - Throws: `AttentionError` that names the operand at fault, before anything is written; or
    ///   `AttentionError.outOfMemory` if a first call does not get its working memory.
    public func forward(
        query: TensorView<Element>, key: TensorView<Element>, value: TensorView<Element>,
        output: MutableTensorView<Element>, logSumExp: UnsafeMutableBufferPointer<Double>,
        keyLengths: UnsafeBufferPointer<Int32>? = nil
    ) throws(AttentionError) {
        try query.validate("query", expected: shape.queryExtents)
        try key.validate("key", expected: shape.keyExtents)
        try value.validate("value", expected: shape.valueExtents)
        try output.validate("output", expected: shape.outputExtents)
        try validate(logSumExp.count, keyLengths)
        try backend.forward(
            ForwardOperands(
                query: query, key: key, value: value, output: output, logSumExp: logSumExp,
                keyLengths: keyLengths))
    }

    /// Computes the gradients of a loss from that of the output.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`, as it was in the forward pass; and so the other inputs.
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - output: `[B, H, Nq, Dv]`, as the forward pass left it.
    ///   - logSumExp: `[B, H, Nq]`, likewise.
    ///   - outputGradient: dO, `[B, H, Nq, Dv]`
    ///   - queryGradient: dQ, `[B, H, Nq, D]`, overwritten; none of the three may overlap an input.
    ///   - keyGradient: dK, `[B, Hkv, Nk, D]`, overwritten; summed over the query heads of a group, 0 for
    ///     keys that do not exist.
    ///   - valueGradient: dV, `[B, Hkv, Nk, Dv]`, likewise.
    ///   - keyLengths: `[B]`, as in the forward pass.
    /// - Throws: `AttentionError` that names the operand at fault, before anything is written; or
    ///   `AttentionError.outOfMemory` if a first call does not get its working memory.
    public func backward(
        query: TensorView<Element>, key: TensorView<Element>, value: TensorView<Element>,
        output: TensorView<Element>, logSumExp: UnsafeBufferPointer<Double>,
        outputGradient: TensorView<Element>, queryGradient: MutableTensorView<Element>,
        keyGradient: MutableTensorView<Element>, valueGradient: MutableTensorView<Element>,
        keyLengths: UnsafeBufferPointer<Int32>? = nil
    ) throws(AttentionError) {
        try query.validate("query", expected: shape.queryExtents)
        try key.validate("key", expected: shape.keyExtents)
        try value.validate("value", expected: shape.valueExtents)
        try output.validate("output", expected: shape.outputExtents)
        try outputGradient.validate("outputGradient", expected: shape.outputExtents)
        try queryGradient.validate("queryGradient", expected: shape.queryExtents)
        try keyGradient.validate("keyGradient", expected: shape.keyExtents)
        try valueGradient.validate("valueGradient", expected: shape.valueExtents)
        try validate(logSumExp.count, keyLengths)
        try backend.backward(
            BackwardOperands(
                query: query, key: key, value: value, output: output, logSumExp: logSumExp,
                outputGradient: outputGradient, queryGradient: queryGradient, keyGradient: keyGradient,
                valueGradient: valueGradient, keyLengths: keyLengths))
    }

    private func validate(_ rows: Int, _ keyLengths: UnsafeBufferPointer<Int32>?) throws(AttentionError) {
        guard rows >= shape.rowCount else {
            throw .bufferTooSmall(operand: "logSumExp", expected: shape.rowCount, got: rows)
        }
        guard let keyLengths else { return }
        guard keyLengths.count == shape.batch else {
            throw .invalidKeyLengths(
                expected: "one length a batch entry, \(shape.batch)", got: "\(keyLengths.count)")
        }
        for length in keyLengths where length < 0 || Int(length) > shape.keyLength {
            throw .invalidKeyLengths(expected: "lengths from 0 to Nk = \(shape.keyLength)", got: "\(length)")
        }
    }
}
