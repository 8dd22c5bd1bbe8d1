import AttentionVerification
import CAllocationCounter
import FlashAttention
import Testing

@Suite("Attention memory")
struct AttentionMemoryTests {
    /// Bytes that the second to the sixth call of both passes ask for, per call.
    private static func bytesPerCall<Element: AttentionElement>(
        _ type: Element.Type, _ options: AttentionOptions, length: Int
    ) throws -> Int {
        let problem = Problem<Element>(
            AttentionShape(batch: 1, heads: 2, queryLength: length, headSize: 32), mask: .causal)
        let attention = try problem.attention(options)
        var result = try problem.run(attention)
        let inputs = problem.inputs
        allocation_counter_start()
        for _ in 0..<5 {
            try attention.forward(
                query: inputs.query, key: inputs.key, value: inputs.value, into: &result.forward)
            try attention.backward(
                query: inputs.query, key: inputs.key, value: inputs.value, forward: result.forward,
                outputGradient: inputs.outputGradient, into: &result.gradients)
        }
        return allocation_counter_bytes() / 5
    }

    /// In a process of its own, since the count is of all that goes on in one. What is left is the handful
    /// of closures and queue items of a parallel loop, the same for any size of the problem.
    @Test(.enabled(if: allocation_counter_works()))
    func callsAfterTheFirst_allocateNoWorkingMemory() async {
        await #expect(processExitsWith: .success) {
            for options in computations {
                for threads in [1, 2] {
                    var options = options
                    options.threads = threads
                    for type in [Float.self, BFloat16.self] as [any AttentionElement.Type] {
                        let short = try AttentionMemoryTests.bytesPerCall(type, options, length: 64)
                        let long = try AttentionMemoryTests.bytesPerCall(type, options, length: 640)
                        let name = "\(type) \(options.algorithm) \(threads) threads"
                        #expect(long <= 8192, "\(name): \(long) bytes")
                        #expect(long <= short + 2048, "\(name): \(short), then \(long) bytes")
                    }
                }
            }
        }
    }

    @Test func flashAttention2_at64kTokens_staysUnder64MB() throws {
        let shape = AttentionShape(batch: 1, heads: 1, queryLength: 65536, headSize: 64)
        let made = try Attention<Float>(shape: shape, options: AttentionOptions(threads: 2)).configuration
        #expect(made.forwardWorkspaceBytes < 64 << 20)
        #expect(made.backwardWorkspaceBytes < 64 << 20)
    }

    @Test func flashAttention2_forward_needsTheSameForAnyLength() throws {
        let sizes = try [4096, 65536, 1 << 20].map { length in
            let shape = AttentionShape(batch: 1, heads: 1, queryLength: length, headSize: 64)
            return try Attention<Float>(shape: shape, options: AttentionOptions(threads: 2))
                .configuration.forwardWorkspaceBytes
        }
        #expect(Set(sizes).count == 1)
    }

    @Test func naive_needsTheScoresWhole() throws {
        let shape = AttentionShape(batch: 1, heads: 2, queryLength: 1000, headSize: 64)
        let options = AttentionOptions(algorithm: .naive)
        let made = try Attention<Float>(shape: shape, options: options).configuration
        #expect(made.forwardWorkspaceBytes >= 2 * 1000 * 1000 * 4)
    }
}
