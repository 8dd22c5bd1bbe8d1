// The checks of an operand at the public door.

extension TensorView {
    /// Checks that the view has the expected extents, usable strides and enough memory.
    package func validate(_ operand: String, expected: TensorExtents) throws(AttentionError) {
        guard extents == expected else {
            throw .shapeMismatch(operand: operand, expected: "\(expected)", got: "\(extents)")
        }
        guard expected.count > 0 else { return }
        guard strides.batch >= 0, strides.head >= 0, expected.length == 1 || strides.row >= expected.size
        else {
            throw .invalidStrides(
                operand: operand, expected: "of 0 or more, and of at least D = \(expected.size) for a row",
                got: "\(strides)")
        }
        var last = expected.size
        for (extent, stride) in [
            (expected.batch, strides.batch), (expected.heads, strides.head), (expected.length, strides.row),
        ] {
            let (step, overflow) = (extent - 1).multipliedReportingOverflow(by: stride)
            let (sum, carry) = last.addingReportingOverflow(step)
            last = overflow || carry ? .max : sum
        }
        guard memory.count >= last else {
            throw .bufferTooSmall(operand: operand, expected: last, got: memory.count)
        }
    }
}

extension MutableTensorView {
    /// As for a view that is read; moreover no two rows may share memory.
    package func validate(_ operand: String, expected: TensorExtents) throws(AttentionError) {
        try readOnly.validate(operand, expected: expected)
        guard expected.count > 0 else { return }
        var reach = expected.size
        let axes = [
            (expected.length, strides.row), (expected.heads, strides.head), (expected.batch, strides.batch),
        ]
        for (extent, stride) in axes.filter({ $0.0 > 1 }).sorted(by: { $0.1 < $1.1 }) {
            guard stride >= reach else {
                throw .invalidStrides(
                    operand: operand, expected: "that keep its rows apart", got: "\(strides)")
            }
            reach = stride * extent
        }
    }
}
