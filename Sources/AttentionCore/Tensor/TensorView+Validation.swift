// The checks of an operand at the public door.

extension TensorExtents {
    /// - Throws: `AttentionError.invalidShape` for a size below 0, or for more than a process can address.
    package func validate() throws(AttentionError) {
        guard batch >= 0, heads >= 0, length >= 0, size >= 0, byteCountFits else {
            throw .invalidShape(
                "expected sizes of 0 or more that fit in memory, got a tensor of shape \(self)")
        }
    }
}

/// Where the elements of an operand lie, on whatever device.
package struct TensorPlacement {
    package let extents: TensorExtents
    package let strides: TensorStrides
    /// Elements from (0, 0, 0, 0) to the end of the memory.
    package let elementCount: Int

    package init(extents: TensorExtents, strides: TensorStrides, elementCount: Int) {
        self.extents = extents
        self.strides = strides
        self.elementCount = elementCount
    }

    /// Elements from (0, 0, 0, 0) to the last; `Int.max` if the strides reach beyond all numbers.
    package var reach: Int {
        guard extents.count > 0 else { return 0 }
        var last = extents.size
        func go(_ extent: Int, _ stride: Int) {
            let (step, overflow) = (extent - 1).multipliedReportingOverflow(by: stride)
            let (sum, carry) = last.addingReportingOverflow(step)
            last = overflow || carry ? .max : sum
        }
        go(extents.batch, strides.batch)
        go(extents.heads, strides.head)
        go(extents.length, strides.row)
        return last
    }

    /// Checks that the operand has the expected extents, usable strides and enough memory.
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
        guard elementCount >= reach else {
            throw .bufferTooSmall(operand: operand, expected: reach, got: elementCount)
        }
    }

    /// Checks moreover that no two rows share memory.
    package func validateForWriting(_ operand: String, expected: TensorExtents) throws(AttentionError) {
        try validate(operand, expected: expected)
        // What is dense is not looked at further: a call on a GPU must cost little.
        guard expected.count > 0, strides != TensorLayout.bhnd.strides(expected) else { return }
        var reach = expected.size
        let axes = [
            (expected.length, strides.row), (expected.heads, strides.head), (expected.batch, strides.batch),
        ]
        for (extent, stride) in axes.filter({ $0.0 > 1 }).sorted(by: { $0.1 < $1.1 }) {
            guard stride >= reach else {
                throw .invalidStrides(
                    operand: operand, expected: "that keep its rows apart", got: "\(strides)")
            }
            // A view may claim all memory there is.
            let (end, overflow) = stride.multipliedReportingOverflow(by: extent)
            reach = overflow ? .max : end
        }
    }
}

extension TensorView {
    /// Checks that the view has the expected extents, usable strides and enough memory.
    package func validate(_ operand: String, expected: TensorExtents) throws(AttentionError) {
        try placement.validate(operand, expected: expected)
    }

    package var placement: TensorPlacement {
        TensorPlacement(extents: extents, strides: strides, elementCount: memory.count)
    }
}

extension MutableTensorView {
    /// As for a view that is read; moreover no two rows may share memory.
    package func validate(_ operand: String, expected: TensorExtents) throws(AttentionError) {
        try readOnly.placement.validateForWriting(operand, expected: expected)
    }
}
