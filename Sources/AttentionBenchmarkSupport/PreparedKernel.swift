import AttentionCPU
import AttentionCore
import TileKernelTable

/// A kernel with operands of its own.
///
/// The values stay in the range of ordinary numbers however often a kernel works in place: a denormal number or
/// an infinity would take another time.
public final class PreparedKernel {
    private let kernelCase: KernelCase
    private let table: TileKernelTable
    private let memory: AlignedBuffer
    /// The operands, each with room for a matrix of the case in whole panels: two that are read, one that is
    /// written, the scratch of the products and three vectors with an entry a row or a column.
    private let A, B, C, scratch: UnsafeMutableRawPointer
    private let ones, halves, out: UnsafeMutableRawPointer
    private let isOrdinary: (UnsafeMutableRawPointer) -> Bool

    init<Scalar: CPUScalar>(
        _ kernelCase: KernelCase, _ table: TileKernelTable, _ type: Scalar.Type
    ) throws(AttentionError) {
        self.kernelCase = kernelCase
        self.table = table
        let (m, n, k) = (kernelCase.m, kernelCase.n, kernelCase.k)
        let width = table.panelWidth
        func padded(_ count: Int) -> Int { (count + width - 1) / width * width }
        let matrix = max(padded(m), 1) * max(padded(n), padded(k)) + padded(n) * padded(k)
        let sizes = [
            matrix, matrix, matrix, table.gemmScratch(depth: max(k, 1)), padded(max(m, n)), padded(max(m, n)),
            padded(max(m, n)),
        ]
        // Each a cache line apart from the next.
        let strides = sizes.map { ($0 * MemoryLayout<Scalar>.size + 127) / 64 * 64 }
        memory = try AlignedBuffer(byteCount: strides.reduce(0, +))
        let starts = strides.indices.map { strides[..<$0].reduce(0, +) }
        let pointers = starts.map { [base = memory.base] in base + $0 }
        (A, B, C, scratch) = (pointers[0], pointers[1], pointers[2], pointers[3])
        (ones, halves, out) = (pointers[4], pointers[5], pointers[6])
        isOrdinary = { operand in
            let scalars = UnsafeBufferPointer(start: operand.assumingMemoryBound(to: Scalar.self), count: matrix)
            return scalars.allSatisfy { $0.isNormal || $0 == 0 }
        }
        for index in 0..<4 {
            let scalars = pointers[index].bindMemory(to: Scalar.self, capacity: sizes[index])
            // From 1/4 to 1, not the same in neighbouring rows.
            for i in 0..<sizes[index] { scalars[i] = Scalar(0.25 + 0.75 * Double(i % 251) / 250) }
        }
        for (index, value) in [(4, 1.0), (5, 0.5), (6, 0.0)] {
            pointers[index].bindMemory(to: Scalar.self, capacity: sizes[index])
                .initialize(repeating: Scalar(value), count: sizes[index])
        }
    }

    /// Calls the kernel so many times.
    public func run(_ times: Int) { for _ in 0..<times { call() } }

    private func call() {
        switch kernelCase.kernel {
        case .gemmPacked, .gemmNT, .gemmNN, .gemmTN: multiply()
        case .packTransposed, .rowMaximum, .columnMaximum, .allFinite, .rowDot: read()
        default: update()
        }
    }

    private func multiply() {
        let (m, n, k) = (kernelCase.m, kernelCase.n, kernelCase.k)
        switch kernelCase.kernel {
        case .gemmPacked: table.gemmPacked(m, n, k, A, k, B, C, paddedColumns)
        case .gemmNT: table.gemmNT(m, n, k, A, k, B, k, C, n)
        // Half of the old C is kept, so that C stays bounded.
        case .gemmNN: table.gemmNN(m, n, k, A, k, B, n, C, n, halves, true, scratch)
        default: table.gemmTN(m, n, k, A, m, B, n, C, n, halves, true, scratch)
        }
    }

    private func read() {
        let (m, n) = (kernelCase.m, kernelCase.n)
        switch kernelCase.kernel {
        case .packTransposed: table.packTransposed(m, n, A, n, C)
        case .rowMaximum: table.rowMaximum(m, n, A, n, out)
        case .columnMaximum: table.columnMaximum(m, n, A, paddedColumns, out)
        case .rowDot: table.rowDot(m, n, A, n, B, n, out)
        default: _ = table.allFinite(m, n, A, n)
        }
    }

    /// The kernels that work in place; S comes to rest where 2^(S − 1) is S, the others where they were.
    private func update() {
        let (m, n) = (kernelCase.m, kernelCase.n)
        switch kernelCase.kernel {
        case .exponentiate: table.exponentiate(m, n, C, n, 1, ones, out)
        case .exponentiateColumns: table.exponentiateColumns(m, n, C, paddedColumns, 1, ones, out)
        case .probabilities: table.probabilities(m, n, C, n, 1, halves, halves)
        case .scoreGradient: table.scoreGradient(m, n, A, n, C, n, 0.5, halves)
        case .scaleRows: table.scaleRows(m, n, C, n, ones)
        default: table.divideRows(m, n, C, n, ones)
        }
    }

    /// Whether the operand that is written holds normal numbers and zeros only.
    package var holdsOrdinaryNumbers: Bool { isOrdinary(C) }

    private var paddedColumns: Int {
        (kernelCase.n + table.panelWidth - 1) / table.panelWidth * table.panelWidth
    }
}
