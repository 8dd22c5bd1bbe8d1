#if CUDA
import AttentionCore

/// Attention on a GPU for operands in host memory: copies in, computes in F32, copies out, and waits.
package final class CUDAAttention: AttentionBackend {
    package typealias Element = Float
    package let configuration: AttentionConfiguration
    private let problem: LaunchProblem
    private let library: KernelLibrary

    /// - Throws: `AttentionError.deviceUnavailable` without a device, `invalidOption` for what it does not
    ///   compute.
    package init(shape: AttentionShape, options: AttentionOptions) throws(AttentionError) {
        library = try KernelLibrary.shared()
        problem = LaunchProblem(
            shape: shape, mask: options.mask,
            softmaxScale: options.softmaxScale ?? 1 / Double(shape.headSize).squareRoot(),
            algorithm: options.algorithm, format: .f32, deterministic: true,
            multiprocessorCount: library.device.multiprocessorCount)
        if let refusal = problem.refusal { throw .invalidOption(refusal) }
        let forward = WorkingMemory(problem, .forward), backward = WorkingMemory(problem, .backward)
        configuration = AttentionConfiguration(
            algorithm: options.algorithm, gemm: options.gemm ?? .simd, kernels: options.kernels ?? .generic,
            threads: options.threads ?? 1,
            softmaxScale: problem.softmaxScale, forwardTiles: try library.tiles(problem.forwardSteps),
            backwardTiles: try library.tiles(problem.backwardSteps), forwardWorkspaceBytes: forward.byteCount,
            backwardWorkspaceBytes: backward.byteCount)
    }

    package func forward(_ x: ForwardOperands<Float>) throws(AttentionError) {
        let call = try HostCall(problem, library)
        let query = try call.copyIn(x.query), key = try call.copyIn(x.key), value = try call.copyIn(x.value)
        let output = try call.make(x.output.extents)
        let logSumExp = try call.allocate(4 * problem.shape.rowCount)
        let operands = DeviceOperands(
            query: query, key: key, value: value, output: output.view, logSumExp: logSumExp.address,
            keyLengths: try call.copyIn(x.keyLengths))
        try library.run(problem, .forward, operands, on: call.stream)
        let rows = try call.copyOut(logSumExp, count: problem.shape.rowCount)
        let finish = try call.copyOut(output.memory, to: x.output)
        try call.stream.synchronize()
        finish()
        for (index, value) in rows.values.enumerated() { x.logSumExp[index] = Double(value) }
    }

    package func backward(_ x: BackwardOperands<Float>) throws(AttentionError) {
        let call = try HostCall(problem, library)
        let query = try call.copyIn(x.query), key = try call.copyIn(x.key), value = try call.copyIn(x.value)
        let output = try call.copyIn(x.output), outputGradient = try call.copyIn(x.outputGradient)
        let queryGradient = try call.make(x.queryGradient.extents)
        let keyGradient = try call.make(x.keyGradient.extents)
        let valueGradient = try call.make(x.valueGradient.extents)
        let logSumExp = try call.copyIn(x.logSumExp.prefix(problem.shape.rowCount).map(Float.init))
        let operands = DeviceOperands(
            query: query, key: key, value: value, output: output, logSumExp: logSumExp,
            keyLengths: try call.copyIn(x.keyLengths),
            gradients: .init(
                output: outputGradient, query: queryGradient.view, key: keyGradient.view,
                value: valueGradient.view))
        try library.run(problem, .backward, operands, on: call.stream)
        let finish = [
            try call.copyOut(queryGradient.memory, to: x.queryGradient),
            try call.copyOut(keyGradient.memory, to: x.keyGradient),
            try call.copyOut(valueGradient.memory, to: x.valueGradient),
        ]
        try call.stream.synchronize()
        for unpack in finish { unpack() }
    }
}

extension KernelLibrary {
    /// Br and Bc of a pass: those of its largest tiles.
    fileprivate func tiles(_ steps: [LaunchStep]) throws(AttentionError) -> TileSizes {
        var sizes = TileSizes(queries: 1, keys: 1)
        for step in steps where !step.name.contains("prepare") && !step.name.contains("finish") {
            let geometry = try kernel(step.name, in: step.module).geometry
            sizes.queries = max(sizes.queries, Int(geometry.queryTile))
            sizes.keys = max(sizes.keys, Int(geometry.keyTile))
        }
        return sizes
    }
}
#endif
