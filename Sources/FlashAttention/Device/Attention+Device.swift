import AttentionCUDA

// The calls over data that is on the GPU, and stays there.

/// The result of a forward pass on a GPU.
public struct DeviceAttentionOutput<Element: AttentionElement>: Sendable {
    /// O, `[B, H, Nq, Dv]`
    public var output: DeviceTensor<Element>
    /// `[B, H, Nq]`, natural logarithm. In Float: the kernels have no use for more.
    public var logSumExp: DeviceVector<Float>

    /// A result of one's own, to be written `into`, or to start a backward pass from.
    public init(output: DeviceTensor<Element>, logSumExp: DeviceVector<Float>) {
        self.output = output
        self.logSumExp = logSumExp
    }
}

/// The result of a backward pass on a GPU.
public struct DeviceAttentionGradients<Element: AttentionElement>: Sendable {
    /// dQ, `[B, H, Nq, D]`
    public var query: DeviceTensor<Element>
    /// dK, `[B, Hkv, Nk, D]`
    public var key: DeviceTensor<Element>
    /// dV, `[B, Hkv, Nk, Dv]`
    public var value: DeviceTensor<Element>

    /// Gradients of one's own, to be written `into`.
    public init(query: DeviceTensor<Element>, key: DeviceTensor<Element>, value: DeviceTensor<Element>) {
        self.query = query
        self.key = key
        self.value = value
    }
}

extension Attention {
    /// Queues the computation of O and the log-sum-exp, into new memory of the stream.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - keyLengths: `[B]`: only the first so many keys of a batch entry exist. All if nil.
    ///   - stream: runs it, and owns the memory of the result.
    /// - Returns: O in the layout of the query if that is dense, else `[B, H, Nq, Dv]`.
    /// - Throws: as the form with `into`.
    public func forward(
        query: DeviceTensor<Element>, key: DeviceTensor<Element>, value: DeviceTensor<Element>,
        keyLengths: DeviceVector<Int32>? = nil, on stream: DeviceStream
    ) throws(AttentionError) -> DeviceAttentionOutput<Element> {
        let result = DeviceAttentionOutput(
            output: try DeviceTensor<Element>(
                shape.outputExtents, layout: query.layout ?? .bhnd, on: stream),
            logSumExp: try DeviceVector(count: shape.rowCount, on: stream))
        try forward(query: query, key: key, value: value, into: result, keyLengths: keyLengths, on: stream)
        return result
    }

    /// Queues the computation of O and the log-sum-exp into memory that is there already.
    ///
    /// Returns before it is done: `result` holds it when the stream has passed, and the inputs must not be
    /// written before, but by work that is queued later. Nothing is copied. What a kernel does wrong comes
    /// from ``DeviceStream/synchronize()``.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - result: its `output` and `logSumExp` must have the shape's sizes, and overlap no input.
    ///   - keyLengths: `[B]`: only the first so many keys of a batch entry exist. All if nil. They are on the
    ///     device and cannot be checked here: what is not from 0 to Nk is taken for the nearer of the two.
    ///   - stream: runs it.
    /// - Throws: `AttentionError` that names the operand at fault, before anything is queued;
    ///   `AttentionError.invalidOption` if the plan is not for `cuda`; `AttentionError.outOfMemory` if the
    ///   device has no working memory left.
    public func forward(
        query: DeviceTensor<Element>, key: DeviceTensor<Element>, value: DeviceTensor<Element>,
        into result: DeviceAttentionOutput<Element>, keyLengths: DeviceVector<Int32>? = nil,
        on stream: DeviceStream
    ) throws(AttentionError) {
        let call = try DeviceCall(self, stream)
        try call.take(query, "query", shape.queryExtents)
        try call.take(key, "key", shape.keyExtents)
        try call.take(value, "value", shape.valueExtents)
        try call.take(result.output, "output", shape.outputExtents, isWritten: true)
        try call.take(result.logSumExp, "logSumExp", atLeast: shape.rowCount)
        try call.takeKeyLengths(keyLengths, shape.batch)
        try call.backend.enqueue(
            DeviceOperands(
                query: query.view, key: key.view, value: value.view, output: result.output.view,
                logSumExp: result.logSumExp.address, keyLengths: keyLengths?.address ?? 0),
            on: stream.stream)
    }

    /// Queues the computation of dQ, dK and dV, into new memory of the stream.
    ///
    /// - Returns: each in the layout of its operand if that is dense, else `[B, H, N, D]`.
    /// - Throws: as the form with `into`.
    public func backward(
        query: DeviceTensor<Element>, key: DeviceTensor<Element>, value: DeviceTensor<Element>,
        forward: DeviceAttentionOutput<Element>, outputGradient: DeviceTensor<Element>,
        keyLengths: DeviceVector<Int32>? = nil, on stream: DeviceStream
    ) throws(AttentionError) -> DeviceAttentionGradients<Element> {
        let result = DeviceAttentionGradients(
            query: try DeviceTensor<Element>(
                shape.queryExtents, layout: query.layout ?? .bhnd, on: stream),
            key: try DeviceTensor<Element>(shape.keyExtents, layout: key.layout ?? .bhnd, on: stream),
            value: try DeviceTensor<Element>(shape.valueExtents, layout: value.layout ?? .bhnd, on: stream))
        try backward(
            query: query, key: key, value: value, forward: forward, outputGradient: outputGradient,
            into: result, keyLengths: keyLengths, on: stream)
        return result
    }

    /// Queues the computation of dQ, dK and dV into memory that is there already.
    ///
    /// Returns before it is done, like the forward pass.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`, as it was in the forward pass; and so the other inputs.
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - forward: the result of the forward pass.
    ///   - outputGradient: dO, `[B, H, Nq, Dv]`
    ///   - result: its tensors must have the shape's sizes, and overlap no input.
    ///   - keyLengths: `[B]`, as in the forward pass.
    ///   - stream: runs it.
    /// - Throws: as the forward pass.
    public func backward(
        query: DeviceTensor<Element>, key: DeviceTensor<Element>, value: DeviceTensor<Element>,
        forward: DeviceAttentionOutput<Element>, outputGradient: DeviceTensor<Element>,
        into result: DeviceAttentionGradients<Element>, keyLengths: DeviceVector<Int32>? = nil,
        on stream: DeviceStream
    ) throws(AttentionError) {
        let call = try DeviceCall(self, stream)
        try call.take(query, "query", shape.queryExtents)
        try call.take(key, "key", shape.keyExtents)
        try call.take(value, "value", shape.valueExtents)
        try call.take(forward.output, "output", shape.outputExtents)
        try call.take(forward.logSumExp, "logSumExp", atLeast: shape.rowCount)
        try call.take(outputGradient, "outputGradient", shape.outputExtents)
        try call.take(result.query, "queryGradient", shape.queryExtents, isWritten: true)
        try call.take(result.key, "keyGradient", shape.keyExtents, isWritten: true)
        try call.take(result.value, "valueGradient", shape.valueExtents, isWritten: true)
        try call.takeKeyLengths(keyLengths, shape.batch)
        try call.backend.enqueue(
            DeviceOperands(
                query: query.view, key: key.view, value: value.view, output: forward.output.view,
                logSumExp: forward.logSumExp.address, keyLengths: keyLengths?.address ?? 0,
                gradients: .init(
                    output: outputGradient.view, query: result.query.view, key: result.key.view,
                    value: result.value.view)),
            on: stream.stream)
    }
}

/// The checks of one call, and its hold on the operands' memory.
private struct DeviceCall<Element: AttentionElement> {
    let backend: CUDAAttention<Element>
    let stream: DeviceStream

    init(_ attention: Attention<Element>, _ stream: DeviceStream) throws(AttentionError) {
        guard let backend = attention.deviceBackend else {
            throw .invalidOption(
                "device: expected cuda for tensors on a GPU, got \(attention.options.device.rawValue)")
        }
        try stream.require(backend.device, "stream", "the plan")
        self.backend = backend
        self.stream = stream
    }

    func take(
        _ tensor: DeviceTensor<Element>, _ operand: String, _ expected: TensorExtents, isWritten: Bool = false
    ) throws(AttentionError) {
        if isWritten {
            try tensor.placement.validateForWriting(operand, expected: expected)
        } else {
            try tensor.placement.validate(operand, expected: expected)
        }
        try take(tensor.memory, operand)
    }

    func take(_ rows: DeviceVector<Float>, _ operand: String, atLeast count: Int) throws(AttentionError) {
        guard rows.count >= count else {
            throw .bufferTooSmall(operand: operand, expected: count, got: rows.count)
        }
        try take(rows.memory, operand)
    }

    func takeKeyLengths(_ lengths: DeviceVector<Int32>?, _ batch: Int) throws(AttentionError) {
        guard let lengths else { return }
        guard lengths.count == batch else {
            throw .invalidKeyLengths(expected: "one length a batch entry, \(batch)", got: "\(lengths.count)")
        }
        try take(lengths.memory, "keyLengths")
    }

    private func take(_ memory: DeviceMemory, _ operand: String) throws(AttentionError) {
        guard memory.device === backend.device else {
            throw .wrongDevice(
                operand: operand, expected: "device \(backend.device.ordinal), that of the plan",
                got: "device \(memory.device.ordinal)")
        }
        try memory.use(on: stream.stream)
    }
}
