/// The operand that comes next, for a product to ask for while it runs: see `PassingProducts`. Nothing of it
/// is read.
struct Upcoming {
    let memory: UnsafeRawPointer
    /// Bytes from row to row, and of a row.
    let stride, width: Int

    init<Scalar>(_ block: Block<Scalar>) {
        let size = MemoryLayout<Scalar>.stride
        (memory, stride, width) = (UnsafeRawPointer(block.memory), block.stride * size, block.columns * size)
    }
}
