import Dispatch

/// Rows of a result that is filled from several threads, each row from one of them.
struct RowWriter: @unchecked Sendable {
    private let memory: UnsafeMutableBufferPointer<Double>
    private let width: Int

    /// `[rows][width]` of zeros. `array` must be called, once: it frees them.
    init(rows: Int, width: Int) {
        memory = .allocate(capacity: rows * width)
        memory.initialize(repeating: 0)
        self.width = width
    }

    /// The first of the row's `width` elements.
    subscript(row: Int) -> UnsafeMutablePointer<Double> {
        precondition(row >= 0 && (row + 1) * width <= memory.count)
        return memory.baseAddress.unsafelyUnwrapped + row * width
    }

    /// The rows, one after the other.
    func array() -> [Double] {
        defer { memory.deallocate() }
        return Array(memory)
    }
}

/// Runs the body over parts of `0..<count`, on all cores.
func inParallel(_ count: Int, _ body: (Range<Int>) -> Void) {
    let parts = min(count, 64)
    withoutActuallyEscaping(body) { body in
        nonisolated(unsafe) let body = body
        DispatchQueue.concurrentPerform(iterations: parts) { part in
            body(count * part / parts..<count * (part + 1) / parts)
        }
    }
}

/// Σ_d a[r][d] · b[s][d] for rows of `n` elements. Four sums, so that an addition need not wait for the last.
func dot(_ a: [Double], _ r: Int, _ b: [Double], _ s: Int, _ n: Int) -> Double {
    precondition((r + 1) * n <= a.count && (s + 1) * n <= b.count)
    return a.withUnsafeBytes { a in
        b.withUnsafeBytes { b in
            let size = MemoryLayout<Double>.size
            var sums = SIMD4<Double>.zero
            var d = 0
            while d + 4 <= n {
                let x = a.loadUnaligned(fromByteOffset: (r * n + d) * size, as: SIMD4<Double>.self)
                let y = b.loadUnaligned(fromByteOffset: (s * n + d) * size, as: SIMD4<Double>.self)
                sums += x * y
                d += 4
            }
            var sum = (sums[0] + sums[1]) + (sums[2] + sums[3])
            while d < n {
                let x = a.load(fromByteOffset: (r * n + d) * size, as: Double.self)
                let y = b.load(fromByteOffset: (s * n + d) * size, as: Double.self)
                sum += x * y
                d += 1
            }
            return sum
        }
    }
}

/// `to += factor · a[r]` for rows of `n` elements.
func add(_ factor: Double, _ a: [Double], _ r: Int, _ n: Int, to: UnsafeMutablePointer<Double>) {
    precondition((r + 1) * n <= a.count)
    a.withUnsafeBufferPointer { a in
        for d in 0..<n { to[d] += factor * a[r * n + d] }
    }
}
