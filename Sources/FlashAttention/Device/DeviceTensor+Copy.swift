import AttentionCUDA

// Copies between the host and the device. None happens unless it is asked for here.

extension DeviceTensor {
    /// Queues a copy from a tensor on the host, whose elements are taken before this returns.
    ///
    /// - Throws: `AttentionError.shapeMismatch` for other extents; `AttentionError.wrongDevice` for a stream
    ///   of another device; `AttentionError.outOfMemory` without memory to copy through.
    public func copy(from source: Tensor<Element>, on stream: DeviceStream) throws(AttentionError) {
        try source.withView { view throws(AttentionError) in try copy(from: view, on: stream) }
    }

    /// Queues a copy from a view of host memory, whose elements are taken before this returns.
    public func copy(from source: TensorView<Element>, on stream: DeviceStream) throws(AttentionError) {
        try source.validate("source", expected: extents)
        let staging = try PinnedTensor<Element>(extents, strides: strides, for: memory.device)
        staging.withMutableView { $0.copyRows(of: source) }
        try copy(from: staging, on: stream)
    }

    /// Queues a copy from page-locked memory, without a detour. Leave the source alone until the stream has
    /// passed.
    public func copy(from source: PinnedTensor<Element>, on stream: DeviceStream) throws(AttentionError) {
        try require(source, "source", stream)
        source.memory.use(on: stream.stream)
        try stream.stream.copy(
            UnsafeRawBufferPointer(source.memory.bytes), to: memory,
            offset: offset * MemoryLayout<Element>.stride)
    }

    /// Queues a copy to page-locked memory, without a detour. The elements are there when the stream has
    /// passed.
    public func copy(to target: PinnedTensor<Element>, on stream: DeviceStream) throws(AttentionError) {
        try require(target, "target", stream)
        target.memory.use(on: stream.stream)
        try stream.stream.copy(
            memory, offset: offset * MemoryLayout<Element>.stride, to: target.memory.bytes)
    }

    /// The elements on the host, dense; in the layout of this tensor if it is dense, else `[B, H, N, D]`.
    ///
    /// Waits for everything queued on the stream so far.
    public func copyToHost(on stream: DeviceStream) throws(AttentionError) -> Tensor<Element> {
        let staging = try PinnedTensor<Element>(extents, strides: strides, for: memory.device)
        try copy(to: staging, on: stream)
        try stream.synchronize()
        var host = Tensor<Element>(extents, layout: layout ?? .bhnd)
        staging.withView { view in host.withMutableView { $0.copyRows(of: view) } }
        return host
    }

    private func require(
        _ pinned: PinnedTensor<Element>, _ operand: String, _ stream: DeviceStream
    ) throws(AttentionError) {
        guard pinned.extents == extents else {
            throw .shapeMismatch(operand: operand, expected: "\(extents)", got: "\(pinned.extents)")
        }
        guard pinned.strides == strides else {
            throw .invalidStrides(
                operand: operand, expected: "\(strides), those of the tensor on the device",
                got: "\(pinned.strides)")
        }
        try stream.require(memory.device, "stream", "the tensor")
    }
}

/// A tensor `[B, H, N, D]` in page-locked memory of the host, which a GPU copies from and to while the
/// program goes on.
///
/// A reference, like ``DeviceTensor``; the memory stays until every stream that copies from or to it has
/// passed.
public struct PinnedTensor<Element: AttentionElement>: Sendable {
    /// The sizes.
    public let extents: TensorExtents
    /// The distances between neighbours.
    public let strides: TensorStrides
    let memory: PinnedMemory

    /// A tensor of zeros, to be copied to and from a device tensor of the same extents and layout.
    ///
    /// - Throws: `AttentionError.deviceUnavailable` without such a device; `AttentionError.outOfMemory` when
    ///   the system locks no more memory; `AttentionError.invalidShape` for a size below 0 or one that no
    ///   memory holds.
    public init(
        _ extents: TensorExtents, layout: TensorLayout = .bhnd, device: Int = 0
    ) throws(AttentionError) {
        try extents.validate()
        try self.init(extents, strides: layout.strides(extents), for: try CUDADevice.shared(device))
        memory.bytes.initializeMemory(as: UInt8.self, repeating: 0)
    }

    /// Contents undefined.
    package init(_ extents: TensorExtents, strides: TensorStrides, for device: CUDADevice)
        throws(AttentionError)
    {
        self.extents = extents
        self.strides = strides
        let reach = TensorPlacement(extents: extents, strides: strides, elementCount: 0).reach
        memory = try PinnedMemory(byteCount: reach * MemoryLayout<Element>.stride, for: device)
    }

    /// Gives the body a view of the elements, valid until it returns.
    public func withView<Result, Failure: Error>(
        _ body: (TensorView<Element>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withMutableView { view throws(Failure) in try body(view.readOnly) }
    }

    /// Gives the body a view through which it may write the elements, valid until it returns.
    public func withMutableView<Result, Failure: Error>(
        _ body: (MutableTensorView<Element>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(memory) {} }
        return try body(
            MutableTensorView(memory.bytes.bindMemory(to: Element.self), extents: extents, strides: strides))
    }
}
