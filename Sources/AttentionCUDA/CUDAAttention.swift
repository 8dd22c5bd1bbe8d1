import AttentionCore

/// Attention on a GPU: one planned problem, over operands on the device or in host memory.
package final class CUDAAttention<Element: AttentionElement>: AttentionBackend {
    package let configuration: AttentionConfiguration
    package let device: CUDADevice
    private let shape: AttentionShape
    private let forwardPass, backwardPass: PassPlan

    /// - Parameters:
    ///   - library: the kernels of the device to compute on; those of the first if nil.
    /// - Throws: `AttentionError.deviceUnavailable` without a device, `invalidOption` for what it does not
    ///   compute.
    package init(
        shape: AttentionShape, options: AttentionOptions, library: KernelLibrary? = nil
    ) throws(AttentionError) {
        guard let format = KernelFormat(Element.self) else {
            throw .invalidOption("cuda: element type must be Float, Float16 or BFloat16, got \(Element.self)")
        }
        if let tiles = options.tileSizes {
            throw .invalidOption(
                "cuda: expected no tileSizes, for every kernel has its own, "
                    + "got \(tiles.queries),\(tiles.keys)"
            )
        }
        let library = if let library { library } else { try KernelLibrary.shared() }
        let problem = LaunchProblem(
            shape: shape, mask: options.mask,
            softmaxScale: options.softmaxScale ?? 1 / Double(shape.headSize).squareRoot(),
            algorithm: options.algorithm, format: format, deterministic: options.deterministic,
            multiprocessorCount: library.device.multiprocessorCount)
        if let refusal = problem.refusal { throw .invalidOption(refusal) }
        self.shape = shape
        device = library.device
        forwardPass = try PassPlan(problem, .forward, library)
        backwardPass = try PassPlan(problem, .backward, library)
        configuration = AttentionConfiguration(
            algorithm: options.algorithm, gemm: options.gemm ?? .simd, kernels: options.kernels ?? .generic,
            threads: options.threads ?? 1, softmaxScale: problem.softmaxScale,
            forwardTiles: forwardPass.tiles, backwardTiles: backwardPass.tiles,
            forwardWorkspaceBytes: forwardPass.workingMemory.byteCount,
            backwardWorkspaceBytes: backwardPass.workingMemory.byteCount)
    }

    /// Queues a pass over operands on the device, validated by the caller, whose memory stays until the
    /// stream has done it. Without gradients among the operands it is the forward pass.
    package func enqueue(_ operands: DeviceOperands, on stream: CUDAStream) throws(AttentionError) {
        try (operands.gradients == nil ? forwardPass : backwardPass).enqueue(operands, on: stream)
    }

    package func forward(_ x: ForwardOperands<Element>) throws(AttentionError) {
        let call = try HostCall<Element>(device)
        defer { withExtendedLifetime(call) {} }
        let query = try call.copyIn(x.query)
        let key = try call.copyIn(x.key)
        let value = try call.copyIn(x.value)
        let output = try call.make(x.output.extents)
        let logSumExp = try call.allocate(4 * shape.rowCount)
        let operands = DeviceOperands(
            query: query, key: key, value: value, output: output.view, logSumExp: logSumExp.address,
            keyLengths: try call.copyIn(x.keyLengths))
        try enqueue(operands, on: call.stream)
        let rows = try call.copyOut(logSumExp, count: shape.rowCount, as: Float.self)
        let finish = try call.copyOut(output.memory, to: x.output)
        try call.stream.synchronize()
        finish()
        for (index, value) in rows.enumerated() { x.logSumExp[index] = Double(value) }
    }

    package func backward(_ x: BackwardOperands<Element>) throws(AttentionError) {
        let call = try HostCall<Element>(device)
        defer { withExtendedLifetime(call) {} }
        let query = try call.copyIn(x.query)
        let key = try call.copyIn(x.key)
        let value = try call.copyIn(x.value)
        let output = try call.copyIn(x.output)
        let outputGradient = try call.copyIn(x.outputGradient)
        let queryGradient = try call.make(x.queryGradient.extents)
        let keyGradient = try call.make(x.keyGradient.extents)
        let valueGradient = try call.make(x.valueGradient.extents)
        let logSumExp = try call.copyIn(x.logSumExp[..<shape.rowCount].map { Float($0) })
        let operands = DeviceOperands(
            query: query, key: key, value: value, output: output, logSumExp: logSumExp,
            keyLengths: try call.copyIn(x.keyLengths),
            gradients: .init(
                output: outputGradient, query: queryGradient.view, key: keyGradient.view,
                value: valueGradient.view))
        try enqueue(operands, on: call.stream)
        let finish = [
            try call.copyOut(queryGradient.memory, to: x.queryGradient),
            try call.copyOut(keyGradient.memory, to: x.keyGradient),
            try call.copyOut(valueGradient.memory, to: x.valueGradient),
        ]
        try call.stream.synchronize()
        for unpack in finish { unpack() }
    }
}
