import AttentionCPU
import AttentionCore
import AttentionVerification
import Testing
import TileKernelTable

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Every kernel table that this machine runs.
let kernelSets = KernelSelection.available

/// The number types with what a test has to know of them.
protocol TestScalar: CPUScalar {
    static var guardPattern: Self { get }
}

extension Float: TestScalar {
    static var guardPattern: Float { Float(nan: 0x1234, signaling: false) }
}

extension Double: TestScalar {
    static var guardPattern: Double { Double(nan: 0x1234, signaling: false) }
}

/// A matrix whose last element lies at the end of a page that nothing may touch the next of: a kernel that
/// reads or writes beyond it ends the test run. Gaps and what lies before it hold one NaN pattern.
final class Matrix<Scalar: TestScalar> {
    let rows: Int
    let columns: Int
    let stride: Int
    private let pages: UnsafeMutableRawPointer
    private let byteCount: Int
    private let elements: UnsafeMutableBufferPointer<Scalar>
    private let start: Int

    /// - Parameters:
    ///   - stride: elements from a row to the next; the last row ends with its last column, or at `reach`.
    ///   - reach: columns of the last row that belong to the memory; `columns` unless given.
    init(_ rows: Int, _ columns: Int, stride: Int? = nil, reach: Int? = nil) {
        let stride = stride ?? columns
        self.rows = rows
        self.columns = columns
        self.stride = stride
        let size = MemoryLayout<Scalar>.size
        let count = rows == 0 ? 0 : (rows - 1) * stride + (reach ?? columns)
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let usable = max((count * size).roundedUp(toMultipleOf: page), page)
        byteCount = usable + page
        guard let mapped = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            mapped != MAP_FAILED, mprotect(mapped + usable, page, PROT_NONE) == 0
        else { preconditionFailure("no memory for a test") }
        pages = mapped
        elements = UnsafeMutableBufferPointer(
            start: mapped.bindMemory(to: Scalar.self, capacity: usable / size), count: usable / size)
        elements.update(repeating: Scalar.guardPattern)
        start = elements.count - count
    }

    deinit { munmap(pages, byteCount) }

    /// A matrix of N(0, 1).
    static func random(
        _ rows: Int, _ columns: Int, stride: Int? = nil, seed: UInt64
    ) -> Matrix {
        let matrix = Matrix(rows, columns, stride: stride)
        var random = SplitMix64(seed: seed)
        for r in 0..<rows { for c in 0..<columns { matrix[r, c] = Scalar(random.normal()) } }
        return matrix
    }

    var memory: UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(elements.baseAddress.unsafelyUnwrapped + start)
    }

    subscript(r: Int, c: Int) -> Scalar {
        get { elements[start + r * stride + c] }
        set { elements[start + r * stride + c] = newValue }
    }

    /// Whether everything but the first `writable` columns of each row still holds the pattern.
    func isUntouched(beyond writable: Int? = nil) -> Bool {
        let pattern = Scalar.guardPattern.significandBitPattern
        return elements.indices.allSatisfy { index in
            let offset = index - start
            let inside =
                offset >= 0 && rows > 0 && stride > 0 && offset / stride < rows
                && offset % stride < (writable ?? columns)
            return inside || elements[index].isNaN && elements[index].significandBitPattern == pattern
        }
    }

    /// The largest |self − expected| / (1 + Σ|terms|), given both for each entry.
    func worst(_ expected: (Int, Int) -> (value: Double, scale: Double)) -> Double {
        var worst = 0.0
        for r in 0..<rows {
            for c in 0..<columns {
                let (value, scale) = expected(r, c)
                let error = abs(Double(self[r, c]) - value) / (1 + scale)
                worst = error.isNaN ? .infinity : max(worst, error)
            }
        }
        return worst
    }
}

/// 2^x of the C library, right to less than a unit in the last place.
func referenceExp2(_ x: Double) -> Double { exp2(x) }

/// What a sum of rounded terms of total magnitude 1 may be off by.
func tolerance<Scalar: TestScalar>(_ type: Scalar.Type) -> Double { 8 * Double(Scalar.ulpOfOne) }

extension TileKernelTable {
    /// The sizes at which the GEMMs take another path: 0 and 1, around a vector, around the register tile.
    var interestingColumns: [Int] {
        Set([
            0, 1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes, 2 * lanes + 3, 3 * lanes, panelWidth - 1,
            panelWidth, panelWidth + 1, 2 * panelWidth, 2 * panelWidth + lanes + 1,
        ]).sorted()
    }

    var interestingRows: [Int] { Array(0...registerRows + 2) + [2 * registerRows, 3 * registerRows + 5] }
}
