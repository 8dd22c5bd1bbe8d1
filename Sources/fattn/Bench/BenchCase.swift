import AttentionVerification
import FlashAttention

/// The right answer of a problem under a mask, on some rows; and the forward result from which the backward
/// passes start.
final class BenchCheck<Element: FileElement> {
    let inputs: BenchInputs<Element>
    private let sample: SampleCheck<Element>
    private let isRandom: Bool

    init(_ inputs: BenchInputs<Element>, _ problem: BenchProblem, _ mask: BenchMask) {
        self.inputs = inputs
        isRandom = problem.file == nil
        sample = SampleCheck(
            Oracle(shape: problem.shape, mask: mask.mask, keyLengths: problem.keyLengths),
            query: inputs.query, key: inputs.key, value: inputs.value, outputGradient: inputs.outputGradient)
    }

    /// The errors of O and lse.
    func forward(_ result: AttentionOutput<Element>) -> [TensorError] { sample.forward(result) }

    /// The errors of dQ, dK and dV.
    func backward(
        _ result: AttentionGradients<Element>, forward: AttentionOutput<Element>
    ) -> [TensorError] { sample.backward(result, forward: forward) }

    /// What is wrong, or nil.
    ///
    /// A file's logits may be large, and their rounding errors with them: there the tolerance grows with the
    /// largest lse, 8 ulp of it, and with the largest entry.
    func fault(_ errors: [TensorError], largestLogSumExp: Double) -> String? {
        let ulp = Double(Element.Accumulator.ulpOfOne)
        let absolute = Element.self == Double.self ? Tolerance.doubleRelative : Tolerance.floatAbsolute
        for error in errors where !SampleCheck<Element>.isWithinTolerance(error) {
            let allowed =
                (absolute + 8 * ulp * largestLogSumExp) * max(1, error.magnitude)
                + Tolerance.rounding(Element.self) * error.magnitude
            if isRandom || error.nonFiniteMismatches > 0 || !(error.maximum <= allowed) {
                return "\(error.tensor) is off by \(scientific(error.maximum))"
            }
        }
        return nil
    }
}

/// Where a case writes.
final class BenchResults<Element: FileElement> {
    var forward: AttentionOutput<Element>
    var gradients: AttentionGradients<Element>

    init() {
        let none = Tensor<Element>(TensorExtents(0, 0, 0, 0))
        forward = AttentionOutput(output: none, logSumExp: [])
        gradients = AttentionGradients(query: none, key: none, value: none)
    }
}

/// One case while it is being checked and timed.
final class BenchCase<Element: FileElement> {
    private(set) var row: BenchRow
    private(set) var spent = 0.0
    private let inputs: BenchInputs<Element>
    private let check: BenchCheck<Element>
    private let results: BenchResults<Element>
    private var engine: (any BenchEngine<Element>)?

    /// - Parameters:
    ///   - results: where they go; cases that are timed in turns may share one place.
    init(
        _ row: BenchRow, _ inputs: BenchInputs<Element>, _ check: BenchCheck<Element>,
        results: BenchResults<Element> = .init()
    ) {
        self.row = row
        self.inputs = inputs
        self.check = check
        self.results = results
    }

    var name: String {
        "\(row.shape.argument) \(row.type.rawValue) \(row.mask.rawValue) \(row.pass.rawValue) "
            + "\(row.algorithm.rawValue) \(row.gemm?.rawValue ?? row.device.rawValue)"
    }

    /// Plans the case, computes it once and compares it with the right answer.
    func prepare() {
        do {
            let attention = try Attention<Element>(
                shape: row.shape,
                options: AttentionOptions(
                    mask: row.mask.mask, algorithm: row.algorithm, device: row.device, gemm: row.gemm,
                    threads: row.threads, parallelRuntime: row.parallel, tileSizes: row.tiles))
            try describe(attention.configuration)
            let engine: any BenchEngine<Element> =
                row.device == .cpu
                ? HostEngine(attention, inputs, results) : try DeviceEngine(attention, inputs)
            try verify(engine)
            guard row.failure == nil else { return }
            try engine.describe(&row)
            self.engine = engine
        } catch {
            row.failure = CommandError(error)?.message ?? "\(error)"
        }
    }

    private func describe(_ made: AttentionConfiguration) throws {
        let isForward = row.pass == .forward
        if row.device == .cpu { row.threads = made.threads }
        let tiles = isForward ? made.forwardTiles : made.backwardTiles
        row.tiles = tiles
        row.extraBytes = isForward ? made.forwardWorkspaceBytes : made.backwardWorkspaceBytes
        count(tiles)
        guard row.device == .cpu else { return }
        try Processor.require(memory: made.workspaceBytes(backward: !isForward))
    }

    private func count(_ tiles: TileSizes) {
        row.flops = WorkCount.flops(
            row.shape, mask: row.mask.mask, pass: row.pass, keyLengths: inputs.keyLengths)
        row.trafficBytes = WorkCount.trafficBytes(
            row.shape, mask: row.mask.mask, pass: row.pass, algorithm: row.algorithm, sizes: tiles,
            scalarSize: MemoryLayout<Element>.size, keyLengths: inputs.keyLengths)
    }

    private func verify(_ engine: any BenchEngine<Element>) throws {
        let forward = try engine.forward()
        var errors = check.forward(forward)
        let largest = forward.logSumExp.reduce(0.0) { $1.isFinite ? max($0, abs($1)) : $0 }
        row.failure = check.fault(errors, largestLogSumExp: largest)
        if row.pass == .backward, row.failure == nil {
            errors = check.backward(try engine.backward(), forward: forward)
            row.failure = check.fault(errors, largestLogSumExp: largest)
        }
        let results = errors.filter { $0.tensor != "logSumExp" }
        row.maximumError = results.map(\.maximum).max()
        row.rmse = results.map(\.rmse).max()
    }

    /// Runs the case again and again for so many seconds, but once at least.
    func runFor(_ seconds: Double) {
        guard let engine else { return }
        do {
            let clock = ContinuousClock()
            let start = clock.now
            repeat { row.times.append(try engine.time(row.pass)) } while clock.now - start < .seconds(seconds)
            spent += (clock.now - start) / .seconds(1)
        } catch {
            row.failure = CommandError(error)?.message ?? "\(error)"
        }
    }

    func sortTimes() { row.times.sort() }

    /// Says how much faster the case is than the fastest of its like on the CPU.
    func compare(with others: [BenchCase]) {
        guard row.device != .cpu, let median = row.median else { return }
        let times = others.map(\.row).filter { $0.device == .cpu && $0.algorithm == row.algorithm }
            .compactMap(\.median)
        row.speedup = times.min().map { $0 / median }
    }
}
