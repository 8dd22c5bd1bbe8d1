import AttentionVerification
import FlashAttention
import Testing

/// What holds for attention whatever the inputs.
@Suite("Attention laws")
struct AttentionLawsTests {
    private let shape = AttentionShape(
        batch: 2, heads: 4, keyValueHeads: 2, queryLength: 70, keyLength: 90, headSize: 24, valueHeadSize: 40)

    private func threads<Element>(
        _ type: Element.Type, _ options: AttentionOptions, _ tiles: TileSizes?
    ) throws where Element: AttentionElement {
        let problem = Problem<Element>(shape, mask: .causal, keyLengths: [90, 61])
        var options = options
        options.tileSizes = tiles
        options.threads = 1
        let single = try problem.run(options)
        for threads in [1, 2, 3, 5, 8] {
            options.threads = threads
            let attention = try problem.attention(options)
            for _ in 0..<3 {
                let differences = try problem.run(attention).differences(from: single)
                #expect(differences == [], "\(Element.self), \(threads) threads")
            }
        }
    }

    @Test(arguments: computations, [TileSizes(queries: 16, keys: 16), nil])
    func anyNumberOfThreads_givesTheSameBits(options: AttentionOptions, tiles: TileSizes?) throws {
        try threads(Float.self, options, tiles)
        try threads(Double.self, options, tiles)
        try threads(BFloat16.self, options, tiles)
    }

    /// Few queries, whose keys are split among tasks and merged by whoever comes last.
    @Test(arguments: [AttentionMask.full, .causal])
    func anyNumberOfThreads_givesTheSameBitsWithSplitKeys(mask: AttentionMask) throws {
        let shape = AttentionShape(
            batch: 2, heads: 6, keyValueHeads: 2, queryLength: 3, keyLength: 900, headSize: 32)
        let problem = Problem<Float>(shape, mask: mask, keyLengths: [900, 411])
        for tiles in [nil, TileSizes(queries: 4, keys: 16)] {
            var options = AttentionOptions(threads: 1, tileSizes: tiles)
            let single = try problem.run(options)
            for threads in [2, 3, 8] {
                options.threads = threads
                let attention = try problem.attention(options)
                for _ in 0..<20 {
                    let differences = try problem.run(attention).differences(from: single)
                    #expect(differences == [], "\(threads) threads")
                }
            }
        }
    }

    @Test(arguments: computations)
    func anyTileSizes_giveTheSameResult(options: AttentionOptions) throws {
        for mask in [AttentionMask.full, .causal, .causal(.topLeft)] {
            let problem = Problem<Double>(shape, mask: mask)
            let reference = try problem.run(options)
            for (queries, keys) in [(1, 1), (3, 7), (16, 16), (70, 90), (64, 8), (500, 500)] {
                var options = options
                options.tileSizes = TileSizes(queries: queries, keys: keys)
                let distance = try problem.run(options).distance(from: reference)
                #expect(distance <= 1e-12, "\(mask) \(queries) × \(keys)")
            }
        }
    }

    @Test(arguments: computations)
    func valuesOfOne_giveOutputsOfOne(options: AttentionOptions) throws {
        var problem = Problem<Float>(shape, mask: .causal)
        problem.inputs.value.elements = problem.inputs.value.elements.map { _ in 1 }
        let output = try problem.forward(problem.attention(options)).output
        #expect(output.elements.allSatisfy { abs($0 - 1) <= 1e-6 })
    }

    /// The first key's P underflows to 0 when later keys come, and 0 · NaN is NaN.
    @Test(arguments: computations)
    func visibleNaN_survivesAnyLaterMaximum(options: AttentionOptions) throws {
        let extents = TensorExtents(1, 1, 8, 1)
        let query = try Tensor<Float>(extents, elements: .init(repeating: 1, count: 8))
        let key = try Tensor<Float>(extents, elements: [-300, -300, -300, -300, 1, 1, 1, 1])
        let value = try Tensor<Float>(extents, elements: [.nan, 1, 1, 1, 1, 1, 1, 1])
        var options = options
        options.tileSizes = TileSizes(queries: 4, keys: 4)
        let result = try scaledDotProductAttention(
            query: query, key: key, value: value, scale: 1, options: options)
        #expect(result.output.elements.allSatisfy { $0.isNaN })
    }

    @Test(arguments: computations)
    func orderOfTheKeys_doesNotMatter(options: AttentionOptions) throws {
        let problem = Problem<Double>(shape)
        var permuted = problem
        var random = SplitMix64(seed: 2)
        let order = Array(0..<shape.keyLength).shuffled(using: &random)
        permute(&permuted.inputs.key, problem.inputs.key, order)
        permute(&permuted.inputs.value, problem.inputs.value, order)

        var expected = try problem.run(options)
        let found = try permuted.run(options)
        let (dK, dV) = (expected.gradients.key, expected.gradients.value)
        permute(&expected.gradients.key, dK, order)
        permute(&expected.gradients.value, dV, order)
        #expect(found.distance(from: expected) <= 1e-12)
    }

    private func permute(_ to: inout Tensor<Double>, _ from: Tensor<Double>, _ order: [Int]) {
        for b in 0..<from.extents.batch {
            for h in 0..<from.extents.heads {
                for (j, source) in order.enumerated() {
                    for d in 0..<from.extents.size { to[b, h, j, d] = from[b, h, source, d] }
                }
            }
        }
    }

    @Test(arguments: computations)
    func shiftOfEveryScoreInARow_doesNotMatter(options: AttentionOptions) throws {
        // A component that all keys share adds the same to every score of a row.
        let problem = Problem<Double>(shape)
        var shifted = problem
        for b in 0..<shape.batch {
            for h in 0..<shape.keyValueHeads {
                for j in 0..<shape.keyLength { shifted.inputs.key[b, h, j, 0] += 3 }
            }
        }
        let expected = try problem.forward(problem.attention(options)).output
        let found = try shifted.forward(shifted.attention(options)).output
        #expect(zip(found.elements, expected.elements).allSatisfy { abs($0 - $1) <= 1e-12 })
    }

    @Test(arguments: computations)
    func causal_laterKeysDoNotMatter(options: AttentionOptions) throws {
        let square = AttentionShape(batch: 1, heads: 2, queryLength: 50, headSize: 16)
        let problem = Problem<Float>(square, mask: .causal)
        var options = options
        options.tileSizes = TileSizes(queries: 16, keys: 16)
        let whole = try problem.forward(problem.attention(options)).output
        var changed = problem
        for h in 0..<2 {
            for j in 30..<50 { for d in 0..<16 { changed.inputs.key[0, h, j, d] = .nan } }
            for j in 30..<50 { for d in 0..<16 { changed.inputs.value[0, h, j, d] = .infinity } }
        }
        let partial = try changed.forward(changed.attention(options)).output
        for h in 0..<2 {
            for i in 0..<30 {
                for d in 0..<16 { #expect(partial[0, h, i, d] == whole[0, h, i, d], "\(h) \(i) \(d)") }
            }
        }
    }

    @Test(arguments: computations)
    func keyLength_isAsIfTheTensorEndedThere(options: AttentionOptions) throws {
        let long = Problem<Double>(shape, mask: .causal, keyLengths: [61, 61])
        var short = Problem<Double>(shape, mask: .causal)
        short.shape.keyLength = 61
        short.inputs.key = head(long.inputs.key, 61)
        short.inputs.value = head(long.inputs.value, 61)
        short.inputs.query = long.inputs.query
        let expected = try short.forward(short.attention(options))
        let found = try long.forward(long.attention(options))
        #expect(zip(found.output.elements, expected.output.elements).allSatisfy { abs($0 - $1) <= 1e-13 })
        #expect(zip(found.logSumExp, expected.logSumExp).allSatisfy { $0 == $1 || abs($0 - $1) <= 1e-13 })
    }

    private func head(_ tensor: Tensor<Double>, _ length: Int) -> Tensor<Double> {
        let e = tensor.extents
        var short = Tensor<Double>(TensorExtents(e.batch, e.heads, length, e.size))
        for b in 0..<e.batch {
            for h in 0..<e.heads {
                for n in 0..<length { for d in 0..<e.size { short[b, h, n, d] = tensor[b, h, n, d] } }
            }
        }
        return short
    }
}
