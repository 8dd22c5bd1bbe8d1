import AttentionVerification
import FlashAttention

/// A problem with its operands, for tests that go through the public calls.
struct Problem<Element: AttentionElement> {
    var shape: AttentionShape
    var mask: AttentionMask
    var keyLengths: [Int]?
    var inputs: GeneratedInputs<Element>

    init(
        _ shape: AttentionShape, mask: AttentionMask = .full, keyLengths: [Int]? = nil, seed: UInt64 = 1
    ) {
        self.shape = shape
        self.mask = mask
        self.keyLengths = keyLengths
        inputs = GeneratedInputs(
            .normal, for: Oracle(shape: shape, mask: mask, keyLengths: keyLengths), seed: seed)
    }

    func attention(_ options: AttentionOptions = .init()) throws(AttentionError) -> Attention<Element> {
        var options = options
        options.mask = mask
        return try Attention(shape: shape, options: options)
    }

    func forward(_ attention: Attention<Element>) throws(AttentionError) -> AttentionOutput<Element> {
        try attention.forward(
            query: inputs.query, key: inputs.key, value: inputs.value, keyLengths: keyLengths)
    }

    /// Forward and backward.
    func run(_ attention: Attention<Element>) throws(AttentionError) -> Outcome<Element> {
        let forward = try forward(attention)
        let gradients = try attention.backward(
            query: inputs.query, key: inputs.key, value: inputs.value, forward: forward,
            outputGradient: inputs.outputGradient, keyLengths: keyLengths)
        return Outcome(forward: forward, gradients: gradients)
    }

    func run(_ options: AttentionOptions) throws(AttentionError) -> Outcome<Element> {
        try run(attention(options))
    }
}

/// All that both passes give.
struct Outcome<Element: AttentionElement> {
    var forward: AttentionOutput<Element>
    var gradients: AttentionGradients<Element>

    /// As Double, which holds a Float with its sign and all its digits.
    var tensors: [(name: String, elements: [Double])] {
        [
            ("output", forward.output.elements.map { Double($0.widened) }), ("logSumExp", forward.logSumExp),
            ("queryGradient", gradients.query.elements.map { Double($0.widened) }),
            ("keyGradient", gradients.key.elements.map { Double($0.widened) }),
            ("valueGradient", gradients.value.elements.map { Double($0.widened) }),
        ]
    }

    /// The names of the tensors that differ from another outcome's in any bit.
    func differences(from other: Outcome) -> [String] {
        zip(tensors, other.tensors).compactMap { mine, theirs in
            let same =
                mine.elements.count == theirs.elements.count
                && zip(mine.elements, theirs.elements).allSatisfy { $0.bitPattern == $1.bitPattern }
            return same ? nil : mine.name
        }
    }

    /// The largest difference of any entry.
    func distance(from other: Outcome) -> Double {
        zip(tensors, other.tensors).reduce(0) { worst, pair in
            zip(pair.0.elements, pair.1.elements).reduce(worst) {
                $1.0 == $1.1 ? $0 : max($0, abs($1.0 - $1.1))
            }
        }
    }
}

/// Every algorithm with every provider that is here.
let computations: [AttentionOptions] = AttentionAlgorithm.allCases.flatMap { algorithm in
    VerificationMachine.current.providers.map { AttentionOptions(algorithm: algorithm, gemm: $0) }
}
