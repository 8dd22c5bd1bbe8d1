import AttentionCore

/// Hands out pieces of one block of memory in order, aligned to cache lines. Without a block it only
/// counts, so that the code which lays memory out is also the code which measures it.
struct Arena {
    private let base: UnsafeMutableRawPointer
    private(set) var used = 0
    /// What is counted for more than any machine has, such as the scores of 2⁴⁰ rows and keys.
    private static let most = 1 << 60

    /// Counts.
    init() { base = UnsafeMutableRawPointer(bitPattern: AlignedBuffer.alignment).unsafelyUnwrapped }

    /// Hands out the memory at `base`, of which the caller has made sure that it is enough.
    init(_ base: UnsafeMutableRawPointer) { self.base = base }

    /// `count` elements, uninitialised.
    mutating func take<T: ~Copyable>(_ count: Int, of type: T.Type) -> UnsafeMutablePointer<T> {
        let start = used
        let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<T>.stride)
        used =
            overflow || bytes > Self.most - start
            ? Self.most : (start + bytes).roundedUp(toMultipleOf: AlignedBuffer.alignment)
        return (base + start).bindMemory(to: T.self, capacity: count)
    }
}

extension Arena {
    /// A matrix of our own, rows `stride` scalars apart.
    mutating func block<Scalar>(_ rows: Int, _ columns: Int, stride: Int) -> MutableBlock<Scalar> {
        let (count, overflow) = rows.multipliedReportingOverflow(by: stride)
        return MutableBlock(
            memory: take(overflow ? .max : count, of: Scalar.self), rows: rows, columns: columns,
            stride: stride)
    }
}

extension AttentionShape {
    /// The place of a query row in a `[B, H, Nq]` array.
    func row(_ b: Int, _ h: Int, _ n: Int) -> Int { (b * heads + h) * queryLength + n }
}
