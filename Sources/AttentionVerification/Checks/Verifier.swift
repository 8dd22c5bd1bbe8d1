import FlashAttention

/// Runs cases and compares them with the right answer.
///
/// Keeps the inputs and the right answer of the last problem, so that cases should come sorted by problem,
/// as ``VerificationGrid`` has them.
public final class Verifier {
    private var references: [VerificationCase.ElementType: any AnyReference] = [:]

    public init() {}

    /// Computes a case with the library and judges every tensor it writes.
    ///
    /// Checked beside the figures: that nothing is written outside the tensors, that all of each is written,
    /// and that the library computed with the algorithm, provider and micro-kernels asked for.
    public func run(_ verificationCase: VerificationCase) -> VerificationResult {
        let (element, problem) = (verificationCase.element, verificationCase.problem)
        if let kept = references[element], kept.problem == problem { return kept.check(verificationCase) }
        guard let reference = Self.reference(element, problem) else {
            var result = VerificationResult(verificationCase: verificationCase)
            result.failures = ["\(element) does not exist on this platform"]
            return result
        }
        references[element] = reference
        return reference.check(verificationCase)
    }

    private static func reference(
        _ element: VerificationCase.ElementType, _ problem: VerificationCase.Problem
    ) -> (any AnyReference)? {
        switch element {
        case .f64: return Reference<Double>(problem)
        case .f32: return Reference<Float>(problem)
        case .bf16: return Reference<BFloat16>(problem)
        case .f16:
            #if (os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64)
            return nil
            #else
            return Reference<Float16>(problem)
            #endif
        }
    }
}

/// A reference of any element type.
private protocol AnyReference: AnyObject {
    var problem: VerificationCase.Problem { get }
    func check(_ c: VerificationCase) -> VerificationResult
}

/// One problem's inputs, and the right answer where it has been asked for.
private final class Reference<Element: AttentionElement>: AnyReference {
    let problem: VerificationCase.Problem
    private let oracle: Oracle
    private let inputs: GeneratedInputs<Element>
    private lazy var operands = OracleInputs(
        query: inputs.query, key: inputs.key, value: inputs.value, outputGradient: inputs.outputGradient)
    private lazy var forward = oracle.forward(operands)
    private lazy var backward = oracle.backward(operands)
    /// Errors of the naive computations that served as a measure.
    private var naiveErrors: [NaiveKey: [TensorError]] = [:]

    private struct NaiveKey: Hashable {
        var pass: AttentionPass
        /// Nil for the plain loops, against which the library's naive algorithm itself is measured.
        var source: [String]?
    }

    init(_ problem: VerificationCase.Problem) {
        self.problem = problem
        oracle = problem.oracle
        inputs = GeneratedInputs(problem.inputs, for: oracle)
    }

    func check(_ c: VerificationCase) -> VerificationResult {
        var result = VerificationResult(verificationCase: c)
        do {
            let run = try CaseRun(c, inputs)
            result.failures = run.faults
            result.errors = compare(c, run.tensors)
            let judge = Judge(
                element: c.element, inputs: problem.inputs,
                factor: c.algorithm == .naive && !c.element.isRounded
                    ? Tolerance.plainFactor : Tolerance.naiveFactor)
            for errors in [result.errors] + (run.fromHost.map { [compare(c, $0)] } ?? []) {
                for (index, error) in errors.enumerated() {
                    if let fault = try judge.fault(error, naive: { try self.naive(c, run.tiles)[index] }) {
                        result.failures.append(fault)
                    }
                }
            }
            if c.device != .cpu { result.failures += try compareWithCPU(c, run, judge) }
        } catch {
            result.failures.append("\(error)")
        }
        return result
    }

    /// What differs from the CPU's result of the same case by more than two such computations may differ:
    /// each is allowed so much beside the right answer. What is not finite on one shall not be on the other.
    private func compareWithCPU(
        _ c: VerificationCase, _ run: CaseRun, _ judge: Judge
    ) throws -> [String] {
        var host = c
        host.device = .cpu
        host.kernels = try MachineInfo.defaultKernels()
        let onCPU = try CaseRun(host, inputs).tensors
        var judge = judge
        judge.factor *= 2
        var failures: [String] = []
        for (index, name) in c.pass.tensorNames.enumerated() {
            let reference = onCPU[index].map { $0.isFinite ? $0 : .infinity }
            let difference = judge.measure("\(name) beside the CPU's", run.tensors[index], reference)
            let fault = try judge.fault(difference, naive: { try self.naive(c, run.tiles)[index] })
            if let fault { failures.append(fault) }
        }
        return failures
    }

    private func compare(_ c: VerificationCase, _ tensors: [[Double]]) -> [TensorError] {
        let judge = Judge(element: c.element, inputs: problem.inputs)
        let expected =
            switch c.pass {
            case .forward: [forward.output, forward.logSumExp]
            case .backward: [backward.query, backward.key, backward.value]
            }
        return c.pass.tensorNames.indices.map {
            judge.measure(c.pass.tensorNames[$0], tensors[$0], expected[$0])
        }
    }

    /// The errors of the ordinary computation of the same case in the same type, over the same tiles: both
    /// then sum the same scores in the same order, and at logits of ±100 the rounding of a score is most of
    /// the error. What is compared is the algorithm, not the luck of another order.
    private func naive(_ c: VerificationCase, _ tiles: TileSizes) throws(AttentionError) -> [TensorError] {
        // In F16 and BF16 the library's own naive algorithm rounds less than the ordinary computation does.
        let isPlain = c.algorithm == .naive || c.element.isRounded
        let key = NaiveKey(
            pass: c.pass, source: isPlain ? nil : [c.gemm.rawValue, c.kernels.rawValue, "\(tiles)"])
        if let known = naiveErrors[key] { return known }
        let tensors: [[Double]]
        if isPlain {
            tensors = PlainAttention<Element>(oracle, operands).tensors(c.pass)
        } else {
            var naive = c
            naive.algorithm = .naive
            naive.tileSizes = c.device == .cpu ? tiles : nil
            tensors = try CaseRun(naive, inputs).tensors
        }
        let errors = compare(c, tensors)
        naiveErrors[key] = errors
        return errors
    }
}

extension AttentionPass {
    /// What the pass writes.
    fileprivate var tensorNames: [String] {
        self == .forward ? ["output", "logSumExp"] : ["queryGradient", "keyGradient", "valueGradient"]
    }
}
