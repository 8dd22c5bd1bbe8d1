// The calls over the caller's own memory, dense, without a copy.

extension Attention {
    /// Computes O and the log-sum-exp over dense memory.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - output: `[B, H, Nq, Dv]`, overwritten.
    ///   - logSumExp: `[B, H, Nq]` in either layout, overwritten; natural logarithm.
    ///   - layout: `.bnhd` if the four above are `[B, N, H, D]` in memory.
    ///   - keyLengths: `[B]`: only the first so many keys of a batch entry exist. All if nil.
    /// - Throws: `AttentionError` that names the operand at fault, before anything is written.
    public func forward(
        query: Span<Element>, key: Span<Element>, value: Span<Element>,
        output: inout MutableSpan<Element>, logSumExp: inout MutableSpan<Double>,
        layout: TensorLayout = .bhnd, keyLengths: Span<Int32>? = nil
    ) throws(AttentionError) {
        try self.forward(
            query: TensorView(memory(query), extents: shape.queryExtents, layout: layout),
            key: TensorView(memory(key), extents: shape.keyExtents, layout: layout),
            value: TensorView(memory(value), extents: shape.valueExtents, layout: layout),
            output: MutableTensorView(memory(&output), extents: shape.outputExtents, layout: layout),
            logSumExp: memory(&logSumExp), keyLengths: memory(keyLengths))
    }

    /// Computes dQ, dK and dV over dense memory.
    ///
    /// - Parameters:
    ///   - query: `[B, H, Nq, D]`, as it was in the forward pass; and so the other inputs.
    ///   - key: `[B, Hkv, Nk, D]`
    ///   - value: `[B, Hkv, Nk, Dv]`
    ///   - output: `[B, H, Nq, Dv]`, as the forward pass left it.
    ///   - logSumExp: `[B, H, Nq]`, likewise.
    ///   - outputGradient: dO, `[B, H, Nq, Dv]`
    ///   - queryGradient: dQ, `[B, H, Nq, D]`, overwritten.
    ///   - keyGradient: dK, `[B, Hkv, Nk, D]`, overwritten.
    ///   - valueGradient: dV, `[B, Hkv, Nk, Dv]`, overwritten.
    ///   - layout: `.bnhd` if all but the log-sum-exp are `[B, N, H, D]` in memory.
    ///   - keyLengths: `[B]`, as in the forward pass.
    /// - Throws: `AttentionError` that names the operand at fault, before anything is written.
    public func backward(
        query: Span<Element>, key: Span<Element>, value: Span<Element>, output: Span<Element>,
        logSumExp: Span<Double>, outputGradient: Span<Element>,
        queryGradient: inout MutableSpan<Element>, keyGradient: inout MutableSpan<Element>,
        valueGradient: inout MutableSpan<Element>, layout: TensorLayout = .bhnd,
        keyLengths: Span<Int32>? = nil
    ) throws(AttentionError) {
        try self.backward(
            query: TensorView(memory(query), extents: shape.queryExtents, layout: layout),
            key: TensorView(memory(key), extents: shape.keyExtents, layout: layout),
            value: TensorView(memory(value), extents: shape.valueExtents, layout: layout),
            output: TensorView(memory(output), extents: shape.outputExtents, layout: layout),
            logSumExp: memory(logSumExp),
            outputGradient: TensorView(memory(outputGradient), extents: shape.outputExtents, layout: layout),
            queryGradient: MutableTensorView(
                memory(&queryGradient), extents: shape.queryExtents, layout: layout),
            keyGradient: MutableTensorView(memory(&keyGradient), extents: shape.keyExtents, layout: layout),
            valueGradient: MutableTensorView(
                memory(&valueGradient), extents: shape.valueExtents, layout: layout),
            keyLengths: memory(keyLengths))
    }
}

/// The memory under a span. The spans are parameters of the calls above and outlive what is made of them.
private func memory<T: BitwiseCopyable>(_ span: Span<T>) -> UnsafeBufferPointer<T> {
    span.withUnsafeBufferPointer { $0 }
}

private func memory<T: BitwiseCopyable>(_ span: inout MutableSpan<T>) -> UnsafeMutableBufferPointer<T> {
    span.withUnsafeMutableBufferPointer { $0 }
}

private func memory(_ span: Span<Int32>?) -> UnsafeBufferPointer<Int32>? {
    if let span { span.withUnsafeBufferPointer { $0 } } else { nil }
}
