import AttentionCPU
import AttentionCore
import Testing
import TileKernelTable

/// The four GEMMs of every table against triple loops in Double.
@Suite("GEMM kernels")
struct GEMMTests {
    private static let depths = [0, 1, 2, 3, 7, 16, 33, 64]

    /// Σ_k A[r][k] B[k][c], with both matrices seen through the given accessors.
    private func product(
        _ k: Int, _ a: (Int) -> Double, _ b: (Int) -> Double, kept: Double = 0
    ) -> (value: Double, scale: Double) {
        var (value, scale) = (kept, abs(kept))
        for d in 0..<k {
            value += a(d) * b(d)
            scale += abs(a(d) * b(d))
        }
        return (value, scale)
    }

    private func scores<S: TestScalar>(_ type: S.Type, _ set: KernelSet, packed: Bool) {
        let table = S.tileKernels(set)
        for n in table.interestingColumns {
            for m in table.interestingRows {
                for k in Self.depths {
                    let A = Matrix<S>.random(m, k, stride: k + 3, seed: 1)
                    let B = Matrix<S>.random(n, k, stride: k + 5, seed: 2)
                    let whole = n.roundedUp(toMultipleOf: table.lanes)
                    // Packed panels may fill whole vectors of C; rows as they lie may not.
                    let width = packed ? whole : n
                    let C = Matrix<S>(m, n, stride: width + 2, reach: width)
                    if packed {
                        let panels = Matrix<S>(1, table.packedCount(rows: n, depth: k))
                        table.packTransposed(n, k, B.memory, B.stride, panels.memory)
                        table.gemmPacked(m, n, k, A.memory, A.stride, panels.memory, C.memory, C.stride)
                    } else {
                        table.gemmNT(m, n, k, A.memory, A.stride, B.memory, B.stride, C.memory, C.stride)
                    }
                    let worst = C.worst { r, c in product(k, { Double(A[r, $0]) }, { Double(B[c, $0]) }) }
                    #expect(worst <= tolerance(S.self), "\(S.self) m \(m) n \(n) k \(k)")
                    #expect(C.isUntouched(beyond: width), "\(S.self) m \(m) n \(n) k \(k)")
                }
            }
        }
    }

    @Test(arguments: kernelSets)
    func packedPanels_giveQTimesKTransposed(set: KernelSet) {
        scores(Float.self, set, packed: true)
        scores(Double.self, set, packed: true)
    }

    @Test(arguments: kernelSets)
    func rowsAsTheyLie_giveQTimesKTransposed(set: KernelSet) {
        scores(Float.self, set, packed: false)
        scores(Double.self, set, packed: false)
    }

    private enum Keep: CaseIterable { case nothing, everything, scaled }

    private func accumulation<S: TestScalar>(
        _ type: S.Type, _ set: KernelSet, transposed: Bool, _ keep: Keep
    ) {
        let table = S.tileKernels(set)
        let rowScale = Matrix<S>.random(1, 64, seed: 5)
        for n in table.interestingColumns {
            for m in table.interestingRows {
                for k in Self.depths {
                    let A =
                        transposed
                        ? Matrix<S>.random(k, m, stride: m + 3, seed: 1)
                        : Matrix<S>.random(m, k, stride: k + 3, seed: 1)
                    let B = Matrix<S>.random(k, n, stride: n + 1, seed: 2)
                    let C = Matrix<S>(m, n, stride: n + 2)
                    let old = Matrix<S>.random(m, n, seed: 3)
                    // What is dropped may be anything.
                    for r in 0..<m { for c in 0..<n { C[r, c] = keep == .nothing ? .nan : old[r, c] } }
                    let scratch = Matrix<S>(1, table.gemmScratch(depth: k))
                    (transposed ? table.gemmTN : table.gemmNN)(
                        m, n, k, A.memory, A.stride, B.memory, B.stride, C.memory, C.stride,
                        keep == .scaled ? UnsafeRawPointer(rowScale.memory) : nil, keep != .nothing,
                        scratch.memory)
                    let worst = C.worst { r, c in
                        let factor = keep == .nothing ? 0 : keep == .everything ? 1 : Double(rowScale[0, r])
                        return product(
                            k, { Double(transposed ? A[$0, r] : A[r, $0]) }, { Double(B[$0, c]) },
                            kept: factor * Double(old[r, c]))
                    }
                    #expect(worst <= tolerance(S.self), "\(S.self) m \(m) n \(n) k \(k) \(keep)")
                    #expect(C.isUntouched(), "\(S.self) m \(m) n \(n) k \(k) \(keep)")
                }
            }
        }
    }

    @Test(arguments: kernelSets)
    func product_keepsOfTheOldWhatItIsTold(set: KernelSet) {
        for keep in Keep.allCases {
            accumulation(Float.self, set, transposed: false, keep)
            accumulation(Double.self, set, transposed: false, keep)
        }
    }

    @Test(arguments: kernelSets)
    func transposedProduct_keepsOfTheOldWhatItIsTold(set: KernelSet) {
        for keep in Keep.allCases {
            accumulation(Float.self, set, transposed: true, keep)
            accumulation(Double.self, set, transposed: true, keep)
        }
    }

    /// NaN in one row of A reaches that row of C and no other.
    private func notANumber<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        let (m, n, k) = (2 * table.registerRows + 1, table.panelWidth + 3, 5)
        let A = Matrix<S>.random(m, k, seed: 1)
        A[3, 2] = .nan
        let B = Matrix<S>.random(k, n, seed: 2)
        let C = Matrix<S>(m, n)
        let scratch = Matrix<S>(1, table.gemmScratch(depth: k))
        table.gemmNN(
            m, n, k, A.memory, k, B.memory, n, C.memory, n, nil, false, scratch.memory)
        for r in 0..<m { for c in 0..<n { #expect(C[r, c].isNaN == (r == 3), "\(S.self) \(r) \(c)") } }
    }

    @Test(arguments: kernelSets)
    func notANumberInARow_staysInTheRow(set: KernelSet) {
        notANumber(Float.self, set)
        notANumber(Double.self, set)
    }
}
