import AttentionCPU
import AttentionCore
import Testing
import TileKernelTable

/// The passes over tiles of every table against plain loops.
@Suite("Tile passes")
struct SoftmaxKernelTests {
    /// Widths around one, two and four vectors.
    private func widths(_ table: TileKernelTable) -> [Int] {
        let W = table.lanes
        return Array(0...W + 1) + [2 * W, 4 * W - 1, 4 * W, 5 * W + 3]
    }

    private func rowMaximum<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in widths(table) {
            let s = Matrix<S>.random(3, n, stride: n + 2, seed: 6)
            if n > 2 { s[1, n / 2] = .nan }
            if n > 0 { for c in 0..<n { s[2, c] = -.infinity } }
            let out = Matrix<S>(1, 3)
            table.rowMaximum(3, n, s.memory, s.stride, out.memory)
            for r in 0..<3 {
                let expected = (0..<n).map { s[r, $0] }.filter { !$0.isNaN }.max() ?? -.infinity
                #expect(out[0, r] == expected, "\(S.self) n \(n) row \(r)")
            }
            #expect(out.isUntouched() && s.isUntouched())
        }
    }

    @Test(arguments: kernelSets)
    func rowMaximum_passesNaNOver(set: KernelSet) {
        rowMaximum(Float.self, set)
        rowMaximum(Double.self, set)
    }

    private func exponentiate<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in widths(table) {
            let s = Matrix<S>.random(4, n, stride: n + 3, seed: 7)
            let old = Matrix<S>.random(4, n, seed: 7)
            if n > 1 { s[1, n - 1] = -.infinity }
            if n > 1 { old[1, n - 1] = -.infinity }
            let (offset, sum) = (Matrix<S>.random(1, 4, seed: 8), Matrix<S>(1, 4))
            offset[0, 3] = .infinity
            table.exponentiate(4, n, s.memory, s.stride, 0.7, offset.memory, sum.memory)
            for r in 0..<4 {
                var total = 0.0
                for c in 0..<n {
                    expectPower(s[r, c], of: old[r, c], minus: offset[0, r], "n \(n) (\(r), \(c))")
                    total += Double(s[r, c])
                }
                let error = abs(Double(sum[0, r]) - total)
                #expect(error <= tolerance(S.self) * (1 + total), "\(S.self) n \(n) row \(r)")
            }
            #expect(s.isUntouched() && sum.isUntouched(), "\(S.self) n \(n)")
            table.probabilities(4, n, s.memory, s.stride, 1, offset.memory, offset.memory)
            #expect(s.isUntouched(), "\(S.self) n \(n)")
        }
    }

    /// Whether `found` is 2^(0.7 (s − offset)).
    private func expectPower<S: TestScalar>(_ found: S, of s: S, minus offset: S, _ place: String) {
        let expected = Double.exp((Double(s) - Double(offset)) * Double(S(0.7)) * 0.6931471805599453)
        #expect(abs(Double(found) - expected) <= 8 * Double(S.ulpOfOne) * expected, "\(S.self) \(place)")
    }

    /// A transposed tile is the tile with rows and columns exchanged, in rows with room for whole vectors.
    private func transposed<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in widths(table) where n > 0 {
            for m in [0, 1, 7, 16, 17, 40] {
                let stride = n.roundedUp(toMultipleOf: table.lanes)
                let s = Matrix<S>.random(m, stride, seed: 9)
                let old = Matrix<S>.random(m, stride, seed: 9)
                if m > 1 { (s[1, 0], old[1, 0]) = (-.infinity, -.infinity) }
                let (out, sum) = (Matrix<S>(1, stride), Matrix<S>(1, stride))
                let offset = Matrix<S>.random(1, stride, seed: 8)
                table.columnMaximum(m, n, s.memory, stride, out.memory)
                table.exponentiateColumns(m, n, s.memory, stride, 0.7, offset.memory, sum.memory)
                for c in 0..<n {
                    let largest = (0..<m).map { old[$0, c] }.max() ?? -.infinity
                    #expect(out[0, c] == largest, "\(S.self) \(m) \(n)")
                    for r in 0..<m {
                        expectPower(s[r, c], of: old[r, c], minus: offset[0, c], "(\(r), \(c))")
                    }
                    let total = (0..<m).reduce(0.0) { $0 + Double(s[$1, c]) }
                    let error = abs(Double(sum[0, c]) - total)
                    #expect(error <= tolerance(S.self) * (1 + total), "\(S.self) \(m) \(n)")
                }
                #expect(s.isUntouched() && sum.isUntouched() && out.isUntouched(), "\(S.self) \(m) \(n)")
            }
        }
    }

    @Test(arguments: kernelSets)
    func transposedTile_givesMaximaPowersAndSumsOfColumns(set: KernelSet) {
        transposed(Float.self, set)
        transposed(Double.self, set)
    }

    @Test(arguments: kernelSets)
    func exponentiate_givesProbabilitiesAndTheirSums(set: KernelSet) {
        exponentiate(Float.self, set)
        exponentiate(Double.self, set)
    }

    private func probabilities<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in widths(table) {
            let s = Matrix<S>.random(4, n, stride: n + 3, seed: 7)
            let old = Matrix<S>.random(4, n, seed: 7)
            let (high, low) = (Matrix<S>.random(1, 4, seed: 8), Matrix<S>(1, 4))
            // Scores near 100 and an offset with more digits than one scalar has.
            for r in 0..<4 {
                low[0, r] = (100 + high[0, r]).ulp / 3
                high[0, r] += 100
                for c in 0..<n {
                    s[r, c] += 100
                    old[r, c] += 100
                }
            }
            (high[0, 3], low[0, 3]) = (.infinity, 0)
            table.probabilities(4, n, s.memory, s.stride, 1, high.memory, low.memory)
            for r in 0..<4 {
                for c in 0..<n {
                    // The difference of two numbers near 100 is exact; subtracting the low part rounds once.
                    let difference = Double(old[r, c]) - Double(high[0, r]) - Double(low[0, r])
                    let expected = Double.exp(difference * 0.6931471805599453)
                    let error = abs(Double(s[r, c]) - expected)
                    #expect(error <= 16 * Double(S.ulpOfOne) * expected, "\(S.self) n \(n) (\(r), \(c))")
                }
            }
            #expect(s.isUntouched(), "\(S.self) n \(n)")
        }
    }

    @Test(arguments: kernelSets)
    func probabilities_useBothPartsOfTheOffset(set: KernelSet) {
        probabilities(Float.self, set)
        probabilities(Double.self, set)
    }

    private func scoreGradient<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in widths(table) {
            let p = Matrix<S>.random(3, n, stride: n + 1, seed: 9)
            let dP = Matrix<S>.random(3, n, stride: n + 4, seed: 10)
            let old = Matrix<S>.random(3, n, seed: 10)
            let offset = Matrix<S>.random(1, 3, seed: 11)
            table.scoreGradient(3, n, p.memory, p.stride, dP.memory, dP.stride, 0.25, offset.memory)
            let worst = dP.worst { r, c in
                let (scaled, shift) = (0.25 * Double(old[r, c]), Double(offset[0, r]))
                return (Double(p[r, c]) * (scaled - shift), abs(Double(p[r, c])) * (abs(scaled) + abs(shift)))
            }
            #expect(worst <= tolerance(S.self), "\(S.self) n \(n)")
            #expect(dP.isUntouched() && p.isUntouched(), "\(S.self) n \(n)")
        }
    }

    @Test(arguments: kernelSets)
    func scoreGradient_isTheGradientOfTheSoftmax(set: KernelSet) {
        scoreGradient(Float.self, set)
        scoreGradient(Double.self, set)
    }

    private func scaleRows<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in widths(table) {
            let c = Matrix<S>.random(3, n, stride: n + 2, seed: 12)
            let old = Matrix<S>.random(3, n, seed: 12)
            for d in 0..<n { c[1, d] = d % 2 == 0 ? .nan : .infinity }
            let factors = Matrix<S>.random(1, 3, seed: 13)
            factors[0, 1] = 0
            table.scaleRows(3, n, c.memory, c.stride, factors.memory)
            for r in 0..<3 {
                for d in 0..<n {
                    let expected = r == 1 ? 0 : old[r, d] * factors[0, r]
                    #expect(c[r, d] == expected, "\(S.self) n \(n) (\(r), \(d))")
                }
            }
            #expect(c.isUntouched(), "\(S.self) n \(n)")
        }
    }

    @Test(arguments: kernelSets)
    func scaleRows_byZero_isZeroWhateverWasThere(set: KernelSet) {
        scaleRows(Float.self, set)
        scaleRows(Double.self, set)
    }

    private func divideRows<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in widths(table) {
            let a = Matrix<S>.random(3, n, stride: n + 2, seed: 12)
            for d in 0..<n { a[1, d] = d % 2 == 0 ? .nan : .infinity }
            let divisors = Matrix<S>.random(1, 3, seed: 13)
            divisors[0, 1] = 0
            let c = Matrix<S>(3, n, stride: n + 5)
            table.divideRows(3, n, a.memory, a.stride, divisors.memory, c.memory, c.stride)
            let expected = Matrix<S>(3, n)
            for r in 0..<3 {
                for d in 0..<n { expected[r, d] = r == 1 ? 0 : a[r, d] / divisors[0, r] }
            }
            table.divideRows(3, n, a.memory, a.stride, divisors.memory, a.memory, a.stride)
            for r in 0..<3 {
                for d in 0..<n {
                    #expect(c[r, d] == expected[r, d], "\(S.self) n \(n) (\(r), \(d))")
                    #expect(a[r, d] == expected[r, d], "\(S.self) n \(n) (\(r), \(d)) in place")
                }
            }
            #expect(c.isUntouched() && a.isUntouched(), "\(S.self) n \(n)")
        }
    }

    @Test(arguments: kernelSets)
    func divideRows_byZero_isZeroWhateverWasThere(set: KernelSet) {
        divideRows(Float.self, set)
        divideRows(Double.self, set)
    }

    private func rowDot<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in widths(table) {
            let a = Matrix<S>.random(3, n, stride: n + 2, seed: 14)
            let b = Matrix<S>.random(3, n, stride: n + 7, seed: 15)
            let out = Matrix<S>(1, 3)
            table.rowDot(3, n, a.memory, a.stride, b.memory, b.stride, out.memory)
            let worst = out.worst { _, r in
                (0..<n).reduce((0, 0)) {
                    let term = Double(a[r, $1]) * Double(b[r, $1])
                    return ($0.0 + term, $0.1 + abs(term))
                }
            }
            #expect(worst <= tolerance(S.self), "\(S.self) n \(n)")
            #expect(out.isUntouched(), "\(S.self) n \(n)")
        }
    }

    @Test(arguments: kernelSets)
    func rowDot_isTheSumOfProducts(set: KernelSet) {
        rowDot(Float.self, set)
        rowDot(Double.self, set)
    }

    private func allFinite<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in widths(table) {
            let a = Matrix<S>.random(2, n, stride: n + 3, seed: 16)
            #expect(table.allFinite(2, n, a.memory, a.stride), "\(S.self) n \(n)")
            #expect(table.allFinite(0, n, a.memory, a.stride))
            for c in 0..<n {
                for (r, x) in [(0, S.nan), (1, .infinity), (1, -.infinity)] {
                    let old = a[r, c]
                    a[r, c] = x
                    #expect(!table.allFinite(2, n, a.memory, a.stride), "\(S.self) n \(n) (\(r), \(c))")
                    a[r, c] = old
                }
            }
            if n > 0 { a[0, n - 1] = S.greatestFiniteMagnitude }
            if n > 1 { a[0, 0] = S.greatestFiniteMagnitude }
            #expect(table.allFinite(2, n, a.memory, a.stride), "\(S.self) n \(n), the largest number")
        }
    }

    @Test(arguments: kernelSets)
    func allFinite_findsEveryNaNAndInfinity(set: KernelSet) {
        allFinite(Float.self, set)
        allFinite(Double.self, set)
    }

    @Test(arguments: kernelSets)
    func readStream_sumsWhatItReads(set: KernelSet) {
        let table = Float.tileKernels(set)
        let count = 64 * table.lanes
        let a = Matrix<Float>(1, count)
        for c in 0..<count { a[0, c] = 1 }
        let sum = Matrix<Float>(1, 1)
        table.readStream(count, a.memory, sum.memory)
        #expect(sum[0, 0] == Float(count))
    }

    @Test(arguments: kernelSets)
    func multiplyAddLoop_countsItsOperations(set: KernelSet) {
        let table = Double.tileKernels(set)
        let out = Matrix<Double>(1, 1)
        out[0, 0] = 0.5
        let (one, ten) = (table.multiplyAddLoop(1, out.memory), table.multiplyAddLoop(10, out.memory))
        #expect(one > 0 && ten == 10 * one)
    }
}
