import AttentionCPU
import AttentionCore
import AttentionVerification
import Testing
import TileKernelTable

/// The kernels over pairs of BF16, where the processor runs them.
@Suite("Pair kernels", .enabled(if: BFloat16.pairKernels(kernelSets[0]) != nil))
struct PairKernelTests {
    private let kernels: PairKernelTable
    private let table = Float.tileKernels(kernelSets[0])

    init() throws { kernels = try #require(BFloat16.pairKernels(kernelSets[0])) }

    /// A matrix of BF16 `[rows][columns]` in rows of `stride`.
    private struct Numbers {
        let rows, columns, stride: Int
        var elements: [BFloat16]

        init(_ rows: Int, _ columns: Int, stride: Int? = nil, seed: UInt64) {
            (self.rows, self.columns, self.stride) = (rows, columns, stride ?? columns)
            var random = SplitMix64(seed: seed)
            elements = (0..<rows * self.stride + 2).map { _ in BFloat16(random.normal()) }
        }

        func callAsFunction(_ r: Int, _ c: Int) -> Double { Double(elements[r * stride + c].widened) }
    }

    /// The pairs down the columns, made by the definition.
    private func paired(_ x: Numbers) -> [UInt32] {
        (0..<(x.rows + 1) / 2).flatMap { j in
            (0..<x.columns).map { c in
                let low = x.elements[2 * j * x.stride + c].bitPattern
                let high = 2 * j + 1 < x.rows ? x.elements[(2 * j + 1) * x.stride + c].bitPattern : 0
                return UInt32(low) | UInt32(high) << 16
            }
        }
    }

    @Test(arguments: [(0, 3), (1, 1), (2, 16), (5, 37), (8, 64)])
    func pairRows_interleavesRowsTwoByTwo(rows: Int, columns: Int) {
        let source = Numbers(rows, columns, stride: columns + 3, seed: 1)
        let pairs = (rows + 1) / 2
        var result = [UInt32](repeating: 7, count: pairs * (columns + 2))
        kernels.pairRows(rows, columns, source.elements, columns + 3, &result, columns + 2)
        for (index, x) in paired(source).enumerated() {
            #expect(result[index / columns * (columns + 2) + index % columns] == x)
        }
        for j in 0..<pairs { #expect(result[j * (columns + 2) + columns] == 7) }
    }

    @Test(arguments: [(1, 16), (2, 16), (5, 32), (6, 48)])
    func roundPairs_roundsToTheNearest(rows: Int, columns: Int) {
        let source = Matrix<Float>.random(rows, columns, seed: 2)
        source[0, 0] = .nan
        source[0, 1] = -.infinity
        var result = [UInt32](repeating: 7, count: (rows + 1) / 2 * columns)
        kernels.roundPairs(rows, columns, source.memory, columns, &result, columns)
        for r in 0..<rows {
            for c in 0..<columns {
                let pair = result[r / 2 * columns + c]
                let got = BFloat16(bitPattern: UInt16(truncatingIfNeeded: r % 2 == 0 ? pair : pair >> 16))
                let expected = BFloat16(source[r, c])
                #expect(got == expected || got.isNaN && expected.isNaN)
            }
        }
        if rows % 2 == 1 { #expect(result.suffix(columns).allSatisfy { $0 >> 16 == 0 }) }
    }

    @Test(arguments: [1, 2, 5, 6, 13], [1, 16, 63, 64, 130])
    func products_areThoseOfTheirSums(m: Int, n: Int) {
        for k in [2, 6, 64, 70] {
            let (a, b) = (Numbers(m, k, seed: 3), Numbers(n, k, seed: 4))
            let (at, bt) = (Numbers(k, m, seed: 5), Numbers(k, n, seed: 6))
            let padded = (n + 63) / 64 * 64
            var scratch = [Float](repeating: .nan, count: table.gemmScratch(depth: k))
            func close(
                _ c: Matrix<Float>, _ a: (Int, Int) -> Double, _ b: (Int, Int) -> Double, _ old: Double
            ) {
                let worst = c.worst { r, column in
                    let terms = (0..<k).map { a(r, $0) * b($0, column) }
                    return (old + terms.reduce(0, +), terms.reduce(abs(old)) { $0 + abs($1) })
                }
                #expect(worst <= tolerance(Float.self))
            }
            // C = A Bᵀ: pairs along the rows of both, packed.
            var panels = [UInt32](repeating: 0, count: table.packedCount(rows: n, depth: k / 2))
            kernels.packTransposed(n, k / 2, b.elements, k / 2, &panels)
            let packed = Matrix<Float>(m, n, stride: padded, reach: padded)
            kernels.gemmPacked(m, n, k / 2, a.elements, k / 2, panels, packed.memory, padded)
            close(packed, { a($0, $1) }, { b($1, $0) }, 0)
            // The same as they lie.
            let inPlace = Matrix<Float>(m, n)
            kernels.passing.gemmNT(
                m, n, k / 2, a.elements, k / 2, b.elements, k / 2, inPlace.memory, n, b.elements, 0, 0)
            close(inPlace, { a($0, $1) }, { b($1, $0) }, 0)
            // C = 2 C + A B: pairs along the rows of A and down the columns of B.
            let sum = Matrix<Float>(m, n)
            for r in 0..<m { for c in 0..<n { sum[r, c] = 3 } }
            let two = [Float](repeating: 2, count: m)
            kernels.gemmNN(
                m, n, k / 2, a.elements, k / 2, paired(bt), n, sum.memory, n, two, true, &scratch)
            close(sum, { a($0, $1) }, { bt($0, $1) }, 6)
            // The same with rows of B that pass by, which are paired on their way.
            let rows = Matrix<Float>(m, n)
            for r in 0..<m { for c in 0..<n { rows[r, c] = 3 } }
            kernels.passing.gemmNN(
                m, n, k / 2, a.elements, k / 2, bt.elements, n, rows.memory, n, two, &scratch, bt.elements,
                0, 0)
            close(rows, { a($0, $1) }, { bt($0, $1) }, 6)
            let columns = Matrix<Float>(m, n)
            for r in 0..<m { for c in 0..<n { columns[r, c] = 3 } }
            kernels.passing.gemmTN(
                m, n, k / 2, paired(at), m, bt.elements, n, columns.memory, n, two, &scratch, bt.elements,
                0, 0)
            close(columns, { at($1, $0) }, { bt($0, $1) }, 6)
            // Packed and as they lie, with what passes by on the other side.
            let passed = Matrix<Float>(m, n, stride: padded, reach: padded)
            kernels.passing.gemmPacked(
                m, n, k / 2, a.elements, k / 2, panels, passed.memory, padded, &scratch, a.elements, 0, 0)
            close(passed, { a($0, $1) }, { b($1, $0) }, 0)
            // C = Aᵀ B: pairs down the columns of both.
            let transposed = Matrix<Float>(m, n)
            kernels.gemmTN(
                m, n, k / 2, paired(at), m, paired(bt), n, transposed.memory, n, nil, false, &scratch)
            close(transposed, { at($1, $0) }, { bt($0, $1) }, 0)
            #expect([inPlace, sum, rows, columns, transposed].allSatisfy { $0.isUntouched() })
        }
    }

    @Test(arguments: [0, 1, 2, 15, 16, 33])
    func exponentiatePairs_isTheExponentialRounded(rows: Int) {
        let (n, factor) = (32, 0.25)
        let source = Matrix<Float>.random(max(rows, 1), n, seed: 7)
        for c in 0..<n where rows > 3 { source[3, c] = c % 2 == 0 ? -.infinity : -1000 }
        let scores = (0..<rows).map { r in (0..<n).map { source[r, $0] } }
        let offset = [Float](repeating: 2.5, count: n)
        var sum = [Float](repeating: -1, count: n)
        kernels.exponentiatePairs(rows, n, source.memory, n, factor, offset, &sum)
        for c in 0..<n {
            var total = 0.0
            for r in 0..<rows {
                let expected = referenceExp2(factor * Double(scores[r][c] - 2.5))
                let bits = source[r / 2, c].bitPattern
                let got = BFloat16(bitPattern: UInt16(truncatingIfNeeded: r % 2 == 0 ? bits : bits >> 16))
                #expect(abs(Double(got.widened) - expected) <= (0x1p-8 + 4e-6) * expected + 1e-37)
                total += expected
            }
            if rows % 2 == 1 { #expect(source[rows / 2, c].bitPattern >> 16 == 0) }
            #expect(abs(Double(sum[c]) - total) <= 4e-6 * total)
        }
    }

    /// The number of row r and column c in rows of pairs.
    private func number(_ pairs: [UInt32], _ r: Int, _ c: Int, _ columns: Int) -> Double {
        let pair = pairs[r / 2 * columns + c]
        let half = UInt16(truncatingIfNeeded: r % 2 == 0 ? pair : pair >> 16)
        return Double(BFloat16(bitPattern: half).widened)
    }

    @Test(arguments: [1, 2, 7, 12])
    func probabilityPairs_isTheExponentialInBothForms(rows: Int) {
        let (n, factor) = (48, 0.7)
        let scores = Matrix<Float>.random(rows, n, seed: 9)
        let before = (0..<rows).map { r in (0..<n).map { Double(scores[r, $0]) } }
        let high = (0..<rows).map { $0 == 3 ? Float.infinity : 1 + Float($0) }
        let low = (0..<rows).map { Float($0) * 1e-4 }
        var pairs = [UInt32](repeating: 7, count: (rows + 1) / 2 * n)
        kernels.probabilityPairs(rows, n, scores.memory, n, factor, high, low, &pairs, n)
        for r in 0..<rows {
            for c in 0..<n {
                let expected = referenceExp2(factor * (before[r][c] - Double(high[r]) - Double(low[r])))
                #expect(abs(Double(scores[r, c]) - expected) <= 1e-6 * expected)
                #expect(abs(number(pairs, r, c, n) - expected) <= (0x1p-8 + 1e-6) * expected)
            }
        }
        if rows % 2 == 1 { #expect(pairs.suffix(n).allSatisfy { $0 >> 16 == 0 }) }
    }

    @Test(arguments: [1, 2, 7, 12])
    func scoreGradientPairs_isRoundedInBothForms(rows: Int) {
        let n = 32
        let (P, dP) = (Matrix<Float>.random(rows, n, seed: 10), Matrix<Float>.random(rows, n, seed: 11))
        let offset = (0..<rows).map { Float($0) * 0.1 }
        var pairs = [UInt32](repeating: 7, count: (rows + 1) / 2 * n)
        var lines = [BFloat16](repeating: 7, count: rows * (n + 4))
        kernels.scoreGradientPairs(
            rows, n, P.memory, n, dP.memory, n, 0.5, offset, &pairs, n, &lines, n + 4)
        for r in 0..<rows {
            for c in 0..<n {
                let expected = Double(P[r, c]) * (0.5 * Double(dP[r, c]) - Double(offset[r]))
                let allowed = 0x1p-8 * abs(expected) + 1e-6
                #expect(abs(number(pairs, r, c, n) - expected) <= allowed)
                #expect(abs(Double(lines[r * (n + 4) + c].widened) - expected) <= allowed)
            }
            #expect(lines[r * (n + 4) + n..<(r + 1) * (n + 4)].allSatisfy { $0 == 7 })
        }
        if rows % 2 == 1 { #expect(pairs.suffix(n).allSatisfy { $0 >> 16 == 0 }) }
    }

    @Test func allFinite_findsWhatIsNot() {
        var x = Numbers(3, 21, stride: 24, seed: 8)
        x.elements[21] = .nan
        #expect(kernels.allFinite(3, 21, x.elements, 24))
        for bad in [BFloat16.nan, .infinity, BFloat16(-Double.infinity)] {
            var y = x
            y.elements[2 * 24 + 20] = bad
            #expect(!kernels.allFinite(3, 21, y.elements, 24))
        }
    }
}
