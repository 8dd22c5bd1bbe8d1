import AttentionCore

/// Memory for the operands of a kernel.
///
/// The values stay in the range of ordinary numbers however often a kernel works in place: a denormal number
/// or an infinity would take another time.
package final class KernelOperands {
    /// What the memory holds: Float, Double, or two numbers of BF16 in each 32 bits.
    enum Content { case float, double, pairs }

    private let memory: AlignedBuffer
    private let content: Content
    private let matrixCount: Int
    /// Two matrices to read and one to write, each with room for any matrix of the case in whole panels.
    let A, B, C: UnsafeMutableRawPointer
    /// What products need.
    let scratch: UnsafeMutableRawPointer
    /// An entry a row or column, of the type of C: 1, 1/2 and room for results.
    let ones, halves, out: UnsafeMutableRawPointer

    /// - Throws: `AttentionError.outOfMemory`
    init(_ kernelCase: KernelCase) throws(AttentionError) {
        let (m, n, k, width) = (kernelCase.m, kernelCase.n, kernelCase.k, kernelCase.panelWidth)
        func padded(_ count: Int) -> Int { count.roundedUp(toMultipleOf: width) }
        let matrix = padded(m) * max(padded(n), padded(k)) + padded(n) * padded(k)
        let sizes =
            [matrix, matrix, matrix, kernelCase.scratch] + Array(repeating: padded(max(m, n)), count: 3)
        // Each on a cache line of its own.
        let strides = sizes.map { ($0 * MemoryLayout<Double>.size + 127) / 64 * 64 }
        memory = try AlignedBuffer(byteCount: strides.reduce(0, +))
        let places = strides.indices.map { [base = memory.base] in base + strides[..<$0].reduce(0, +) }
        (A, B, C, scratch) = (places[0], places[1], places[2], places[3])
        (ones, halves, out) = (places[4], places[5], places[6])
        content = kernelCase.output
        matrixCount = matrix
        // From 1/4 to 1, not the same in neighbouring rows.
        let values = { (i: Int) in 0.25 + 0.75 * Double(i % 251) / 250 }
        for place in 0..<2 { Self.fill(places[place], sizes[place], kernelCase.input, values) }
        for place in 2..<4 { Self.fill(places[place], sizes[place], kernelCase.output, values) }
        for (place, value) in [(4, 1.0), (5, 0.5), (6, 0.0)] {
            Self.fill(places[place], sizes[place], kernelCase.output) { _ in value }
        }
    }

    private static func fill(
        _ place: UnsafeMutableRawPointer, _ count: Int, _ content: Content, _ value: (Int) -> Double
    ) {
        switch content {
        case .float:
            let scalars = place.bindMemory(to: Float.self, capacity: count)
            for i in 0..<count { scalars[i] = Float(value(i)) }
        case .double:
            let scalars = place.bindMemory(to: Double.self, capacity: count)
            for i in 0..<count { scalars[i] = value(i) }
        case .pairs:
            let pairs = place.bindMemory(to: UInt32.self, capacity: count)
            for i in 0..<count { pairs[i] = UInt32(BFloat16(Float(value(i))).bitPattern) * 0x1_0001 }
        }
    }

    /// Whether what is written holds normal numbers and zeros only.
    package var areOrdinary: Bool {
        switch content {
        case .double:
            let scalars = UnsafeBufferPointer(
                start: C.assumingMemoryBound(to: Double.self), count: matrixCount)
            return scalars.allSatisfy { $0.isNormal || $0 == 0 }
        default:
            let scalars = UnsafeBufferPointer(
                start: C.assumingMemoryBound(to: Float.self), count: matrixCount)
            return scalars.allSatisfy { $0.isNormal || $0 == 0 }
        }
    }
}
