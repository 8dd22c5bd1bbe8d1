import AttentionVerification
import Dispatch
import FlashAttention
import Synchronization
import Testing

/// One plan, used from several threads at once.
@Suite("Attention from several threads", .timeLimit(.minutes(2)))
struct AttentionConcurrencyTests {
    @Test(arguments: computations, [1, 2, 4])
    func callsAtOnce_giveTheResultsOfCallsInTurn(options: AttentionOptions, threads: Int) throws {
        let shape = AttentionShape(
            batch: 1, heads: 2, keyValueHeads: 1, queryLength: 60, keyLength: 50, headSize: 16)
        let problems = (1...8).map { Problem<Float>(shape, mask: .causal, seed: UInt64($0)) }
        var options = options
        options.tileSizes = TileSizes(queries: 8, keys: 8)
        options.threads = threads
        let attention = try problems[0].attention(options)
        let expected = try problems.map { try $0.run(attention) }
        let wrong = Mutex<[String]>([])
        DispatchQueue.concurrentPerform(iterations: 64) { index in
            do {
                let found = try problems[index % 8].run(attention)
                let differences = found.differences(from: expected[index % 8])
                wrong.withLock { $0 += differences }
            } catch {
                wrong.withLock { $0.append("\(error)") }
            }
        }
        #expect(wrong.withLock { $0 } == [])
    }

    @Test func callsFromTasks_giveTheResultsOfCallsInTurn() async throws {
        let shape = AttentionShape(batch: 2, heads: 2, queryLength: 64, headSize: 32)
        let problem = Problem<Double>(shape, mask: .causal)
        let attention = try problem.attention()
        let expected = try problem.run(attention)
        try await withThrowingTaskGroup(of: [String].self) { group in
            for _ in 0..<16 {
                group.addTask { try problem.run(attention).differences(from: expected) }
            }
            for try await differences in group { #expect(differences == []) }
        }
    }

    /// OpenMP, where it is installed, beside Dispatch, from many tasks at once and with more threads than
    /// cores.
    @Test(arguments: AttentionAlgorithm.allCases)
    func anyRuntime_givesTheSameBits(algorithm: AttentionAlgorithm) async throws {
        let shape = AttentionShape(
            batch: 2, heads: 4, keyValueHeads: 2, queryLength: 70, keyLength: 90, headSize: 24)
        let problem = Problem<Float>(shape, mask: .causal)
        let tiles = TileSizes(queries: 16, keys: 16)
        let expected = try problem.run(AttentionOptions(algorithm: algorithm, threads: 1, tileSizes: tiles))
        for runtime in ParallelRuntime.allCases {
            let options = AttentionOptions(
                algorithm: algorithm, parallelRuntime: runtime, tileSizes: tiles)
            do { _ = try problem.attention(options) } catch .libraryUnavailable { continue }
            try await withThrowingTaskGroup(of: [String].self) { group in
                for threads in [2, 3, 8, 33] {
                    var options = options
                    options.threads = threads
                    let attention = try problem.attention(options)
                    group.addTask { try problem.run(attention).differences(from: expected) }
                    group.addTask { try problem.run(attention).differences(from: expected) }
                }
                for try await differences in group { #expect(differences == [], "\(runtime)") }
            }
        }
    }
}
