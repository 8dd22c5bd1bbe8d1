import FlashAttention

/// One case, computed by the library on tensors with guards around them.
struct CaseRun {
    /// O and lse, or dQ, dK and dV, in the order `[B, H, N, D]`.
    private(set) var tensors: [[Double]] = []
    /// The tiles of the pass.
    let tiles: TileSizes
    /// What went wrong beside the figures.
    private(set) var faults: [String] = []

    init<Element>(_ c: VerificationCase, _ inputs: GeneratedInputs<Element>) throws(AttentionError) {
        let attention = try Attention<Element>(shape: c.problem.shape, options: c.options)
        let made = attention.configuration
        if made.algorithm != c.algorithm || made.gemm != c.gemm || made.kernels != c.kernels {
            faults.append("computed with \(made.algorithm), \(made.gemm) and \(made.kernels) instead")
        }
        tiles = c.pass == .forward ? made.forwardTiles : made.backwardTiles
        let operands = Operands(c, inputs)
        try operands.forward(attention)
        if c.pass == .backward {
            try operands.backward(attention)
            tensors = operands.gradients.map { $0.1.dense() }
        } else {
            tensors = [operands.output.dense(), operands.logSumExp.dense()]
        }
        if !operands.logSumExp.isUntouched { faults.append("logSumExp: written outside the tensor") }
        let written = [("output", operands.output)] + operands.gradients
        for (name, tensor) in written where !tensor.isUntouched {
            faults.append("\(name): written outside the tensor")
        }
    }
}

/// The guarded tensors of a case. Inputs have gaps of NaN as well, which no result may show.
private final class Operands<Element: AttentionElement> {
    let query: GuardedTensor<Element>
    let key: GuardedTensor<Element>
    let value: GuardedTensor<Element>
    let outputGradient: GuardedTensor<Element>
    let output: GuardedTensor<Element>
    let logSumExp: GuardedTensor<Double>
    let gradients: [(String, GuardedTensor<Element>)]
    let keyLengths: [Int32]?

    init(_ c: VerificationCase, _ inputs: GeneratedInputs<Element>) {
        let shape = c.problem.shape
        func guarded(_ tensor: Tensor<Element>) -> GuardedTensor<Element> {
            GuardedTensor(tensor, layout: c.layout, padding: c.padding)
        }
        func empty(_ extents: TensorExtents) -> GuardedTensor<Element> {
            GuardedTensor(extents, layout: c.layout, padding: c.padding)
        }
        query = guarded(inputs.query)
        key = guarded(inputs.key)
        value = guarded(inputs.value)
        outputGradient = guarded(inputs.outputGradient)
        output = empty(shape.outputExtents)
        logSumExp = GuardedTensor(TensorExtents(shape.batch, shape.heads, shape.queryLength, 1))
        gradients = [
            ("queryGradient", empty(shape.queryExtents)), ("keyGradient", empty(shape.keyExtents)),
            ("valueGradient", empty(shape.valueExtents)),
        ]
        keyLengths = c.problem.keyLengths?.map { Int32(clamping: $0) }
    }

    func forward(_ attention: Attention<Element>) throws(AttentionError) {
        try withKeyLengths { lengths throws(AttentionError) in
            try attention.forward(
                query: query.view, key: key.view, value: value.view, output: output.mutableView,
                logSumExp: logSumExp.elements, keyLengths: lengths)
        }
    }

    func backward(_ attention: Attention<Element>) throws(AttentionError) {
        try withKeyLengths { lengths throws(AttentionError) in
            try attention.backward(
                query: query.view, key: key.view, value: value.view, output: output.view,
                logSumExp: UnsafeBufferPointer(logSumExp.elements), outputGradient: outputGradient.view,
                queryGradient: gradients[0].1.mutableView, keyGradient: gradients[1].1.mutableView,
                valueGradient: gradients[2].1.mutableView, keyLengths: lengths)
        }
    }

    private func withKeyLengths(
        _ body: (UnsafeBufferPointer<Int32>?) throws(AttentionError) -> Void
    ) throws(AttentionError) {
        guard let keyLengths else { return try body(nil) }
        var failure: AttentionError?
        keyLengths.withUnsafeBufferPointer { lengths in
            do throws(AttentionError) { try body(lengths) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}
