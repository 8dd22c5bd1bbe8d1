import AttentionVerification
import FlashAttention
import Testing

/// The measure of everything else, against answers worked out by hand and against its own slopes.
@Suite("Oracle")
struct OracleTests {
    private let shape = AttentionShape(
        batch: 2, heads: 4, keyValueHeads: 2, queryLength: 6, keyLength: 5, headSize: 3, valueHeadSize: 4)

    private func inputs(_ oracle: Oracle) -> OracleInputs {
        let made = GeneratedInputs<Double>(.normal, for: oracle)
        return OracleInputs(
            query: made.query, key: made.key, value: made.value, outputGradient: made.outputGradient)
    }

    @Test func smallProblem_isTheOneWorkedOutByHand() {
        // Scores 0 and ln 3, P = (1/4, 3/4), O = (1, 6), lse = ln 4. dO = (1, 1): dP = (4, 8), delta = 7,
        // dS = (−3/4, 3/4), dQ = 3/4 ln 3, dK = dS q, dV = P dO.
        let oracle = Oracle(
            shape: AttentionShape(
                batch: 1, heads: 1, queryLength: 1, keyLength: 2, headSize: 1, valueHeadSize: 2),
            softmaxScale: 1)
        let ln3 = 1.0986122886681098
        let inputs = OracleInputs(query: [1], key: [0, ln3], value: [4, 0, 0, 8], outputGradient: [1, 1])
        let forward = oracle.forward(inputs)
        let backward = oracle.backward(inputs)
        func isNear(_ found: [Double], _ expected: [Double]) -> Bool {
            found.count == expected.count && zip(found, expected).allSatisfy { abs($0 - $1) <= 1e-14 }
        }
        #expect(isNear(forward.output, [1, 6]))
        #expect(isNear(forward.logSumExp, [1.3862943611198906]))
        #expect(isNear(backward.query, [0.75 * ln3]))
        #expect(isNear(backward.key, [-0.75, 0.75]))
        #expect(isNear(backward.value, [0.25, 0.25, 0.75, 0.75]))
    }

    @Test(arguments: [AttentionMask.full, .causal, .causal(.topLeft)])
    func gradients_areTheSlopesOfTheLoss(mask: AttentionMask) {
        let oracle = Oracle(shape: shape, mask: mask, softmaxScale: 0.7, keyLengths: [5, 3])
        let inputs = inputs(oracle)
        let gradients = oracle.backward(inputs)
        func worst(_ operand: WritableKeyPath<OracleInputs, [Double]>, _ gradient: [Double]) -> Double {
            func loss(_ index: Int, _ step: Double) -> Double {
                var moved = inputs
                moved[keyPath: operand][index] += step
                let output = oracle.forward(moved).output
                return zip(output, inputs.outputGradient).reduce(0) { $0 + $1.0 * $1.1 }
            }
            return gradient.indices.reduce(0) {
                max($0, abs((loss($1, 1e-5) - loss($1, -1e-5)) / 2e-5 - gradient[$1]))
            }
        }
        #expect(worst(\.query, gradients.query) <= 1e-8)
        #expect(worst(\.key, gradients.key) <= 1e-8)
        #expect(worst(\.value, gradients.value) <= 1e-8)
    }

    @Test func selectedRows_areThoseOfTheWhole() {
        let oracle = Oracle(shape: shape, mask: .causal, keyLengths: [5, 4])
        let inputs = inputs(oracle)
        let (forward, backward) = (oracle.forward(inputs), oracle.backward(inputs))
        let rows = oracle.allRows.enumerated().filter { $0.offset % 3 == 1 }
        let keys = oracle.allKeys.enumerated().filter { $0.offset % 3 == 1 }
        let some = oracle.forward(inputs, rows: rows.map(\.element))
        let dQ = oracle.queryGradient(inputs, rows: rows.map(\.element))
        let (dK, dV) = oracle.keyValueGradients(inputs, forward: forward, keys: keys.map(\.element))
        func pick(_ whole: [Double], _ width: Int, _ rows: [Int]) -> [Double] {
            rows.flatMap { whole[$0 * width..<($0 + 1) * width] }
        }
        #expect(some.output == pick(forward.output, 4, rows.map(\.offset)))
        #expect(some.logSumExp == pick(forward.logSumExp, 1, rows.map(\.offset)))
        #expect(dQ == pick(backward.query, 3, rows.map(\.offset)))
        #expect(dK == pick(backward.key, 3, keys.map(\.offset)))
        #expect(dV == pick(backward.value, 4, keys.map(\.offset)))
    }

    @Test func rowWithoutKeys_isZeroWithMinusInfinity() {
        let oracle = Oracle(shape: shape, mask: .causal, keyLengths: [5, 0])
        let inputs = inputs(oracle)
        let (forward, backward) = (oracle.forward(inputs), oracle.backward(inputs))
        // The first row of each head of batch entry 0, and every row of entry 1, see nothing.
        for row in oracle.allRows where row.batch == 1 || row.row == 0 {
            let at = (row.batch * 4 + row.head) * 6 + row.row
            #expect(forward.logSumExp[at] == -.infinity)
            #expect(forward.output[at * 4..<(at + 1) * 4].allSatisfy { $0 == 0 })
            #expect(backward.query[at * 3..<(at + 1) * 3].allSatisfy { $0 == 0 })
        }
    }

    @Test func hiddenEntries_areNeverTouched() {
        let oracle = Oracle(shape: shape, mask: .causal(.topLeft), keyLengths: [3, 0])
        let clean = inputs(oracle)
        let made = GeneratedInputs<Double>(.hidden, for: oracle)
        let poisoned = OracleInputs(
            query: made.query, key: made.key, value: made.value, outputGradient: made.outputGradient)
        #expect(poisoned.key.contains { $0.isNaN })
        #expect(oracle.forward(poisoned).output == oracle.forward(clean).output)
        let (found, expected) = (oracle.backward(poisoned), oracle.backward(clean))
        #expect(found.query == expected.query && found.key == expected.key && found.value == expected.value)
    }

    @Test func layoutOfTheOperands_doesNotMatter() throws {
        let elements = (0..<24).map { Float($0) }
        let tensor = try Tensor(TensorExtents(1, 2, 3, 4), layout: .bnhd, elements: elements)
        #expect(tensor.denseDoubles() == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
            + [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23])
    }
}
