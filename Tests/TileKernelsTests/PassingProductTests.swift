import AttentionCPU
import AttentionCore
import Testing
import TileKernelTable

/// The products of decoding are those with operands that stay, whatever comes next: to the last bit in whole
/// vectors.
@Suite("Products of what passes by")
struct PassingProductTests {
    /// What comes next: an address that nothing may be read from.
    private let next = UnsafeRawPointer(bitPattern: 4096).unsafelyUnwrapped

    private func check<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        for n in table.interestingColumns {
            for m in [0, 1, 2, 4, 5, 6, 8, 12, 13, 16, 24, 31] {
                for k in [0, 1, 3, 16, 33, 64] {
                    let A = Matrix<S>.random(m, k, stride: k + 3, seed: 1)
                    let B = Matrix<S>.random(n, k, seed: 2)
                    let (At, Bt) = (Matrix<S>.random(k, m, seed: 3), Matrix<S>.random(k, n, seed: 4))
                    scores(table, m, n, k, A, B)
                    sums(table, m, n, k, A, transposed: false, Bt)
                    sums(table, m, n, k, At, transposed: true, Bt)
                }
            }
        }
    }

    /// C = A Bᵀ, where A passes by and B is packed, and where B passes by.
    private func scores<S: TestScalar>(
        _ table: TileKernelTable, _ m: Int, _ n: Int, _ k: Int, _ A: Matrix<S>, _ B: Matrix<S>
    ) {
        let whole = n.roundedUp(toMultipleOf: table.lanes)
        let panels = Matrix<S>(1, table.packedCount(rows: n, depth: k))
        let scratch = Matrix<S>(1, table.gemmScratch(depth: k))
        table.packTransposed(n, k, B.memory, B.stride, panels.memory)
        let got = Matrix<S>(m, n, stride: whole, reach: whole)
        let expected = Matrix<S>(m, n, stride: whole, reach: whole)
        table.passing.gemmPacked(
            m, n, k, A.memory, A.stride, panels.memory, got.memory, whole, scratch.memory, next, 640, 512)
        table.gemmPacked(m, n, k, A.memory, A.stride, panels.memory, expected.memory, whole)
        #expect(equal(got, expected) && got.isUntouched(beyond: whole), "\(S.self) m \(m) n \(n) k \(k)")
        let (dots, expectedDots) = (Matrix<S>(m, n), Matrix<S>(m, n))
        table.passing.gemmNT(
            m, n, k, A.memory, A.stride, B.memory, B.stride, dots.memory, n, next, 640, 512)
        table.gemmNT(m, n, k, A.memory, A.stride, B.memory, B.stride, expectedDots.memory, n)
        #expect(equal(dots, expectedDots) && dots.isUntouched(), "\(S.self) m \(m) n \(n) k \(k)")
    }

    /// C = keep C + A B, with A as it is or transposed.
    private func sums<S: TestScalar>(
        _ table: TileKernelTable, _ m: Int, _ n: Int, _ k: Int, _ A: Matrix<S>, transposed: Bool,
        _ B: Matrix<S>
    ) {
        let keep = Matrix<S>.random(1, max(m, 1), seed: 5)
        let scratch = Matrix<S>(1, table.gemmScratch(depth: k))
        let (got, expected) = (Matrix<S>(m, n, stride: n + 2), Matrix<S>(m, n))
        for r in 0..<m { for c in 0..<n { (got[r, c], expected[r, c]) = (S(r - c), S(r - c)) } }
        (transposed ? table.passing.gemmTN : table.passing.gemmNN)(
            m, n, k, A.memory, A.stride, B.memory, n, got.memory, n + 2, keep.memory, scratch.memory, next,
            512, 512)
        (transposed ? table.gemmTN : table.gemmNN)(
            m, n, k, A.memory, A.stride, B.memory, n, expected.memory, n, keep.memory, true, scratch.memory)
        // What does not fill a vector is kept by a product and a sum, in the one or the other: not to the
        // last bit.
        let isClose =
            n % table.lanes == 0
            ? equal(got, expected)
            : got.worst { (Double(expected[$0, $1]), abs(Double(expected[$0, $1])) + Double(k + m + n)) }
                <= tolerance(S.self)
        #expect(isClose && got.isUntouched(), "\(S.self) m \(m) n \(n) k \(k)")
    }

    private func equal<S: TestScalar>(_ a: Matrix<S>, _ b: Matrix<S>) -> Bool {
        (0..<a.rows).allSatisfy { r in (0..<a.columns).allSatisfy { a[r, $0] == b[r, $0] } }
    }

    @Test(arguments: kernelSets)
    func productsOfWhatPassesBy_areThoseOfWhatStays(set: KernelSet) {
        check(Float.self, set)
        check(Double.self, set)
    }
}
