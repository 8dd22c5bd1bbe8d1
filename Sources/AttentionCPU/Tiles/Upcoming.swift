/// The operand that comes next, for a product to ask for while it runs: see `PassingProducts`. Nothing of it
/// is read.
struct Upcoming {
    let memory: UnsafeRawPointer
    /// Bytes from row to row, and of a row.
    let stride, width: Int

    init<Scalar>(_ block: Block<Scalar>) {
        let size = MemoryLayout<Scalar>.stride
        self.init(UnsafeRawPointer(block.memory), block.stride * size, block.columns * size)
    }

    private init(_ memory: UnsafeRawPointer, _ stride: Int, _ width: Int) {
        (self.memory, self.stride, self.width) = (memory, stride, width)
    }

    /// Without its first rows.
    func skipping(_ rows: Int) -> Upcoming { Upcoming(memory + rows * stride, stride, width) }
}
