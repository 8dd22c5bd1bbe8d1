import AttentionVerification
import FlashAttention
import Testing

/// The public calls: each way in gives the same result.
@Suite("Attention")
struct AttentionTests {
    private let shape = AttentionShape(
        batch: 2, heads: 4, keyValueHeads: 2, queryLength: 9, keyLength: 13, headSize: 5, valueHeadSize: 7)

    @Test func result_ofASmallProblem_isTheOneWorkedOutByHand() throws {
        // One query, two keys, scale 1: P = softmax(0, ln 3) = (1/4, 3/4).
        let query = try Tensor<Double>(TensorExtents(1, 1, 1, 1), elements: [1])
        let key = try Tensor<Double>(TensorExtents(1, 1, 2, 1), elements: [0, 1.0986122886681098])
        let value = try Tensor<Double>(TensorExtents(1, 1, 2, 2), elements: [4, 0, 0, 8])
        let result = try scaledDotProductAttention(query: query, key: key, value: value, scale: 1)
        #expect(abs(result.output[0, 0, 0, 0] - 1) <= 1e-14)
        #expect(abs(result.output[0, 0, 0, 1] - 6) <= 1e-14)
        #expect(abs(result.logSumExp[0] - 1.3862943611198906) <= 1e-14)
    }

    @Test func oneShot_isThePlannedCall() throws {
        let problem = Problem<Float>(shape, mask: .causal, keyLengths: [13, 4])
        let planned = try problem.forward(problem.attention())
        let oneShot = try scaledDotProductAttention(
            query: problem.inputs.query, key: problem.inputs.key, value: problem.inputs.value,
            mask: .causal, keyLengths: [13, 4])
        #expect(oneShot.output.elements == planned.output.elements)
        #expect(oneShot.logSumExp == planned.logSumExp)
    }

    @Test func oneShot_takesMaskAndScaleFromTheOptionsUnlessItIsGivenOthers() throws {
        let inputs = Problem<Float>(shape).inputs
        func output(_ mask: AttentionMask?, _ scale: Double?, _ options: AttentionOptions) throws -> [Float] {
            try scaledDotProductAttention(
                query: inputs.query, key: inputs.key, value: inputs.value, mask: mask, scale: scale,
                options: options
            ).output.elements
        }
        let options = AttentionOptions(mask: .causal, softmaxScale: 0.25)
        #expect(try output(nil, nil, options) == output(.causal, 0.25, .init()))
        #expect(try output(.full, 2, options) == output(nil, 2, .init()))
    }

    private func relaid(_ tensor: Tensor<Float>, _ layout: TensorLayout) -> Tensor<Float> {
        var result = Tensor<Float>(tensor.extents, layout: layout)
        let e = tensor.extents
        for b in 0..<e.batch {
            for h in 0..<e.heads {
                for n in 0..<e.length { for d in 0..<e.size { result[b, h, n, d] = tensor[b, h, n, d] } }
            }
        }
        return result
    }

    @Test(arguments: AttentionAlgorithm.allCases)
    func layouts_mayDifferFromOperandToOperand(algorithm: AttentionAlgorithm) throws {
        let problem = Problem<Float>(shape, mask: .causal)
        let expected = try problem.run(AttentionOptions(algorithm: algorithm))
        var mixed = problem
        mixed.inputs.query = relaid(problem.inputs.query, .bnhd)
        mixed.inputs.value = relaid(problem.inputs.value, .bnhd)
        var found = try mixed.run(AttentionOptions(algorithm: algorithm))
        #expect(found.forward.output.layout == .bnhd)
        #expect(found.gradients.query.layout == .bnhd && found.gradients.key.layout == .bhnd)
        found.forward.output = relaid(found.forward.output, .bhnd)
        found.gradients.query = relaid(found.gradients.query, .bhnd)
        found.gradients.value = relaid(found.gradients.value, .bhnd)
        #expect(found.differences(from: expected) == [])
    }

    @Test(arguments: TensorLayout.allCases)
    func spans_giveTheResultOfTensors(layout: TensorLayout) throws {
        let lengths: [Int32] = [13, 6]
        var problem = Problem<Float>(shape, mask: .causal, keyLengths: lengths.map { Int($0) })
        problem.inputs.query = relaid(problem.inputs.query, layout)
        problem.inputs.key = relaid(problem.inputs.key, layout)
        problem.inputs.value = relaid(problem.inputs.value, layout)
        problem.inputs.outputGradient = relaid(problem.inputs.outputGradient, layout)
        let attention = try problem.attention()
        let expected = try problem.run(attention)

        let inputs = problem.inputs
        var output = [Float](repeating: .nan, count: shape.outputExtents.count)
        var logSumExp = [Double](repeating: .nan, count: shape.rowCount)
        var outputSpan = output.mutableSpan
        var logSumExpSpan = logSumExp.mutableSpan
        try attention.forward(
            query: inputs.query.elements.span, key: inputs.key.elements.span,
            value: inputs.value.elements.span, output: &outputSpan, logSumExp: &logSumExpSpan,
            layout: layout, keyLengths: lengths.span)

        var dQ = [Float](repeating: .nan, count: shape.queryExtents.count)
        var dK = [Float](repeating: .nan, count: shape.keyExtents.count)
        var dV = [Float](repeating: .nan, count: shape.valueExtents.count)
        var queryGradient = dQ.mutableSpan
        var keyGradient = dK.mutableSpan
        var valueGradient = dV.mutableSpan
        try attention.backward(
            query: inputs.query.elements.span, key: inputs.key.elements.span,
            value: inputs.value.elements.span, output: output.span, logSumExp: logSumExp.span,
            outputGradient: inputs.outputGradient.elements.span, queryGradient: &queryGradient,
            keyGradient: &keyGradient, valueGradient: &valueGradient, layout: layout,
            keyLengths: lengths.span)

        var found = expected
        found.forward.output.elements = output
        found.forward.logSumExp = logSumExp
        found.gradients.query.elements = dQ
        found.gradients.key.elements = dK
        found.gradients.value.elements = dV
        #expect(found.differences(from: expected) == [])
    }

    @Test func spans_withoutKeyLengths_seeEveryKey() throws {
        let problem = Problem<Double>(shape)
        let attention = try problem.attention()
        let expected = try problem.forward(attention)
        var output = [Double](repeating: .nan, count: shape.outputExtents.count)
        var logSumExp = [Double](repeating: .nan, count: shape.rowCount)
        var outputSpan = output.mutableSpan
        var logSumExpSpan = logSumExp.mutableSpan
        try attention.forward(
            query: problem.inputs.query.elements.span, key: problem.inputs.key.elements.span,
            value: problem.inputs.value.elements.span, output: &outputSpan, logSumExp: &logSumExpSpan)
        #expect(output == expected.output.elements && logSumExp == expected.logSumExp)
    }

    /// Keys that no query head attends to still have gradients, which are 0.
    @Test(arguments: computations, [3, 40])
    func noQueryHeads_giveZeroGradients(options: AttentionOptions, length: Int) throws {
        let shape = AttentionShape(
            batch: 2, heads: 0, keyValueHeads: 3, queryLength: length, keyLength: 40, headSize: 4)
        let attention = try Attention<Float>(shape: shape, options: options)
        let rows = Tensor<Float>(shape.queryExtents)
        let keys = try Tensor<Float>(
            shape.keyExtents, elements: Array(repeating: 1, count: shape.keyExtents.count))
        let forward = try attention.forward(query: rows, key: keys, value: keys)
        var gradients = AttentionGradients(query: rows, key: keys, value: keys)
        try attention.backward(
            query: rows, key: keys, value: keys, forward: forward, outputGradient: rows, into: &gradients)
        #expect(gradients.key.elements.allSatisfy { $0 == 0 })
        #expect(gradients.value.elements.allSatisfy { $0 == 0 })
    }

    @Test func resultThatIsThere_isOverwrittenWhole() throws {
        let problem = Problem<Float>(shape, mask: .causal)
        let attention = try problem.attention()
        let expected = try problem.run(attention)
        var found = expected
        for index in found.forward.output.elements.indices { found.forward.output.elements[index] = .nan }
        for index in found.forward.logSumExp.indices { found.forward.logSumExp[index] = .nan }
        for index in found.gradients.query.elements.indices { found.gradients.query.elements[index] = .nan }
        for index in found.gradients.key.elements.indices { found.gradients.key.elements[index] = .nan }
        for index in found.gradients.value.elements.indices { found.gradients.value.elements[index] = .nan }
        let inputs = problem.inputs
        try attention.forward(
            query: inputs.query, key: inputs.key, value: inputs.value, into: &found.forward)
        try attention.backward(
            query: inputs.query, key: inputs.key, value: inputs.value, forward: found.forward,
            outputGradient: inputs.outputGradient, into: &found.gradients)
        #expect(found.differences(from: expected) == [])
    }

    @Test func configuration_fillsInEveryDefault() throws {
        let attention = try Attention<Float>(shape: shape)
        let made = attention.configuration
        #expect(made.algorithm == .flashAttention2)
        #expect(made.threads >= 1)
        #expect(abs(made.softmaxScale - 1 / 5.0.squareRoot()) <= 1e-15)
        #expect(made.forwardTiles.queries >= 1 && made.forwardTiles.keys >= 1)
        #expect(made.backwardTiles.queries >= 1 && made.backwardTiles.keys >= 1)
        #expect(VerificationMachine.current.kernelSets.contains(made.kernels))
    }

    @Test(arguments: [
        AttentionShape(batch: 0, heads: 2, queryLength: 4, headSize: 8),
        AttentionShape(batch: 2, heads: 0, queryLength: 4, headSize: 8),
        AttentionShape(batch: 2, heads: 2, queryLength: 0, keyLength: 4, headSize: 8),
        AttentionShape(batch: 2, heads: 2, queryLength: 4, keyLength: 0, headSize: 8),
        AttentionShape(batch: 0, heads: 0, queryLength: 0, keyLength: 0, headSize: 8),
    ], AttentionAlgorithm.allCases)
    func emptyProblem_givesZerosAndMinusInfinity(
        shape: AttentionShape, algorithm: AttentionAlgorithm
    ) throws {
        for mask in [AttentionMask.full, .causal] {
            let problem = Problem<Float>(shape, mask: mask)
            let found = try problem.run(AttentionOptions(algorithm: algorithm))
            #expect(found.forward.logSumExp.count == shape.rowCount)
            #expect(found.forward.logSumExp.allSatisfy { $0 == -.infinity })
            let gradients = found.gradients
            for tensor in [found.forward.output, gradients.query, gradients.key, gradients.value] {
                #expect(tensor.elements.allSatisfy { $0 == 0 })
            }
        }
    }
}
