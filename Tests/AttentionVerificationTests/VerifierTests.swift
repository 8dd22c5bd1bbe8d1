import AttentionVerification
import FlashAttention
import Testing

@Suite("Verifier")
struct VerifierTests {
    @Test func quickGrid_passes() {
        let verifier = Verifier()
        for verificationCase in VerificationGrid.cases(quick: true) {
            let result = verifier.run(verificationCase)
            #expect(result.passed, "\(verificationCase): \(result.failures)")
        }
    }

    @Test func computationThatCannotBeHad_isAFailureAndNoCrash() throws {
        let shape = AttentionShape(batch: 1, heads: 1, queryLength: 4, headSize: 4)
        let other = KernelSet.allCases.first { !VerificationMachine.current.kernelSets.contains($0) }
        let result = Verifier().run(
            VerificationCase(
                pass: .forward, element: .f32, algorithm: .naive, gemm: .simd,
                kernels: try #require(other), problem: .init(shape)))
        #expect(!result.passed)
    }
}

/// That a wrong result does not pass.
@Suite("TensorError")
struct TensorErrorTests {
    private func error(_ result: [Double], _ reference: [Double]) -> TensorError {
        TensorError("output", result, reference, absolute: 0.1, proportional: 0)
    }

    @Test func figures_areThoseOfTheDefinition() {
        let found = error([1, 2.5, -4], [1, 2, -4])
        #expect(found.maximum == 0.5 && found.magnitude == 4)
        #expect(found.excess == 5)
        #expect(abs(found.rmse - (0.25 / 3).squareRoot()) <= 1e-15)
    }

    @Test(arguments: [Double.nan, .infinity, -.infinity])
    func nonFiniteResult_whereAFiniteOneIsDue_isInfinitelyWrong(x: Double) {
        let found = error([1, x], [1, 2])
        #expect(found.maximum == .infinity && found.excess == .infinity)
    }

    @Test func finiteResult_whereNaNOrInfinityIsDue_isAMismatch() {
        #expect(error([1, 2], [.nan, 2]).nonFiniteMismatches == 1)
        #expect(error([1, 2], [.infinity, 2]).nonFiniteMismatches == 1)
        #expect(error([.infinity], [.nan]).nonFiniteMismatches == 1)
        #expect(error([.nan, .infinity], [.nan, .infinity]).nonFiniteMismatches == 0)
    }

    @Test func missingMinusInfinityOfAnEmptyRow_isAMismatch() {
        #expect(error([0], [-.infinity]).nonFiniteMismatches == 1)
        #expect(error([-.infinity], [-.infinity]).nonFiniteMismatches == 0)
    }
}

@Suite("SampleCheck")
struct SampleCheckTests {
    private let shape = AttentionShape(batch: 2, heads: 4, keyValueHeads: 2, queryLength: 60, headSize: 16)

    private struct Run {
        var check: SampleCheck<Float>
        var forward: AttentionOutput<Float>
        var gradients: AttentionGradients<Float>
    }

    private func run() throws -> Run {
        let oracle = Oracle(shape: shape, mask: .causal)
        let made = GeneratedInputs<Float>(.normal, for: oracle)
        let attention = try Attention<Float>(shape: shape, options: AttentionOptions(mask: .causal))
        let forward = try attention.forward(query: made.query, key: made.key, value: made.value)
        let gradients = try attention.backward(
            query: made.query, key: made.key, value: made.value, forward: forward,
            outputGradient: made.outputGradient)
        let check = SampleCheck(
            oracle, query: made.query, key: made.key, value: made.value,
            outputGradient: made.outputGradient, rows: 20)
        return Run(check: check, forward: forward, gradients: gradients)
    }

    @Test func rightResult_isWithinTheTolerance() throws {
        let run = try run()
        let errors =
            run.check.forward(run.forward) + run.check.backward(run.gradients, forward: run.forward)
        #expect(errors.count == 5)
        for error in errors { #expect(SampleCheck<Float>.isWithinTolerance(error), "\(error)") }
    }

    @Test func resultOfAnotherMask_isNot() throws {
        let run = try run()
        var wrong = run.gradients
        wrong.key.elements.reverse()
        let errors = run.check.backward(wrong, forward: run.forward)
        #expect(errors.map { SampleCheck<Float>.isWithinTolerance($0) } == [true, false, true])
        var forward = run.forward
        forward.output.elements.reverse()
        let other = run.check.forward(forward)
        #expect(other.map { SampleCheck<Float>.isWithinTolerance($0) } == [false, true])
    }
}
