import AttentionCPU
import AttentionCore
import Testing
import TileKernelTable

/// Blocks of a 16-bit type to Float and back, of every kernel set that runs here.
@Suite("Element conversion")
struct ConversionTests {
    /// All patterns of 16 bits in rows of this length, which is no multiple of a vector's.
    private static let columns = 257

    private func widened(_ conversion: ElementConversion, _ patterns: [UInt16]) -> [Float] {
        let (rows, n) = (patterns.count / Self.columns, Self.columns)
        // Two elements of a gap on one side and three on the other.
        var source = [UInt16](repeating: 0x7FFD, count: rows * (n + 2))
        var result = [Float](repeating: -7, count: rows * (n + 3))
        for i in patterns.indices { source[i / n * (n + 2) + i % n] = patterns[i] }
        conversion.widen(rows, n, &source, n + 2, &result, n + 3)
        for r in 0..<rows { #expect(result[r * (n + 3) + n..<(r + 1) * (n + 3)].allSatisfy { $0 == -7 }) }
        return patterns.indices.map { result[$0 / n * (n + 3) + $0 % n] }
    }

    private func rounded(_ conversion: ElementConversion, _ numbers: [Float]) -> [UInt16] {
        let n = numbers.count
        var (source, result) = (numbers, [UInt16](repeating: 0x1234, count: n + 1))
        conversion.round(1, n, &source, n, &result, n)
        #expect(result[n] == 0x1234)
        return Array(result.dropLast())
    }

    /// 65 536 patterns, and the last 256 once more: 256 rows of 257.
    private static let patterns = Array(0...UInt16.max) + Array(UInt16.max - 255...UInt16.max)

    /// Every value, what lies just beside it and in the middle between it and the next, and more that is
    /// rounded to 0 or infinity.
    private static func numbers(near values: [Float]) -> [Float] {
        var numbers: [Float] = [.nan, -.nan, Float(nan: 0x1234, signaling: false), .greatestFiniteMagnitude]
        for (a, b) in zip(values, values.dropFirst() + [.infinity]) {
            let middle = b.isFinite ? a + (b - a) / 2 : a + a.ulp
            numbers += [a, a.nextUp, middle.nextDown, middle, middle.nextUp, -a, -middle, -middle.nextUp]
        }
        return numbers + [65519, 65519.996, 65520, 65520.004, 1e6, 1e-9, 1e-30, .leastNonzeroMagnitude]
    }

    @Test(arguments: kernelSets)
    func bfloat16_isThatOfTheType(set: KernelSet) throws {
        let conversion = try #require(BFloat16.conversion(set))
        for (pattern, x) in zip(Self.patterns, widened(conversion, Self.patterns)) {
            #expect(x.bitPattern == UInt32(pattern) << 16)
        }
        let values = (0..<UInt16(0x7F80)).map { Float(BFloat16(bitPattern: $0)) }
        let numbers = Self.numbers(near: values)
        for (x, pattern) in zip(numbers, rounded(conversion, numbers)) {
            #expect(pattern == BFloat16(x).bitPattern, "\(x)")
        }
    }

    #if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
    @Test(arguments: kernelSets)
    func float16_isThatOfTheType(set: KernelSet) throws {
        let conversion = try #require(Float16.conversion(set))
        for (pattern, x) in zip(Self.patterns, widened(conversion, Self.patterns)) {
            let expected = Float(Float16(bitPattern: pattern))
            #expect(x.bitPattern == expected.bitPattern || x.isNaN && expected.isNaN, "\(pattern)")
        }
        let values = (0..<UInt16(0x7C00)).map { Float(Float16(bitPattern: $0)) }
        let numbers = Self.numbers(near: values)
        for (x, pattern) in zip(numbers, rounded(conversion, numbers)) {
            let expected = Float16(x)
            #expect(
                pattern == expected.bitPattern || x.isNaN && Float16(bitPattern: pattern).isNaN, "\(x)")
        }
    }
    #endif

    @Test(arguments: kernelSets)
    func typesThatAreComputedIn_haveNone(set: KernelSet) {
        #expect(Float.conversion(set) == nil && Double.conversion(set) == nil)
    }
}
