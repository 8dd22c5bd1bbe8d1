import AttentionCore
import AttentionVerification
import Testing

/// One row of scores, taken in chunk by chunk.
private struct Row {
    var scores: [Double]

    /// m, l, 1/l and lse after the chunks, in this order.
    func statistics(_ chunks: [Range<Int>]) -> (maximum: Double, sum: Double, inverse: Double, lse: Double) {
        var state = [0.0, 0.0]
        return state.withUnsafeMutableBufferPointer { state in
            let base = state.baseAddress.unsafelyUnwrapped
            let statistics = RowStatistics(scale: 1, maximum: base, sum: base + 1)
            statistics.reset(1)
            for chunk in chunks {
                var subtrahend = scores[chunk].max() ?? -.infinity
                var correction = 0.0
                statistics.update(1, tileMaximum: &subtrahend, correction: &correction)
                var sum = scores[chunk].reduce(0) { $0 + Double.exp($1 - subtrahend) }
                statistics.add(1, tileSum: &sum)
            }
            var (inverse, lse) = (0.0, 0.0)
            let (maximum, sum) = (base[0], base[1])
            statistics.reciprocals(1, into: &inverse)
            statistics.finish(1, logSumExp: &lse)
            return (maximum, sum, inverse, lse)
        }
    }

    /// ln Σ exp s.
    var expected: Double {
        let maximum = scores.max() ?? -.infinity
        return maximum == -.infinity
            ? -.infinity
            : maximum + Double.log(scores.reduce(0) { $0 + Double.exp($1 - maximum) })
    }
}

@Suite("RowStatistics")
struct RowStatisticsTests {
    private static func random(_ count: Int, spread: Double) -> Row {
        var random = SplitMix64(seed: 3)
        return Row(scores: (0..<count).map { _ in spread * random.normal() })
    }

    @Test(arguments: [1.0, 30, 300])
    func chunks_giveTheLogSumExpOfTheWhole(spread: Double) {
        let row = Self.random(60, spread: spread)
        for size in [1, 7, 20, 60] {
            let chunks = stride(from: 0, to: 60, by: size).map { $0..<min($0 + size, 60) }
            let found = row.statistics(chunks).lse
            #expect(abs(found - row.expected) <= 1e-14 * max(1, abs(row.expected)), "chunks of \(size)")
        }
    }

    @Test func chunksInAnyOrder_giveTheSame() {
        let row = Self.random(60, spread: 30)
        let chunks = [0..<13, 13..<14, 14..<40, 40..<60]
        let forward = row.statistics(chunks)
        let backward = row.statistics(chunks.reversed())
        #expect(forward.maximum == backward.maximum)
        #expect(abs(forward.sum - backward.sum) <= 1e-14 * forward.sum)
    }

    @Test func rowWithoutKeys_hasNoWeightAndMinusInfinity() {
        let found = Row(scores: []).statistics([])
        #expect(found.sum == 0)
        #expect(found.inverse == 0)
        #expect(found.lse == -.infinity)
    }

    @Test func hiddenKeysOnly_areAsNoKeys() {
        let found = Row(scores: Array(repeating: -.infinity, count: 6)).statistics([0..<3, 3..<6])
        #expect(found.sum == 0)
        #expect(found.inverse == 0)
        #expect(found.lse == -.infinity)
    }

    @Test func hiddenKeysFirst_leaveNoTrace() {
        let hidden = Row(scores: [-.infinity, -.infinity, 1, 2, 3]).statistics([0..<2, 2..<5])
        let plain = Row(scores: [1, 2, 3]).statistics([0..<3])
        #expect(hidden == plain)
    }

    @Test func hiddenKeysLast_leaveNoTrace() {
        let hidden = Row(scores: [1, 2, 3, -.infinity]).statistics([0..<3, 3..<4])
        let plain = Row(scores: [1, 2, 3]).statistics([0..<3])
        #expect(hidden == plain)
    }

    @Test func notANumber_reachesSumAndLogSumExp() {
        let found = Row(scores: [1, .nan, 3]).statistics([0..<3])
        #expect(found.sum.isNaN)
        #expect(found.lse.isNaN)
    }

    @Test func positiveInfinity_isNotANumberAfterTheSoftmax() {
        let found = Row(scores: [1, .infinity, 3]).statistics([0..<1, 1..<2, 2..<3])
        #expect(found.sum.isNaN)
    }

    @Test(arguments: [-60.0, -1, 0, 2.5, 40])
    func merge_ofPartialResults_isTheWhole(shift: Double) {
        let row = Row(
            scores: Self.random(40, spread: 5).scores.enumerated().map { $0 < 20 ? $1 : $1 + shift })
        let whole = row.statistics([0..<40])
        var (first, second) = (row.statistics([0..<20]), row.statistics([20..<40]))
        var (oldFactor, newFactor) = (0.0, 0.0)
        let (firstSum, secondSum) = (first.sum, second.sum)
        RowStatistics(scale: 1, maximum: &first.maximum, sum: &first.sum).merge(
            1, tileMaximum: &second.maximum, tileSum: &second.sum, oldFactor: &oldFactor,
            newFactor: &newFactor)
        #expect(first.maximum == whole.maximum)
        #expect(abs(first.sum - whole.sum) <= 1e-14 * whole.sum)
        // O = 1 when every value is 1: the old part is normalised, the new one is not.
        #expect(firstSum > 0 && abs(oldFactor + newFactor * secondSum - 1) <= 1e-14)
    }

    @Test func merge_ofNothingWithNothing_staysEmpty() {
        var (maximum, sum) = (-Double.infinity, 0.0)
        var (otherMaximum, otherSum) = (-Double.infinity, 0.0)
        var (oldFactor, newFactor) = (Double.nan, Double.nan)
        RowStatistics(scale: 1, maximum: &maximum, sum: &sum).merge(
            1, tileMaximum: &otherMaximum, tileSum: &otherSum, oldFactor: &oldFactor, newFactor: &newFactor)
        #expect(maximum == -.infinity && sum == 0 && oldFactor == 0 && newFactor == 0)
    }

    @Test func backwardOffset_ofAnEmptyRow_makesEveryProbabilityZero() {
        let (high, low) = RowStatistics<Double>.backwardOffset(-.infinity, scale: 1)
        #expect(high == .infinity && low == 0 && Double.exp(5 - high - low) == 0)
        #expect(RowStatistics<Float>.backwardOffset(.nan, scale: 1).high.isNaN)
    }

    @Test func backwardOffset_keepsTheDigitsThatFloatHasNoRoomFor() {
        let lse = 123.456789012345
        let (high, low) = RowStatistics<Float>.backwardOffset(lse, scale: 0.5)
        #expect(abs(Double(high) + Double(low) - 2 * lse) < 1e-11)
        #expect(low != 0)
    }
}
