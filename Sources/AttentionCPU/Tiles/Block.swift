import AttentionCore

/// A matrix in memory, rows `stride` scalars apart, read only.
struct Block<Scalar> {
    var memory: UnsafePointer<Scalar>
    var rows: Int
    var columns: Int
    var stride: Int

    /// The same memory, which holds the other type already.
    func assumingElements<Other>(_ type: Other.Type) -> Block<Other> {
        Block<Other>(
            memory: UnsafeRawPointer(memory).assumingMemoryBound(to: Other.self), rows: rows,
            columns: columns, stride: stride)
    }

    /// Some of its rows.
    func rows(_ range: Range<Int>) -> Block {
        Block(
            memory: memory + range.lowerBound * stride, rows: range.count, columns: columns, stride: stride)
    }

    /// Some of its columns.
    func columns(_ range: Range<Int>) -> Block {
        Block(memory: memory + range.lowerBound, rows: rows, columns: range.count, stride: stride)
    }
}

/// A matrix in memory, rows `stride` scalars apart.
struct MutableBlock<Scalar> {
    var memory: UnsafeMutablePointer<Scalar>
    var rows: Int
    var columns: Int
    var stride: Int

    var readOnly: Block<Scalar> {
        Block(memory: UnsafePointer(memory), rows: rows, columns: columns, stride: stride)
    }

    /// The same memory, which holds the other type already.
    func assumingElements<Other>(_ type: Other.Type) -> MutableBlock<Other> {
        MutableBlock<Other>(
            memory: UnsafeMutableRawPointer(memory).assumingMemoryBound(to: Other.self), rows: rows,
            columns: columns, stride: stride)
    }

    /// Some of its rows.
    func rows(_ range: Range<Int>) -> MutableBlock {
        MutableBlock(
            memory: memory + range.lowerBound * stride, rows: range.count, columns: columns, stride: stride)
    }

    /// Some of its columns.
    func columns(_ range: Range<Int>) -> MutableBlock {
        MutableBlock(memory: memory + range.lowerBound, rows: rows, columns: range.count, stride: stride)
    }

    /// The start of row r.
    func row(_ r: Int) -> UnsafeMutablePointer<Scalar> { memory + r * stride }

    /// The upper left corner.
    func corner(_ rows: Int, _ columns: Int) -> MutableBlock {
        MutableBlock(memory: memory, rows: rows, columns: columns, stride: stride)
    }

    func fill(_ value: Scalar) {
        for r in 0..<rows { (memory + r * stride).update(repeating: value, count: columns) }
    }

    func negate() where Scalar: SignedNumeric {
        for r in 0..<rows {
            for c in 0..<columns { memory[r * stride + c].negate() }
        }
    }

    func copy(from other: Block<Scalar>) {
        for r in 0..<rows { row(r).update(from: other.memory + r * other.stride, count: columns) }
    }
}

extension TensorView {
    /// Rows `range` of head h of batch entry b.
    func block(_ b: Int, _ h: Int, _ range: Range<Int>) -> Block<Element> {
        Block(
            memory: row(b, h, range.lowerBound), rows: range.count, columns: extents.size,
            stride: rowStride)
    }

    /// The distance of rows; for a single row, whose stride means nothing, its length.
    var rowStride: Int { extents.length > 1 ? strides.row : extents.size }
}

extension MutableTensorView {
    /// Rows `range` of head h of batch entry b.
    func block(_ b: Int, _ h: Int, _ range: Range<Int>) -> MutableBlock<Element> {
        MutableBlock(
            memory: row(b, h, range.lowerBound), rows: range.count, columns: extents.size,
            stride: extents.length > 1 ? strides.row : extents.size)
    }
}
