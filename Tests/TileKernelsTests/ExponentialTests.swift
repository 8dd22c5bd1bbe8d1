import AttentionCPU
import AttentionCore
import Testing
import TileKernelTable

/// The powers of `exponentiate` and `probabilities`, over the whole range of the type.
@Suite("Exponentials")
struct ExponentialTests {
    /// 2^x for each x, by `exponentiate`.
    private func exp2<S: TestScalar>(_ xs: [S], _ set: KernelSet) -> [S] {
        let (row, zero, sum) = (Matrix<S>(1, xs.count), Matrix<S>(1, 1), Matrix<S>(1, 1))
        for (c, x) in xs.enumerated() { row[0, c] = x }
        zero[0, 0] = 0
        S.tileKernels(set).exponentiate(1, xs.count, row.memory, xs.count, 1, zero.memory, sum.memory)
        return xs.indices.map { row[0, $0] }
    }

    /// e^x for each x, by `probabilities`.
    private func exp<S: TestScalar>(_ xs: [S], _ set: KernelSet) -> [S] {
        let (row, zero) = (Matrix<S>(1, xs.count), Matrix<S>(1, 1))
        for (c, x) in xs.enumerated() { row[0, c] = x }
        zero[0, 0] = 0
        S.tileKernels(set).probabilities(
            1, xs.count, row.memory, xs.count, 1.4426950408889634, zero.memory, zero.memory)
        return xs.indices.map { row[0, $0] }
    }

    private func points<S: TestScalar>(_ low: S, _ high: S) -> [S] {
        (0..<20_003).map { low + (high - low) * S($0) / S(20_002) }
    }

    /// The largest error of 2^x in units in the last place, for x over [low, high].
    private func worst<S: TestScalar>(_ set: KernelSet, _ low: S, _ high: S) -> Double {
        let xs = points(low, high)
        return zip(xs, exp2(xs, set)).reduce(0) { worst, pair in
            let exact = referenceExp2(Double(pair.0))
            return max(worst, abs(Double(pair.1) - exact) / Double(S(exact).ulp))
        }
    }

    @Test(arguments: kernelSets)
    func floatPowerOfTwo_isWithinTwoUlpOverItsRange(set: KernelSet) {
        #expect(worst(set, Float(-125), 0) <= 2)
        #expect(worst(set, Float(-1), 1) <= 2)
        #expect(worst(set, Float(0), 127) <= 2)
    }

    @Test(arguments: kernelSets)
    func doublePowerOfTwo_isWithinTwoUlpOverItsRange(set: KernelSet) {
        #expect(worst(set, Double(-1021), 0) <= 2)
        #expect(worst(set, Double(-1), 1) <= 2)
        #expect(worst(set, Double(0), 1023) <= 2)
    }

    /// The factor log2 e has one rounding, and where there is no multiply-add the product has another; both
    /// count in proportion to |x|. Against 1, the largest probability, (2 + 2 |x|) e^x ulp is never more than
    /// two.
    private func naturalPower<S: TestScalar>(_ set: KernelSet, _ low: S) {
        let xs = points(low, 0)
        for (x, found) in zip(xs, exp(xs, set)) {
            let exact = Double.exp(Double(x))
            let bound = (2 + (set == .generic ? 2 : 1) * abs(Double(x))) * Double(S(exact).ulp)
            #expect(abs(Double(found) - exact) <= bound, "\(S.self) exp(\(x))")
        }
    }

    @Test(arguments: kernelSets)
    func naturalPower_isWithinTwoUlpAndOneOrTwoForEachUnitOfX(set: KernelSet) {
        naturalPower(set, Float(-86))
        naturalPower(set, Double(-700))
    }

    private func special<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        #expect(exp([S(0)], set) == [1])
        #expect(exp([-S.infinity], set) == [0])
        #expect(exp([-S.greatestFiniteMagnitude], set) == [0])
        // Near the smallest normal number the result is 0, never a subnormal.
        let smallest = S(Double.log(Double(S.leastNormalMagnitude)))
        #expect(exp([smallest + 1.1], set)[0] > S.leastNormalMagnitude)
        #expect(exp([smallest, smallest - 3], set) == [0, 0])
        #expect(exp2([S(0), 1, -1, 5], set) == [1, 2, 0.5, 32])
        for payload in [0, 1, 2, 0x3FF, 0x1F_FFFF] as [S.RawSignificand] {
            let quiet = S.nan.significandBitPattern | payload
            for sign in [FloatingPointSign.plus, .minus] {
                let x = S(
                    sign: sign, exponentBitPattern: S.nan.exponentBitPattern, significandBitPattern: quiet)
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
