import ArgumentParser
import FlashAttention

// Options that several commands share.

/// The threads that work.
struct ThreadOptions: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Threads at work; all cores by default.", valueName: "count"))
    var threads: Int?
    @Option(help: "Who brings the threads; dispatch by default.")
    var parallel: ParallelRuntime?

    /// - Throws: `CommandError.usage` for fewer threads than one, or more than any machine has.
    func check() throws {
        if let threads, !(1...4096).contains(threads) {
            throw CommandError.usage("--threads: expected 1 to 4096, got \(threads)")
        }
    }
}

/// Which cases of a problem are timed: lists, of which every combination is a case.
struct CaseOptions: ParsableArguments {
    /// The command's own choice if empty; and so below.
    @Option(
        help: ArgumentHelp("naive, online, fa1, fa2.", valueName: "list"),
        transform: { try list($0) as [AttentionAlgorithm] })
    var algorithm: [AttentionAlgorithm] = []
    @Option(
        help: ArgumentHelp("f32, f64, f16, bf16.", valueName: "list"),
        transform: { try list($0) as [BenchType] })
    var dtype: [BenchType] = []
    @Option(
        name: .customLong("pass"), help: ArgumentHelp("forward, backward.", valueName: "list"),
        transform: { try list($0) as [AttentionPass] })
    var passes = AttentionPass.allCases
    @Option(
        help: ArgumentHelp("full, causal.", valueName: "list"), transform: { try list($0) as [BenchMask] })
    var mask = BenchMask.allCases

    /// The algorithms asked for, or these.
    func algorithms(or standard: [AttentionAlgorithm]) -> [AttentionAlgorithm] {
        algorithm.isEmpty ? standard : algorithm
    }

    /// The types asked for, or Float.
    var types: [BenchType] { dtype.isEmpty ? [.f32] : dtype }
}
