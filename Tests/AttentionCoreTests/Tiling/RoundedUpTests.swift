import AttentionCore
import Testing

@Suite("Lengths padded to whole units")
struct RoundedUpTests {
    @Test(arguments: 0...130, [1, 2, 3, 16, 64, 128])
    func anyLength_isTheLeastMultipleThatHoldsIt(length: Int, unit: Int) {
        let padded = length.roundedUp(toMultipleOf: unit)
        #expect(padded.isMultiple(of: unit) && padded >= length && padded - length < unit)
    }

    @Test func lengthsNearTheLargest_doNotOverflow() {
        #expect(Int.max.roundedUp(toMultipleOf: 1) == .max)
        #expect((Int.max - 1).roundedUp(toMultipleOf: .max) == .max)
    }
}
