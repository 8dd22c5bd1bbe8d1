import AttentionCore
import Foundation
import Testing

@Suite("BFloat16")
struct BFloat16Tests {
    static let all = (0...UInt16.max).map(BFloat16.init(bitPattern:))
    /// The finite values, which are in order of their bits.
    static let nonnegative = all.prefix { $0.isFinite }

    @Test func everyPattern_roundTripsThroughFloatAndDouble() {
        for x in Self.all {
            #expect(x.isNaN == Float(x).isNaN)
            #expect(x.isFinite == Float(x).isFinite)
            // A NaN comes back quiet, whatever it was.
            let expected = x.isNaN ? x.bitPattern | 0x40 : x.bitPattern
            #expect(BFloat16(Float(x)).bitPattern == expected)
            if !x.isNaN { #expect(BFloat16(Double(Float(x))).bitPattern == expected) }
        }
        #expect(BFloat16(Double.nan).isNaN)
    }

    @Test func numbersBetweenTwoValues_roundToTheNearest() {
        for (a, b) in zip(Self.nonnegative, Self.nonnegative.dropFirst()) {
            let (low, high) = (Double(Float(a)), Double(Float(b)))
            let middle = low + (high - low) / 2
            let even = a.bitPattern % 2 == 0 ? a : b
            for (number, nearest) in [
                (middle, even), (middle.nextUp, b), (middle.nextDown, a), (low.nextUp, a), (high.nextDown, b),
            ] {
                #expect(BFloat16(number).bitPattern == nearest.bitPattern)
                #expect(BFloat16(-number).bitPattern == nearest.bitPattern | 0x8000)
            }
            // The middle is a Float, and so are its neighbours, but below Float's own smallest steps.
            #expect(BFloat16(Float(middle)).bitPattern == even.bitPattern)
            #expect(BFloat16(Float(middle).nextUp).bitPattern == b.bitPattern)
            #expect(BFloat16(-Float(middle).nextDown).bitPattern == a.bitPattern | 0x8000)
        }
    }

    @Test func numbersBeyondTheLargest_becomeInfinite() {
        let largest = Double(Float(BFloat16.greatestFiniteMagnitude))
        // Half a unit of the last place beyond it.
        let limit = largest + 0x1p119
        #expect(BFloat16(limit.nextDown) == .greatestFiniteMagnitude)
        for number in [limit, 0x1p128, 1e300, .infinity] {
            #expect(BFloat16(number) == .infinity)
            #expect(BFloat16(-number).bitPattern == 0xFF80)
            #expect(BFloat16(Float(number)) == .infinity)
        }
    }

    @Test func numbersBelowTheSmallest_becomeZeroOfTheirSign() {
        let half = Double(Float(BFloat16.leastNonzeroMagnitude)) / 2
        #expect(BFloat16(half).bitPattern == 0)
        #expect(BFloat16(half.nextUp) == .leastNonzeroMagnitude)
        #expect(BFloat16(-1e-300).bitPattern == 0x8000)
    }

    @Test func equality_isThatOfNumbers() {
        #expect(BFloat16(0.0) == BFloat16(-0.0))
        #expect(BFloat16(0.0).hashValue == BFloat16(-0.0).hashValue)
        #expect(BFloat16.nan != BFloat16.nan)
        #expect(BFloat16(1.0) != BFloat16(2.0))
    }

    @Test func literalsAndText_areThoseOfFloat() throws {
        let x: BFloat16 = 1.5
        let three: BFloat16 = 3
        #expect(x.bitPattern == 0x3FC0)
        #expect(three.bitPattern == 0x4040)
        #expect("\(x)" == "1.5")
        #expect(BFloat16.ulpOfOne == 0.0078125)
        let coded = try JSONEncoder().encode([x, three])
        #expect(String(decoding: coded, as: UTF8.self) == "[1.5,3]")
        #expect(try JSONDecoder().decode([BFloat16].self, from: coded) == [x, three])
    }

    @Test func elements_areWidenedExactlyAndRoundedToNearest() {
        #expect(BFloat16.rounding(Float(1.00390625)).widened == 1)
        // Rounded to Float first, the last of its digits would be lost and the tie go to even.
        #expect(BFloat16.rounding(1.00390625 + 0x1p-40).widened == 1.0078125)
        #if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
        #expect(Float16.rounding(Float(1.00048828125)).widened == 1)
        #expect(Float16.rounding(1.00048828125 + 0x1p-40).widened == 1.0009765625)
        #endif
        #expect(Float.rounding(1 + 0x1p-24).widened == 1)
        #expect(Double.rounding(0.1).widened == 0.1)
    }
}

/// That the conformances leave the initialisers of the standard library as they were for others.
@Suite struct ElementConformanceTests {
    @Test func initialiserAsAFunction_isNotAmbiguous() {
        let doubles: [Double] = [1, 2]
        #expect(doubles.prefix(1).map(Float.init) == [1])
    }
}
