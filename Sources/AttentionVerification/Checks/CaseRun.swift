import FlashAttention

/// One case, computed by the library on tensors with guards around them.
struct CaseRun {
    /// O and lse, or dQ, dK and dV, in the order `[B, H, N, D]`.
    private(set) var tensors: [[Double]] = []
    /// Of a device: the same from operands in host memory, unless they are equal to the last bit.
    private(set) var fromHost: [[Double]]?
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
        if c.pass == .backward { try operands.backward(attention) }
        tensors = operands.results(c.pass)
        faults += operands.faults
        if c.device != .cpu { try compareWithDeviceTensors(c, inputs, attention) }
    }

    /// The same once more, over tensors that are on the device.
    ///
    /// Those in host memory are packed on their way, these lie as the case has them. Where they lie may
    /// change the order of a sum in the gradients of F16 and BF16, atomic additions that of those of
    /// FlashAttention-2, and nothing else.
    private mutating func compareWithDeviceTensors<Element>(
        _ c: VerificationCase, _ inputs: GeneratedInputs<Element>, _ attention: Attention<Element>
    ) throws(AttentionError) {
        let operands = Operands(c, inputs)
        let device = try DeviceRun(operands, attention)
        try device.run(c.pass)
        faults += operands.faults
        let packed = tensors
        tensors = operands.results(c.pass)
        let isAtomic = c.algorithm == .flashAttention2 && !c.deterministic
        if c.pass == .backward && (c.element.isRounded || isAtomic) {
            fromHost = packed
        } else if !areTheSame(packed, tensors) {
            faults.append("operands in host memory give another result")
        }
        guard c.deterministic else { return }
        let first = operands.written(c.pass)
        for run in 2...Self.repeats {
            try device.run(c.pass)
            // Equal bits are looked at first: they are what there nearly always is.
            if first == operands.written(c.pass) || areTheSame(tensors, operands.results(c.pass)) { continue }
            return faults.append("run \(run) gives another result than the first")
        }
    }

    /// How often a deterministic case is run.
    private static let repeats = 50
}

/// Whether two results are equal, NaN for NaN.
private func areTheSame(_ a: [[Double]], _ b: [[Double]]) -> Bool {
    zip(a, b).allSatisfy { zip($0, $1).allSatisfy { $0 == $1 || $0.isNaN && $1.isNaN } }
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

    /// O and lse, or dQ, dK and dV, in the order `[B, H, N, D]`.
    func results(_ pass: AttentionPass) -> [[Double]] {
        pass == .forward ? [output.dense(), logSumExp.dense()] : gradients.map { $0.1.dense() }
    }

    /// What was written outside the tensors.
    var faults: [String] {
        let written = [("output", output)] + gradients
        let names =
            written.filter { !$0.1.isUntouched }.map(\.0) + (logSumExp.isUntouched ? [] : ["logSumExp"])
        return names.map { "\($0): written outside the tensor" }
    }

    /// The bytes of what the pass writes, with what lies around it.
    func written(_ pass: AttentionPass) -> [[UInt8]] {
        pass == .forward ? [output.bytes, logSumExp.bytes] : gradients.map { $0.1.bytes }
    }

    private func withKeyLengths(
        _ body: (UnsafeBufferPointer<Int32>?) throws(AttentionError) -> Void
    ) throws(AttentionError) {
        guard let keyLengths else { return try body(nil) }
        try keyLengths.withUnsafeBufferPointer { lengths throws(AttentionError) in try body(lengths) }
    }
}

/// A case's operands on the device, guards and all, and the passes over them.
private struct DeviceRun<Element: AttentionElement> {
    private let attention: Attention<Element>
    private let operands: Operands<Element>
    private let stream: DeviceStream
    private let query, key, value, outputGradient, output: DeviceCopy<Element>
    private let rows: GuardedTensor<Float>
    private let logSumExp: DeviceCopy<Float>
    private let gradients: [DeviceCopy<Element>]
    private let lengths: DeviceVector<Int32>?

    init(_ operands: Operands<Element>, _ attention: Attention<Element>) throws(AttentionError) {
        self.attention = attention
        self.operands = operands
        stream = try DeviceStream()
        query = try DeviceCopy(operands.query, on: stream)
        key = try DeviceCopy(operands.key, on: stream)
        value = try DeviceCopy(operands.value, on: stream)
        outputGradient = try DeviceCopy(operands.outputGradient, on: stream)
        output = try DeviceCopy(operands.output, on: stream)
        rows = GuardedTensor(operands.logSumExp.extents)
        logSumExp = try DeviceCopy(rows, on: stream)
        var copies: [DeviceCopy<Element>] = []
        for (_, gradient) in operands.gradients { copies.append(try DeviceCopy(gradient, on: stream)) }
        gradients = copies
        lengths = if let known = operands.keyLengths { try DeviceVector(known, on: stream) } else { nil }
    }

    /// Runs the forward pass, and the backward pass if asked for, and fetches what they wrote.
    func run(_ pass: AttentionPass) throws(AttentionError) {
        let result = DeviceAttentionOutput(
            output: output.tensor,
            logSumExp: try DeviceVector<Float>(
                borrowing: logSumExp.tensor.address, count: attention.shape.rowCount))
        try attention.forward(
            query: query.tensor, key: key.tensor, value: value.tensor, into: result, keyLengths: lengths,
            on: stream)
        try output.fetch(operands.output, on: stream)
        try logSumExp.fetch(rows, on: stream)
        for (index, row) in rows.elements.enumerated() { operands.logSumExp.elements[index] = Double(row) }
        guard pass == .backward else { return }
        try attention.backward(
            query: query.tensor, key: key.tensor, value: value.tensor, forward: result,
            outputGradient: outputGradient.tensor,
            into: DeviceAttentionGradients(
                query: gradients[0].tensor, key: gradients[1].tensor, value: gradients[2].tensor),
            keyLengths: lengths, on: stream)
        for (copy, (_, gradient)) in zip(gradients, operands.gradients) {
            try copy.fetch(gradient, on: stream)
        }
    }
}

/// A guarded tensor's copy on the device, guards and all.
private struct DeviceCopy<Element: AttentionElement> {
    private let whole: DeviceTensor<Element>
    /// The tensor between its guards.
    let tensor: DeviceTensor<Element>

    init(_ guarded: GuardedTensor<Element>, on stream: DeviceStream) throws(AttentionError) {
        let memory = UnsafeBufferPointer(guarded.memory)
        let extents = TensorExtents(1, 1, 1, memory.count)
        whole = try DeviceTensor(extents, on: stream)
        try whole.copy(from: TensorView(memory, extents: extents), on: stream)
        tensor = try whole.view(
            extents: guarded.extents, strides: guarded.strides, offset: GuardedTensor<Element>.margin)
    }

    func fetch(_ guarded: GuardedTensor<Element>, on stream: DeviceStream) throws(AttentionError) {
        _ = guarded.memory.update(fromContentsOf: try whole.copyToHost(on: stream).elements)
    }
}
