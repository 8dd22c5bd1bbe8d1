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
    private var attention: Attention<Element>?
    private let results: BenchResults<Element>

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
            + "\(row.algorithm.rawValue) \(row.gemm.rawValue)"
    }

    /// Plans the case, computes it once and compares it with the right answer.
    func prepare() {
        do {
            let attention = try Attention<Element>(
                shape: row.shape,
                options: AttentionOptions(
                    mask: row.mask.mask, algorithm: row.algorithm, gemm: row.gemm, threads: row.threads,
                    parallelRuntime: row.parallel, tileSizes: row.tiles))
            try describe(attention.configuration)
            try verify(attention)
            self.attention = row.failure == nil ? attention : nil
        } catch {
            row.failure = CommandError(error)?.message ?? "\(error)"
        }
    }

    private func describe(_ made: AttentionConfiguration) throws {
        let isForward = row.pass == .forward
        row.threads = made.threads
        let tiles = isForward ? made.forwardTiles : made.backwardTiles
        row.tiles = tiles
        row.extraBytes = isForward ? made.forwardWorkspaceBytes : made.backwardWorkspaceBytes
        count(tiles)
        try Processor.require(memory: max(row.extraBytes ?? 0, made.forwardWorkspaceBytes))
    }

    private func count(_ tiles: TileSizes) {
        row.flops = WorkCount.flops(
            row.shape, mask: row.mask.mask, pass: row.pass, keyLengths: inputs.keyLengths)
        row.trafficBytes = WorkCount.trafficBytes(
            row.shape, mask: row.mask.mask, pass: row.pass, algorithm: row.algorithm, sizes: tiles,
            scalarSize: MemoryLayout<Element>.size, keyLengths: inputs.keyLengths)
    }

    private func verify(_ attention: Attention<Element>) throws {
        results.forward = try attention.forward(
            query: inputs.query, key: inputs.key, value: inputs.value, keyLengths: inputs.keyLengths)
        var errors = check.forward(results.forward)
        let largest = results.forward.logSumExp.reduce(0.0) { $1.isFinite ? max($0, abs($1)) : $0 }
        row.failure = check.fault(errors, largestLogSumExp: largest)
        if row.pass == .backward, row.failure == nil {
            results.gradients = try attention.backward(
                query: inputs.query, key: inputs.key, value: inputs.value, forward: results.forward,
                outputGradient: inputs.outputGradient, keyLengths: inputs.keyLengths)
            errors = check.backward(results.gradients, forward: results.forward)
            row.failure = check.fault(errors, largestLogSumExp: largest)
        }
        let results = errors.filter { $0.tensor != "logSumExp" }
        row.maximumError = results.map(\.maximum).max()
        row.rmse = results.map(\.rmse).max()
    }

    /// Runs the case again and again for so many seconds, but once at least.
    func runFor(_ seconds: Double) {
        do {
            var left = seconds
            repeat {
                let time = try runOnce()
                row.times.append(time)
                spent += time
                left -= time
            } while left > 0
        } catch {
            row.failure = CommandError(error)?.message ?? "\(error)"
        }
    }

    func sortTimes() { row.times.sort() }

    private func runOnce() throws -> Double {
        guard let attention else { return 0 }
        let clock = ContinuousClock()
        let start = clock.now
        switch row.pass {
        case .forward:
            try attention.forward(
                query: inputs.query, key: inputs.key, value: inputs.value, into: &results.forward,
                keyLengths: inputs.keyLengths)
        case .backward:
            try attention.backward(
                query: inputs.query, key: inputs.key, value: inputs.value, forward: results.forward,
                outputGradient: inputs.outputGradient, into: &results.gradients, keyLengths: inputs.keyLengths)
        }
        return (clock.now - start) / .seconds(1)
    }
}
