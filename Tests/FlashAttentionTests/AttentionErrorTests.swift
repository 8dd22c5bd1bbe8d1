import AttentionVerification
import FlashAttention
import Testing

/// Every bad call is refused with an error that names the operand or option, before anything is written.
@Suite("Attention errors")
struct AttentionErrorTests {
    private let shape = AttentionShape(
        batch: 2, heads: 4, keyValueHeads: 2, queryLength: 3, keyLength: 5, headSize: 4, valueHeadSize: 6)

    private typealias Operand = WritableKeyPath<GeneratedInputs<Float>, Tensor<Float>> & Sendable

    private static let operands: [(String, Operand)] = [
        ("query", \.query), ("key", \.key), ("value", \.value),
    ]

    @Test(arguments: [0, 1, 2], [0, 1, 2, 3])
    func extentThatDiffers_isRefusedByName(operand: Int, axis: Int) throws {
        let problem = Problem<Float>(shape)
        let attention = try problem.attention()
        let (name, path) = Self.operands[operand]
        var wrong = problem
        var extents = problem.inputs[keyPath: path].extents
        let right = extents
        switch axis {
        case 0: extents.batch += 1
        case 1: extents.heads += 1
        case 2: extents.length += 1
        default: extents.size += 1
        }
        wrong.inputs[keyPath: path] = Tensor(extents)
        let error = AttentionError.shapeMismatch(
            operand: name, expected: "\(right)", got: "\(extents)")
        #expect(throws: error) { try wrong.forward(attention) }
        #expect(error.description.contains(name))
    }

    @Test func outputOfTheWrongShape_isRefusedByName() throws {
        let problem = Problem<Float>(shape)
        let attention = try problem.attention()
        var result = AttentionOutput(
            output: Tensor<Float>(TensorExtents(2, 4, 3, 5)), logSumExp: [Double](repeating: 0, count: 24))
        #expect(
            throws: AttentionError.shapeMismatch(
                operand: "output", expected: "[2,4,3,6]", got: "[2,4,3,5]")
        ) {
            try attention.forward(
                query: problem.inputs.query, key: problem.inputs.key, value: problem.inputs.value,
                into: &result)
        }
    }

    @Test func logSumExpTooShort_isRefusedAndNothingWritten() throws {
        let problem = Problem<Float>(shape)
        let attention = try problem.attention()
        var result = AttentionOutput(
            output: Tensor<Float>(shape.outputExtents), logSumExp: [Double](repeating: 0, count: 23))
        #expect(throws: AttentionError.bufferTooSmall(operand: "logSumExp", expected: 24, got: 23)) {
            try attention.forward(
                query: problem.inputs.query, key: problem.inputs.key, value: problem.inputs.value,
                into: &result)
        }
        #expect(result.output.elements.allSatisfy { $0 == 0 })
    }

    @Test func backwardOperands_areCheckedByName() throws {
        let problem = Problem<Float>(shape)
        let attention = try problem.attention()
        let good = try problem.run(attention)
        let inputs = problem.inputs
        let wrong = Tensor<Float>(TensorExtents(9, 9, 9, 9))

        func backward(
            _ change: (inout AttentionOutput<Float>, inout Tensor<Float>, inout AttentionGradients<Float>)
                -> Void
        ) throws {
            var (forward, dO, gradients) = (good.forward, inputs.outputGradient, good.gradients)
            change(&forward, &dO, &gradients)
            try attention.backward(
                query: inputs.query, key: inputs.key, value: inputs.value, forward: forward,
                outputGradient: dO, into: &gradients)
        }
        func mismatch(_ name: String, _ extents: TensorExtents) -> AttentionError {
            .shapeMismatch(operand: name, expected: "\(extents)", got: "[9,9,9,9]")
        }
        #expect(throws: mismatch("output", shape.outputExtents)) {
            try backward { forward, _, _ in forward.output = wrong }
        }
        #expect(throws: mismatch("outputGradient", shape.outputExtents)) {
            try backward { _, dO, _ in dO = wrong }
        }
        #expect(throws: mismatch("queryGradient", shape.queryExtents)) {
            try backward { _, _, gradients in gradients.query = wrong }
        }
        #expect(throws: mismatch("keyGradient", shape.keyExtents)) {
            try backward { _, _, gradients in gradients.key = wrong }
        }
        #expect(throws: mismatch("valueGradient", shape.valueExtents)) {
            try backward { _, _, gradients in gradients.value = wrong }
        }
        #expect(throws: AttentionError.bufferTooSmall(operand: "logSumExp", expected: 24, got: 1)) {
            try backward { forward, _, _ in forward.logSumExp = [0] }
        }
    }

    @Test(arguments: [[5], [5, 5, 5], [], [6, 5], [5, -1], [Int.max, 5], [Int.min, 5]])
    func keyLengthsThatDoNotFit_areRefused(lengths: [Int]) throws {
        var problem = Problem<Float>(shape)
        problem.keyLengths = lengths
        let attention = try problem.attention()
        let error = #expect(throws: AttentionError.self) { try problem.forward(attention) }
        guard case .invalidKeyLengths(_, let got) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(got == "\(lengths.count)" || lengths.map { "\($0)" }.contains(got))
    }

    @Test func spanTooShort_isRefusedByName() throws {
        let problem = Problem<Float>(shape)
        let attention = try problem.attention()
        var output = [Float](repeating: 0, count: 144)
        var logSumExp = [Double](repeating: 0, count: 24)
        let short = [Float](repeating: 0, count: 79)
        var outputSpan = output.mutableSpan
        var logSumExpSpan = logSumExp.mutableSpan
        do {
            try attention.forward(
                query: problem.inputs.query.elements.span, key: short.span,
                value: problem.inputs.value.elements.span, output: &outputSpan, logSumExp: &logSumExpSpan)
            Issue.record("no error")
        } catch {
            #expect(error == .bufferTooSmall(operand: "key", expected: 80, got: 79))
        }
    }

    @Test func shapeThatIsNone_isRefusedWhenPlanned() {
        var wrong = shape
        wrong.keyValueHeads = 3
        #expect(throws: AttentionError.self) { try Attention<Float>(shape: wrong) }
    }

    @Test(arguments: [
        AttentionOptions(softmaxScale: .nan), AttentionOptions(softmaxScale: 3e38),
        AttentionOptions(softmaxScale: -2.4e38), AttentionOptions(threads: 0),
        AttentionOptions(tileSizes: TileSizes(queries: 0, keys: 1)),
    ])
    func optionThatMeansNothing_isRefusedWhenPlanned(options: AttentionOptions) {
        #expect(throws: AttentionError.self) { try Attention<Float>(shape: shape, options: options) }
    }

    /// Of Double, 3e38 is a scale like any other.
    @Test func scaleBeyondTheAccumulator_isRefusedByName() throws {
        #expect(throws: AttentionError.self) {
            try Attention<BFloat16>(shape: shape, options: AttentionOptions(softmaxScale: 3e38))
        }
        #expect(throws: AttentionError.self) {
            try Attention<Double>(shape: shape, options: AttentionOptions(softmaxScale: 1.3e308))
        }
        _ = try Attention<Double>(shape: shape, options: AttentionOptions(softmaxScale: 3e38))
        do throws(AttentionError) {
            _ = try Attention<Float>(shape: shape, options: AttentionOptions(softmaxScale: 3e38))
        } catch {
            #expect(error.description.contains("softmaxScale must be from -2.3"))
            #expect(error.description.hasSuffix("in Float, got 3e+38"))
        }
    }

    /// The largest scale there is makes the softmax a maximum, and no NaN.
    @Test(arguments: computations, [1.0, -1])
    func largestScale_isComputedWith(options: AttentionOptions, sign: Double) throws {
        func check<Element: AttentionElement>(_ type: Element.Type) throws {
            func tensor(_ elements: [Double]) throws -> Tensor<Element> {
                try Tensor(TensorExtents(1, 1, 3, 1), elements: elements.map { Element.rounding($0) })
            }
            var options = options
            options.softmaxScale = sign * Double(Element.Accumulator.largestSoftmaxScale)
            let result = try scaledDotProductAttention(
                query: tensor([1, 0.5, 0]), key: tensor([sign, sign / 2, 0]), value: tensor([5, 4, 3]),
                options: options)
            #expect(result.output.elements.map { Double($0.widened) } == [5, 5, 4])
        }
        try check(Float.self)
        try check(Double.self)
        try check(BFloat16.self)
    }

    @Test func kernelsOfAnotherMachine_areRefusedByName() {
        for set in KernelSet.allCases where !VerificationMachine.current.kernelSets.contains(set) {
            let error = #expect(throws: AttentionError.self) {
                try Attention<Float>(shape: shape, options: AttentionOptions(kernels: set))
            }
            guard case .kernelsUnavailable(_, let got) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(got == set.rawValue)
        }
    }

    @Test func oneShotOperandsThatDoNotMatch_areRefusedByName() {
        let query = Tensor<Float>(TensorExtents(1, 4, 3, 8))
        let key = Tensor<Float>(TensorExtents(1, 2, 5, 8))
        func refused(
            _ query: Tensor<Float>, _ key: Tensor<Float>, _ value: Tensor<Float>
        ) -> AttentionError? {
            #expect(throws: AttentionError.self) {
                try scaledDotProductAttention(query: query, key: key, value: value)
            }
        }
        let short = Tensor<Float>(TensorExtents(1, 2, 4, 8))
        #expect(
            refused(query, key, short)
                == .shapeMismatch(operand: "value", expected: "[1,2,5,8]", got: "[1,2,4,8]"))
        let narrow = Tensor<Float>(TensorExtents(1, 2, 5, 7))
        #expect(
            refused(query, narrow, key)
                == .shapeMismatch(operand: "key", expected: "[1,2,5,8]", got: "[1,2,5,7]"))
        let three = Tensor<Float>(TensorExtents(1, 3, 5, 8))
        guard case .invalidShape = refused(query, three, three) else {
            Issue.record("H not a multiple of Hkv")
            return
        }
    }

    /// Tensors that fit an integer, and scores that do not.
    @Test(arguments: computations)
    func scoresBeyondAnInteger_areRefusedOrNeverNeeded(options: AttentionOptions) {
        for length in [1 << 31, 1 << 40, 1 << 58] {
            let huge = AttentionShape(batch: 1, heads: 1, queryLength: length, headSize: 1)
            do {
                let made = try Attention<Float>(shape: huge, options: options).configuration
                #expect(made.forwardWorkspaceBytes >= 0 && made.backwardWorkspaceBytes >= 0)
            } catch {
                guard case .invalidShape = error else {
                    Issue.record("\(error)")
                    continue
                }
            }
        }
    }

    @Test func moreMemoryThanTheMachineHas_isAnError() throws {
        let long = AttentionShape(batch: 1, heads: 1, queryLength: 1 << 22, headSize: 1)
        let error = #expect(throws: AttentionError.self) {
            let problem = Problem<Float>(long)
            _ = try problem.run(AttentionOptions(algorithm: .naive))
        }
        guard case .outOfMemory(let bytes) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(bytes >= 1 << 46)
    }

    @Test(arguments: computations, [
        TileSizes(queries: .max, keys: .max), TileSizes(queries: 1, keys: .max),
        TileSizes(queries: .max, keys: 1), TileSizes(queries: .max / 2, keys: .max / 2),
    ])
    func tilesBeyondTheProblem_areAsTheWholeProblem(options: AttentionOptions, tiles: TileSizes) throws {
        let problem = Problem<Double>(shape, mask: .causal)
        let expected = try problem.run(options)
        var options = options
        options.tileSizes = tiles
        #expect(try problem.run(options).distance(from: expected) <= 1e-12)
    }

    @Test(.enabled(if: VerificationMachine.current.providers.contains(.openblas)))
    func strideBeyondWhatBLASTakes_isRefusedByName() throws {
        let shape = AttentionShape(batch: 1, heads: 1, queryLength: 2, headSize: 4)
        let attention = try Attention<Float>(shape: shape, options: AttentionOptions(gemm: .openblas))
        // Nobody reads from here: the call ends before.
        let nowhere = UnsafeMutableBufferPointer<Float>(
            start: UnsafeMutablePointer(bitPattern: 64), count: 1 << 40)
        let far = MutableTensorView(
            nowhere, extents: shape.queryExtents, strides: TensorStrides(batch: 0, head: 0, row: 1 << 31))
        var logSumExp = [Double](repeating: 0, count: 2)
        let error = #expect(throws: AttentionError.self) {
            try logSumExp.withUnsafeMutableBufferPointer {
                try attention.forward(
                    query: far.readOnly, key: far.readOnly, value: far.readOnly, output: far, logSumExp: $0)
            }
        }
        guard case .invalidStrides(operand: "query", _, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test(arguments: computations, [10_000, Int.max])
    func moreThreadsThanTasks_giveTheSameResult(options: AttentionOptions, threads: Int) throws {
        let problem = Problem<Float>(shape)
        let expected = try problem.run(options)
        var options = options
        options.threads = threads
        #expect(try problem.run(options).differences(from: expected) == [])
    }
}
