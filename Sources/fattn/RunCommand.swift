import ArgumentParser
import FlashAttention
import SafeTensors

/// `fattn run`: attention over the tensors of a file.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Compute attention over the tensors of a safetensors file.",
        discussion: """
            Reads q [B,H,Nq,D], k [B,Hkv,Nk,D] and v [B,Hkv,Nk,Dv], F64, F32, F16 or BF16, and if they are \
            there seqused_k [B] (I32: only the first so many keys of a batch entry exist) and, with \
            --backward, dout. Writes out [B,H,Nq,Dv] and lse [B,H,Nq] (natural logarithm, F32 or F64), and \
            with --backward dq, dk and dv.
            """)

    @Argument(help: "The safetensors file to read.")
    var input: String
    @Option(help: "The safetensors file to write.")
    var output: String
    @Option(help: "How to compute.")
    var algorithm: AttentionAlgorithm = .flashAttention2
    @Option(help: "Where to compute.")
    var device: Device = .cpu
    @Option(help: "Who multiplies the blocks on the CPU; the faster for the shape by default.")
    var gemm: GEMMProvider?
    @Option(help: "The order of the axes, in the input and the output.")
    var layout: TensorLayout = .bhnd
    @Flag(help: "A query sees the keys up to its own position only.")
    var causal = false
    @Option(
        help: """
            With --causal: whether the last query sees the last key, or the first the first only; \
            bottom-right by default.
            """)
    var causalAlignment: CausalAlignment?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("The factor on Q Kᵀ; 1/√D by default.", valueName: "number"))
    var scale: Double?
    @Flag(help: "Compute the gradients too; the input then holds dout.")
    var backward = false
    @Flag(help: "Bit-identical results from run to run, which the CPU gives in any case.")
    var deterministic = false
    @OptionGroup var workers: ThreadOptions
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Tile sizes; chosen by shape by default.", valueName: "Br,Bc"))
    var blockSize: TileSizes?
    @OptionGroup var later: LaterOptions

    func run() throws {
        try checkEnvironment()
        try later.refuse()
        try device.require()
        try workers.check()
        if let scale, !scale.isFinite {
            throw CommandError.usage("--scale: expected a finite number, got \(scale)")
        }
        if let causalAlignment, !causal {
            throw CommandError.usage(
                "--causal-alignment: expected --causal beside it, got \(causalAlignment.rawValue) alone")
        }
        let file = try SafeTensorsFile(path: input)
        try withElementType(of: file) { try run(file, $0) }
    }

    private var options: AttentionOptions {
        AttentionOptions(
            mask: causal ? .causal(causalAlignment ?? .bottomRight) : .full, softmaxScale: scale,
            algorithm: algorithm, device: device, gemm: gemm, threads: workers.threads,
            parallelRuntime: workers.parallel, tileSizes: blockSize, deterministic: deterministic)
    }

    private func run<Element: FileElement>(_ file: SafeTensorsFile, _ type: Element.Type) throws {
        let problem = try InputProblem<Element>(file, layout: layout, needsGradient: backward)
        let largest = Double(Element.Accumulator.largestSoftmaxScale)
        if let scale, abs(scale) > largest {
            throw CommandError.usage(
                "--scale: expected a magnitude up to \(scientific(largest)) for "
                    + "\(Element.dataType.rawValue), got \(scale)")
        }
        let attention = try Attention<Element>(shape: problem.shape, options: options)
        try Processor.require(memory: neededMemory(attention), for: "memory for the work and its results")
        // Before the work, so that an output which cannot be written does not cost it.
        try AtomicFile.checkWritable(output)
        try withExtendedLifetime(problem) {
            let forward = try ForwardResult(problem, attention)
            try withExtendedLifetime(forward) {
                var writer = SafeTensorsWriter()
                try forward.add(to: &writer, problem)
                guard let outputGradient = problem.outputGradient else { return try writer.write(to: output) }
                let backward = try BackwardResult(problem, attention, forward, outputGradient)
                try withExtendedLifetime(backward) {
                    try backward.add(to: &writer, problem)
                    try writer.write(to: output)
                }
            }
        }
    }
}

extension RunCommand {
    /// Bytes of the results, and on the CPU of the working memory.
    private func neededMemory<Element: FileElement>(_ attention: Attention<Element>) -> Int {
        let (shape, made) = (attention.shape, attention.configuration)
        var elements = shape.outputExtents.count
        if backward {
            elements += shape.queryExtents.count + shape.keyExtents.count + shape.valueExtents.count
        }
        // The lse in Double, and as it is written.
        let results =
            elements * MemoryLayout<Element>.size
            + shape.rowCount * (MemoryLayout<Double>.size + MemoryLayout<Element.Accumulator>.size)
        let working = device == .cpu ? made.workspaceBytes(backward: backward) : 0
        return results + min(working, .max - results)
    }
}

/// What a forward pass over a file's problem wrote.
private struct ForwardResult<Element: FileElement> {
    /// `[B,H,Nq,Dv]`
    let output: OutputBuffer<Element>
    /// `[B,H,Nq]`: as the backward pass takes it, and as the file does.
    let logSumExp: OutputBuffer<Double>
    private let roundedLogSumExp: OutputBuffer<Element.Accumulator>

    init(_ problem: InputProblem<Element>, _ attention: Attention<Element>) throws {
        let shape = problem.shape
        output = try OutputBuffer(count: shape.outputExtents.count)
        logSumExp = try OutputBuffer(count: shape.rowCount)
        roundedLogSumExp = try OutputBuffer(count: shape.rowCount)
        try attention.forward(
            query: TensorView(problem.query.buffer, extents: shape.queryExtents, layout: problem.layout),
            key: TensorView(problem.key.buffer, extents: shape.keyExtents, layout: problem.layout),
            value: TensorView(problem.value.buffer, extents: shape.valueExtents, layout: problem.layout),
            output: MutableTensorView(output.buffer, extents: shape.outputExtents, layout: problem.layout),
            logSumExp: logSumExp.buffer, keyLengths: problem.keyLengths?.buffer)
        for row in 0..<shape.rowCount {
            roundedLogSumExp.buffer[row] = Element.Accumulator.rounding(logSumExp.buffer[row])
        }
    }

    func add(to writer: inout SafeTensorsWriter, _ problem: InputProblem<Element>) throws {
        let shape = problem.shape
        let outputShape = problem.layout.shape(shape.outputExtents)
        try writer.add("out", shape: outputShape, UnsafeBufferPointer(output.buffer))
        try writer.add(
            "lse", shape: [shape.batch, shape.heads, shape.queryLength],
            UnsafeBufferPointer(roundedLogSumExp.buffer))
    }
}

/// What a backward pass over a file's problem wrote.
private struct BackwardResult<Element: FileElement> {
    /// dQ `[B,H,Nq,D]`, dK `[B,Hkv,Nk,D]`, dV `[B,Hkv,Nk,Dv]`
    let query, key, value: OutputBuffer<Element>

    init(
        _ problem: InputProblem<Element>, _ attention: Attention<Element>, _ forward: ForwardResult<Element>,
        _ outputGradient: TensorElements<Element>
    ) throws {
        let (shape, layout) = (problem.shape, problem.layout)
        query = try OutputBuffer(count: shape.queryExtents.count)
        key = try OutputBuffer(count: shape.keyExtents.count)
        value = try OutputBuffer(count: shape.valueExtents.count)
        try attention.backward(
            query: TensorView(problem.query.buffer, extents: shape.queryExtents, layout: layout),
            key: TensorView(problem.key.buffer, extents: shape.keyExtents, layout: layout),
            value: TensorView(problem.value.buffer, extents: shape.valueExtents, layout: layout),
            output: TensorView(
                UnsafeBufferPointer(forward.output.buffer), extents: shape.outputExtents, layout: layout),
            logSumExp: UnsafeBufferPointer(forward.logSumExp.buffer),
            outputGradient: TensorView(outputGradient.buffer, extents: shape.outputExtents, layout: layout),
            queryGradient: MutableTensorView(query.buffer, extents: shape.queryExtents, layout: layout),
            keyGradient: MutableTensorView(key.buffer, extents: shape.keyExtents, layout: layout),
            valueGradient: MutableTensorView(value.buffer, extents: shape.valueExtents, layout: layout),
            keyLengths: problem.keyLengths?.buffer)
    }

    func add(to writer: inout SafeTensorsWriter, _ problem: InputProblem<Element>) throws {
        let (shape, layout) = (problem.shape, problem.layout)
        try writer.add("dq", shape: layout.shape(shape.queryExtents), UnsafeBufferPointer(query.buffer))
        try writer.add("dk", shape: layout.shape(shape.keyExtents), UnsafeBufferPointer(key.buffer))
        try writer.add("dv", shape: layout.shape(shape.valueExtents), UnsafeBufferPointer(value.buffer))
    }
}

/// Memory for one output tensor, which lives as long as this object.
private final class OutputBuffer<Element: SafeTensorsScalar> {
    private let memory: AlignedBuffer
    let buffer: UnsafeMutableBufferPointer<Element>

    /// - Throws: `AttentionError.outOfMemory`
    init(count: Int) throws(AttentionError) {
        memory = try AlignedBuffer(byteCount: count * MemoryLayout<Element>.stride)
        buffer = UnsafeMutableBufferPointer(
            start: memory.base.bindMemory(to: Element.self, capacity: count), count: count)
    }
}
