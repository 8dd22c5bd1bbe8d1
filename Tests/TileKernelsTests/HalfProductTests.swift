import AttentionCPU
import AttentionCore
import AttentionVerification
import Testing
import TileKernelTable

/// The products for few rows with an operand of 16 bits as it lies: they are those of Float with the operand
/// widened before, to the last bit.
@Suite("Products with 16-bit operands")
struct HalfProductTests {
    /// Rows of 16-bit numbers that end at the end of a page, and the same in Float.
    private struct Operand {
        let widened: Matrix<Float>
        let stride: Int
        private let pages: Matrix<Float>
        private let count: Int

        /// - Parameters:
        ///   - round: the bits of a number in the type, and what they are worth.
        init(_ rows: Int, _ columns: Int, _ round: (Float) -> (UInt16, Float), seed: UInt64) {
            stride = columns + 3
            widened = Matrix.random(rows, columns, seed: seed)
            count = rows == 0 ? 0 : (rows - 1) * stride + columns
            pages = Matrix(1, (count + 1) / 2)
            let bits = memory.assumingMemoryBound(to: UInt16.self)
            for r in 0..<rows {
                for c in 0..<columns { (bits[r * stride + c], widened[r, c]) = round(widened[r, c]) }
            }
        }

        var memory: UnsafeMutableRawPointer { pages.memory + count % 2 * 2 }
    }

    private func check(
        _ conversion: ElementConversion, _ set: KernelSet, _ round: (Float) -> (UInt16, Float)
    ) {
        let table = Float.tileKernels(set)
        for n in table.interestingColumns {
            for m in [0, 1, 2, 3, 4, 5, 7, 8, 13, 16] {
                for k in [0, 1, 3, 16, 33, 64] {
                    let A = Matrix<Float>.random(m, k, stride: k + 1, seed: 1)
                    let (keys, values) = (Operand(n, k, round, seed: 2), Operand(k, n, round, seed: 3))
                    let (S, expected) = (Matrix<Float>(m, n, stride: n + 2), Matrix<Float>(m, n))
                    conversion.gemmNT(m, n, k, A.memory, k + 1, keys.memory, keys.stride, S.memory, n + 2)
                    table.gemmNT(m, n, k, A.memory, k + 1, keys.widened.memory, k, expected.memory, n)
                    #expect(equal(S, expected) && S.isUntouched(), "m \(m) n \(n) k \(k)")

                    let (O, sum) = (Matrix<Float>(m, n, stride: n + 1), Matrix<Float>(m, n))
                    for r in 0..<m { for c in 0..<n { (O[r, c], sum[r, c]) = (Float(c), Float(c)) } }
                    let scale = (0..<max(m, 1)).map { 1 / Float($0 + 3) }
                    let scratch = Matrix<Float>(1, table.gemmScratch(depth: k))
                    conversion.gemmNN(
                        m, n, k, A.memory, k + 1, values.memory, values.stride, O.memory, n + 1, scale, true,
                        scratch.memory)
                    table.gemmNN(
                        m, n, k, A.memory, k + 1, values.widened.memory, n, sum.memory, n, scale, true,
                        scratch.memory)
                    #expect(equal(O, sum) && O.isUntouched(), "m \(m) n \(n) k \(k)")
                }
            }
        }
    }

    private func equal(_ a: Matrix<Float>, _ b: Matrix<Float>) -> Bool {
        (0..<a.rows).allSatisfy { r in (0..<a.columns).allSatisfy { a[r, $0] == b[r, $0] } }
    }

    /// Every number of the type on its way through a register: the product with 1.
    private func checkEveryNumber(_ conversion: ElementConversion, _ value: (UInt16) -> Float) {
        let patterns = Array(0...UInt16.max)
        let one: Float = 1
        var (result, scratch) = ([Float](repeating: 0, count: 1 << 16), [Float](repeating: 0, count: 1 << 12))
        withUnsafePointer(to: one) {
            conversion.gemmNN(1, 1 << 16, 1, $0, 1, patterns, 1 << 16, &result, 1 << 16, nil, false, &scratch)
        }
        for (pattern, x) in zip(patterns, result) {
            let expected = value(pattern)
            #expect(x == expected || x.isNaN && expected.isNaN, "\(pattern)")
        }
    }

    @Test(arguments: kernelSets)
    func bfloat16_isWidenedOnItsWay(set: KernelSet) throws {
        let conversion = try #require(BFloat16.conversion(set))
        check(conversion, set) { (BFloat16($0).bitPattern, BFloat16($0).widened) }
        checkEveryNumber(conversion) { BFloat16(bitPattern: $0).widened }
    }

    #if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
    @Test(arguments: kernelSets)
    func float16_isWidenedOnItsWay(set: KernelSet) throws {
        let conversion = try #require(Float16.conversion(set))
        check(conversion, set) { (Float16($0).bitPattern, Float(Float16($0))) }
        checkEveryNumber(conversion) { Float(Float16(bitPattern: $0)) }
    }
    #endif
}
