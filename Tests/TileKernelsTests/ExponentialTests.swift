import AttentionCPU
import AttentionCore
import Testing
import TileKernelTable

/// exp as `exponentiate` computes it, over the whole range of the type.
@Suite("exp")
struct ExponentialTests {
    /// e^x for each x.
    private func exp<S: TestScalar>(_ xs: [S], _ set: KernelSet) -> [S] {
        let row = Matrix<S>(1, xs.count)
        for (c, x) in xs.enumerated() { row[0, c] = x }
        let offset = Matrix<S>(1, 1)
        offset[0, 0] = 0
        S.tileKernels(set).probabilities(1, xs.count, row.memory, xs.count, 1, offset.memory, offset.memory)
        return xs.indices.map { row[0, $0] }
    }

    /// The largest error in units in the last place, for x over [low, high].
    private func worst<S: TestScalar>(_ set: KernelSet, _ low: S, _ high: S) -> Double {
        let count = 20_003
        let xs = (0..<count).map { low + (high - low) * S($0) / S(count - 1) }
        return zip(xs, exp(xs, set)).reduce(0) { worst, pair in
            let exact = Double.exp(Double(pair.0))
            return max(worst, abs(Double(pair.1) - exact) / Double(S(exact).ulp))
        }
    }

    @Test(arguments: kernelSets)
    func float_isWithinTwoUlpOverItsRange(set: KernelSet) {
        #expect(worst(set, Float(-87.33), 0) <= 2)
        #expect(worst(set, Float(-1), 1) <= 2)
        #expect(worst(set, Float(0), 88) <= 2)
    }

    @Test(arguments: kernelSets)
    func double_isWithinTwoUlpOverItsRange(set: KernelSet) {
        #expect(worst(set, Double(-708.39), 0) <= 2)
        #expect(worst(set, Double(-1), 1) <= 2)
        #expect(worst(set, Double(0), 709) <= 2)
    }

    private func special<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        #expect(exp([S(0)], set) == [1])
        #expect(exp([-S.infinity], set) == [0])
        #expect(exp([-S.greatestFiniteMagnitude], set) == [0])
        // Below the smallest normal number the result is 0, never a subnormal.
        let smallest = S(Double.log(Double(S.leastNormalMagnitude)))
        #expect(exp([smallest * 0.999], set)[0] > 0)
        #expect(exp([smallest * 1.001, smallest - 3], set) == [0, 0])
        for payload in [0, 1, 2, 0x3FF, 0x1F_FFFF] as [S.RawSignificand] {
            let quiet = S.nan.significandBitPattern | payload
            for sign in [FloatingPointSign.plus, .minus] {
                let x = S(sign: sign, exponentBitPattern: S.nan.exponentBitPattern, significandBitPattern: quiet)
                #expect(exp([x], set)[0].isNaN, "\(S.self) payload \(payload)")
            }
        }
    }

    @Test(arguments: kernelSets)
    func specialValues_areThoseOfTheContract(set: KernelSet) {
        special(Float.self, set)
        special(Double.self, set)
    }

    private func monotonic<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let xs = (0...4000).map { S($0 - 2000) / 1000 }
        let ys = exp(xs, set)
        #expect(zip(ys, ys.dropFirst()).allSatisfy { $0 <= $1 }, "\(S.self)")
    }

    @Test(arguments: kernelSets)
    func largerArguments_giveLargerPowers(set: KernelSet) {
        monotonic(Float.self, set)
        monotonic(Double.self, set)
    }
}
