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
                    let (keys, values) = (Operand(n, k, round, seed: 2), Operand(k, n, round, seed: 3))
                    let (ours, theirs) = (conversion.passing, table.passing)
                    checkScores(ours, theirs, table, m, n, k, keys.memory, keys.stride, keys.widened)
                    checkSums(ours, theirs, table, m, n, k, values.memory, values.stride, values.widened)
                }
            }
        }
    }

    /// S = Q Kᵀ by dot products, and Sᵀ = K Qᵀ over panels of Q.
    private func checkScores(
        _ ours: PassingProducts, _ theirs: PassingProducts, _ table: TileKernelTable,
        _ m: Int, _ n: Int, _ k: Int, _ keys: UnsafeRawPointer, _ stride: Int, _ widened: Matrix<Float>
    ) {
        let Q = Matrix<Float>.random(m, k, stride: k + 1, seed: 1)
        let (S, expected) = (Matrix<Float>(m, n, stride: n + 2), Matrix<Float>(m, n))
        ours.gemmNT(m, n, k, Q.memory, k + 1, keys, stride, S.memory, n + 2, keys, 2 * stride, 2 * k)
        theirs.gemmNT(
            m, n, k, Q.memory, k + 1, widened.memory, k, expected.memory, n, widened.memory, 4 * k, 4 * k)
        #expect(equal(S, expected) && S.isUntouched(), "m \(m) n \(n) k \(k)")

        let whole = m.roundedUp(toMultipleOf: table.lanes)
        let (St, transposed) = (
            Matrix<Float>(n, m, stride: whole + 1, reach: whole),
            Matrix<Float>(n, m, stride: whole, reach: whole)
        )
        let panels = Matrix<Float>(1, table.packedCount(rows: m, depth: k))
        let scratch = Matrix<Float>(1, table.gemmScratch(depth: k))
        table.packTransposed(m, k, Q.memory, k + 1, panels.memory)
        ours.gemmPacked(
            n, m, k, keys, stride, panels.memory, St.memory, whole + 1, scratch.memory, keys, 2 * stride,
            2 * k)
        theirs.gemmPacked(
            n, m, k, widened.memory, k, panels.memory, transposed.memory, whole, scratch.memory,
            widened.memory, 4 * k, 4 * k)
        #expect(equal(St, transposed) && St.isUntouched(beyond: whole), "m \(m) n \(n) k \(k)")
    }

    /// O = keep O + P V, with P as it is and transposed.
    private func checkSums(
        _ ours: PassingProducts, _ theirs: PassingProducts, _ table: TileKernelTable,
        _ m: Int, _ n: Int, _ k: Int, _ values: UnsafeRawPointer, _ stride: Int, _ widened: Matrix<Float>
    ) {
        let scale = (0..<max(m, 1)).map { 1 / Float($0 + 3) }
        let scratch = Matrix<Float>(1, table.gemmScratch(depth: k))
        for isTransposed in [false, true] {
            let P = isTransposed ? Matrix<Float>.random(k, m, seed: 4) : Matrix<Float>.random(m, k, seed: 4)
            let (O, sum) = (Matrix<Float>(m, n, stride: n + 1), Matrix<Float>(m, n))
            for r in 0..<m { for c in 0..<n { (O[r, c], sum[r, c]) = (Float(c), Float(c)) } }
            (isTransposed ? ours.gemmTN : ours.gemmNN)(
                m, n, k, P.memory, P.stride, values, stride, O.memory, n + 1, scale, scratch.memory, values,
                2 * stride, 2 * n)
            (isTransposed ? theirs.gemmTN : theirs.gemmNN)(
                m, n, k, P.memory, P.stride, widened.memory, n, sum.memory, n, scale, scratch.memory,
                widened.memory, 4 * n, 4 * n)
            #expect(equal(O, sum) && O.isUntouched(), "m \(m) n \(n) k \(k)")
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
            conversion.passing.gemmNN(
                1, 1 << 16, 1, $0, 1, patterns, 1 << 16, &result, 1 << 16, $0, &scratch, patterns, 0, 0)
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
