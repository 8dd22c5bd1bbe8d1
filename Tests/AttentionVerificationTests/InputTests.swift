import AttentionVerification
import FlashAttention
import Testing

@Suite("Generated inputs")
struct InputTests {
    private let oracle = Oracle(
        shape: AttentionShape(batch: 1, heads: 4, queryLength: 64, headSize: 64), mask: .causal)

    @Test func generator_followsItsPublishedSequence() {
        var random = SplitMix64(seed: 1_234_567)
        #expect(random.next() == 6_457_827_717_110_365_317)
        #expect(random.next() == 3_203_168_211_198_807_973)
    }

    @Test func entries_areTheGeneratorsNumbersInOrder() {
        // Odd counts, and more than one piece for the threads.
        let shape = AttentionShape(batch: 1, heads: 3, queryLength: 5, keyLength: 23_001, headSize: 1)
        let made = GeneratedInputs<Double>(.normal, for: Oracle(shape: shape), seed: 9)
        var random = SplitMix64(seed: 9)
        for tensor in [made.query, made.key, made.value, made.outputGradient] {
            #expect(tensor.elements == tensor.elements.indices.map { _ in random.normal() })
        }
    }

    @Test func sameSeed_givesTheSameEntriesInEveryType() {
        let doubles = GeneratedInputs<Double>(.outlier, for: oracle, seed: 5)
        let floats = GeneratedInputs<Float>(.outlier, for: oracle, seed: 5)
        #expect(doubles.query.elements.map { Float($0) } == floats.query.elements)
        let other = GeneratedInputs<Float>(.outlier, for: oracle, seed: 6)
        #expect(other.query.elements != floats.query.elements)
    }

    @Test(arguments: [(InputKind.normal, 1.0), (.large, 30.0), (.outlier, 1.1)])
    func variance_isThatOfTheKind(kind: InputKind, expected: Double) {
        let elements = GeneratedInputs<Double>(kind, for: oracle).key.elements
        let mean = elements.reduce(0, +) / Double(elements.count)
        let variance = elements.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(elements.count)
        #expect(abs(mean) <= 0.05 * expected.squareRoot())
        #expect(abs(variance - expected) <= 0.1 * expected)
    }

    @Test(arguments: InputKind.allCases)
    func nonFiniteEntries_areThereWhereTheKindSaysSo(kind: InputKind) {
        let made = GeneratedInputs<Float>(kind, for: oracle)
        let counts = [made.query, made.key, made.value, made.outputGradient].map {
            $0.elements.count { !$0.isFinite }
        }
        let expected =
            switch kind {
            case .normal, .large, .outlier, .hidden: [0, 0, 0, 0]
            case .nanQuery, .infinityQuery: [1, 0, 0, 0]
            case .nanKey, .infinityKey: [0, 1, 0, 0]
            case .nanValue, .infinityValue: [0, 0, 1, 0]
            case .nanGradient, .infinityGradient: [0, 0, 0, 1]
            }
        #expect(counts == expected)
    }
}
