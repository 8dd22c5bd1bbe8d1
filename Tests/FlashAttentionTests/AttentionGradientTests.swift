import AttentionVerification
import FlashAttention
import Testing

/// Every gradient against central differences of the forward pass.
@Suite("Attention gradients")
struct AttentionGradientTests {
    private static let masks: [AttentionMask] = [.full, .causal, .causal(.topLeft)]

    /// Σ dO ∘ O.
    private func loss(_ problem: Problem<Double>, _ attention: Attention<Double>) throws -> Double {
        let output = try problem.forward(attention).output
        return zip(output.elements, problem.inputs.outputGradient.elements).reduce(0) { $0 + $1.0 * $1.1 }
    }

    /// The largest difference between a gradient and the slope of the loss, over all entries.
    private func worst(
        _ problem: Problem<Double>, _ attention: Attention<Double>, _ gradient: Tensor<Double>,
        _ operand: WritableKeyPath<GeneratedInputs<Double>, Tensor<Double>>
    ) throws -> Double {
        let step = 1e-5
        var worst = 0.0
        for index in gradient.elements.indices {
            var moved = problem
            let x = problem.inputs[keyPath: operand].elements[index]
            moved.inputs[keyPath: operand].elements[index] = x + step
            let above = try loss(moved, attention)
            moved.inputs[keyPath: operand].elements[index] = x - step
            let below = try loss(moved, attention)
            worst = max(worst, abs((above - below) / (2 * step) - gradient.elements[index]))
        }
        return worst
    }

    @Test(arguments: computations, masks)
    func gradients_areTheSlopesOfTheLoss(options: AttentionOptions, mask: AttentionMask) throws {
        let shape = AttentionShape(
            batch: 2, heads: 2, keyValueHeads: 1, queryLength: 5, keyLength: 4, headSize: 3,
            valueHeadSize: 2)
        let problem = Problem<Double>(shape, mask: mask, keyLengths: [4, 3])
        var options = options
        options.tileSizes = TileSizes(queries: 2, keys: 2)
        options.softmaxScale = 0.8
        let attention = try problem.attention(options)
        let gradients = try problem.run(attention).gradients
        #expect(try worst(problem, attention, gradients.query, \.query) <= 1e-8)
        #expect(try worst(problem, attention, gradients.key, \.key) <= 1e-8)
        #expect(try worst(problem, attention, gradients.value, \.value) <= 1e-8)
    }
}
