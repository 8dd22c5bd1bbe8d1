// The calls over tensors of our own.

/// The result of a forward pass.
public struct AttentionOutput<Element: AttentionElement>: Sendable {
    /// O, `[B, H, Nq, Dv]`, in the layout of the query.
    public var output: Tensor<Element>
    /// `[B, H, Nq]`, natural logarithm.
    public var logSumExp: [Double]

    /// A result of one's own, to be written `into`, or to start a backward pass from.
    public init(output: Tensor<Element>, logSumExp: [Double]) {
        self.output = output
        self.logSumExp = logSumExp
    }
}

/// The result of a backward pass, each in the layout of its operand.
public struct AttentionGradients<Element: AttentionElement>: Sendable {
    /// dQ, `[B, H, Nq, D]`
    public var query: Tensor<Element>
    /// dK, `[B, Hkv, Nk, D]`
    public var key: Tensor<Element>
    /// dV, `[B, Hkv, Nk, Dv]`
    public var value: Tensor<Element>

    /// Gradients of one's own, to be written `into`.
    public init(query: Tensor<Element>, key: Tensor<Element>, value: Tensor<Element>) {
        self.query = query
        self.key = key
        self.value = value
    }
}

extension Attention {
    /// Computes O and the log-sum-exp.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - keyLengths: `[B]`: only the first so many keys of a batch entry exist. All if nil.
    /// - Throws: `AttentionError` that names the operand at fault.
    public func forward(
        query: Tensor<Element>, key: Tensor<Element>, value: Tensor<Element>, keyLengths: [Int]? = nil
    ) throws(AttentionError) -> AttentionOutput<Element> {
        var result = AttentionOutput(
            output: Tensor<Element>(shape.outputExtents, layout: query.layout),
            logSumExp: [Double](repeating: 0, count: shape.rowCount))
        try forward(query: query, key: key, value: value, into: &result, keyLengths: keyLengths)
        return result
    }

    /// Computes O and the log-sum-exp into a result that is there already, without allocating another.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - result: its `output` and `logSumExp` must have the shape's sizes.
    ///   - keyLengths: `[B]`: only the first so many keys of a batch entry exist. All if nil.
    /// - Throws: `AttentionError` that names the operand at fault, before anything is written.
    public func forward(
        query: Tensor<Element>, key: Tensor<Element>, value: Tensor<Element>,
        into result: inout AttentionOutput<Element>, keyLengths: [Int]? = nil
    ) throws(AttentionError) {
        try withKeyLengths(keyLengths) { lengths throws(AttentionError) in
            try query.withView { q throws(AttentionError) in
                try key.withView { k throws(AttentionError) in
                    try value.withView { v throws(AttentionError) in
                        try result.withMutableViews { o, lse throws(AttentionError) in
                            try self.forward(
                                query: q, key: k, value: v, output: o, logSumExp: lse, keyLengths: lengths)
                        }
                    }
                }
            }
        }
    }

    /// Computes dQ, dK and dV from dO and what the forward pass left.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`, as it was in the forward pass; and so the other inputs.
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - forward: the result of the forward pass.
    ///   - outputGradient: dO, `[B, H, Nq, Dv]`
    ///   - keyLengths: `[B]`, as in the forward pass.
    /// - Throws: `AttentionError` that names the operand at fault.
    public func backward(
        query: Tensor<Element>, key: Tensor<Element>, value: Tensor<Element>,
        forward: AttentionOutput<Element>, outputGradient: Tensor<Element>, keyLengths: [Int]? = nil
    ) throws(AttentionError) -> AttentionGradients<Element> {
        var result = AttentionGradients(
            query: Tensor<Element>(shape.queryExtents, layout: query.layout),
            key: Tensor<Element>(shape.keyExtents, layout: key.layout),
            value: Tensor<Element>(shape.valueExtents, layout: value.layout))
        try backward(
            query: query, key: key, value: value, forward: forward, outputGradient: outputGradient,
            into: &result, keyLengths: keyLengths)
        return result
    }

    /// Computes dQ, dK and dV into a result that is there already, without allocating another.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`, as it was in the forward pass; and so the other inputs.
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - forward: the result of the forward pass.
    ///   - outputGradient: dO, `[B, H, Nq, Dv]`
    ///   - result: its tensors must have the shape's sizes.
    ///   - keyLengths: `[B]`, as in the forward pass.
    /// - Throws: `AttentionError` that names the operand at fault, before anything is written.
    public func backward(
        query: Tensor<Element>, key: Tensor<Element>, value: Tensor<Element>,
        forward: AttentionOutput<Element>, outputGradient: Tensor<Element>,
        into result: inout AttentionGradients<Element>, keyLengths: [Int]? = nil
    ) throws(AttentionError) {
        try withKeyLengths(keyLengths) { lengths throws(AttentionError) in
            try query.withView { q throws(AttentionError) in
                try key.withView { k throws(AttentionError) in
                    try value.withView { v throws(AttentionError) in
                        try forward.output.withView { o throws(AttentionError) in
                            try outputGradient.withView { dO throws(AttentionError) in
                                try forward.logSumExp.withUnsafeBufferPointer { lse throws(AttentionError) in
                                    try result.withMutableViews { dQ, dK, dV throws(AttentionError) in
                                        try self.backward(
                                            query: q, key: k, value: v, output: o, logSumExp: lse,
                                            outputGradient: dO, queryGradient: dQ, keyGradient: dK,
                                            valueGradient: dV, keyLengths: lengths)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    private func withKeyLengths(
        _ lengths: [Int]?, _ body: (UnsafeBufferPointer<Int32>?) throws(AttentionError) -> Void
    ) throws(AttentionError) {
        guard let lengths else { return try body(nil) }
        for length in lengths where Int32(exactly: length) == nil {
            throw .invalidKeyLengths(
                expected: "lengths from 0 to Nk = \(shape.keyLength)", got: "\(length)")
        }
        try lengths.map { Int32(truncatingIfNeeded: $0) }
            .withUnsafeBufferPointer { lengths throws(AttentionError) in try body(lengths) }
    }
}

extension AttentionOutput {
    fileprivate mutating func withMutableViews(
        _ body: (MutableTensorView<Element>, UnsafeMutableBufferPointer<Double>)
            throws(AttentionError) -> Void
    ) throws(AttentionError) {
        try output.withMutableView { o throws(AttentionError) in
            try logSumExp.withUnsafeMutableBufferPointer { lse throws(AttentionError) in try body(o, lse) }
        }
    }
}

extension AttentionGradients {
    fileprivate mutating func withMutableViews(
        _ body: (MutableTensorView<Element>, MutableTensorView<Element>, MutableTensorView<Element>)
            throws(AttentionError) -> Void
    ) throws(AttentionError) {
        try query.withMutableView { dQ throws(AttentionError) in
            try key.withMutableView { dK throws(AttentionError) in
                try value.withMutableView { dV throws(AttentionError) in try body(dQ, dK, dV) }
            }
        }
    }
}
