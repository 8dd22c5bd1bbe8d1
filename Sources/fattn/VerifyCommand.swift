import ArgumentParser
import AttentionVerification
import FlashAttention

/// `fattn verify`: the grid of cases against the FP64 oracle.
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check every algorithm, GEMM provider and kernel table of this machine against FP64.",
        discussion: "The last line is 'N passed, N failed'; the exit code is 1 if any failed.")

    @Option(help: "What to check.")
    var device: Device = .cpu
    @Flag(help: "A sample that takes a few seconds.")
    var quick = false
    @Option(name: .customLong("case"), help: ArgumentHelp("One case alone, by its name.", valueName: "name"))
    var name: String?

    func run() throws {
        try checkEnvironment()
        try device.require()
        let cases = try cases()
        let verifier = Verifier()
        let progress = Progress()
        var failed = 0
        for (index, verificationCase) in cases.enumerated() {
            progress.show("\(index + 1) of \(cases.count), \(failed) failed: \(verificationCase)")
            let result = verifier.run(verificationCase)
            if result.passed && name == nil { continue }
            progress.clear()
            failed += result.passed ? 0 : 1
            report(result)
        }
        progress.clear()
        if name == nil && device == .cpu { sayWhatWasLeftOut() }
        say("\(cases.count - failed) passed, \(failed) failed")
        if failed > 0 { throw CommandError.checkFailed("verify: \(failed) of \(cases.count) cases failed") }
    }

    private func cases() throws -> [VerificationCase] {
        guard let name else { return VerificationGrid.cases(quick: quick, device: device) }
        guard let verificationCase = VerificationCase(name) else {
            throw CommandError.usage("--case: expected a name that verify printed, got '\(name)'")
        }
        let options = verificationCase.options
        try requireAvailable(
            AttentionOptions(device: options.device, gemm: options.gemm, kernels: options.kernels))
        try Processor.requireMemory(
            toCheck: verificationCase.problem.shape, elementSize: MemoryLayout<Double>.size)
        return [verificationCase]
    }

    private func report(_ result: VerificationResult) {
        let name = result.verificationCase.description
        say("\(result.passed ? "passed" : "FAILED") \(name)")
        for failure in result.failures { say("    \(failure)") }
        if self.name == nil { return say("    alone: fattn verify --case \(name)") }
        for error in result.errors {
            say("    \(error.tensor): max error \(scientific(error.maximum)), rmse \(scientific(error.rmse))")
        }
    }

    private func sayWhatWasLeftOut() {
        let skipped = VerificationGrid.skipped(quick: quick)
        if skipped > 0 { say("\(skipped) cases left out: no OpenBLAS on this machine") }
    }
}
