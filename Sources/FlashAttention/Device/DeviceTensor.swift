import AttentionCUDA

/// A tensor `[B, H, N, D]` in the memory of an NVIDIA GPU, with any strides but the last.
///
/// A value of this type is a reference: copies share the memory, which is freed when the last of them is gone
/// and every stream that used it has passed. A call that is still on its way never loses its operands.
///
/// ```swift
/// let stream = try DeviceStream()
/// let q = try DeviceTensor(query, on: stream)  // queued, like everything that takes a stream
/// let host = try q.copyToHost(on: stream)      // waits
/// ```
///
/// Use on another stream than the one it was made on needs an order between the two, which
/// ``DeviceStream/wait(for:)`` makes; only the memory itself takes care of itself.
public struct DeviceTensor<Element: AttentionElement>: Sendable {
    /// The sizes.
    public let extents: TensorExtents
    /// The distances between neighbours.
    public let strides: TensorStrides
    let memory: DeviceMemory
    /// Elements from the start of the memory to element (0, 0, 0, 0).
    let offset: Int

    /// A dense tensor, its contents undefined.
    ///
    /// - Throws: `AttentionError.outOfMemory` when the device has not so much left;
    ///   `AttentionError.invalidShape` for a size below 0 or one that no memory holds.
    public init(
        _ extents: TensorExtents, layout: TensorLayout = .bhnd, on stream: DeviceStream
    ) throws(AttentionError) {
        try extents.validate()
        let memory = try DeviceMemory(
            byteCount: extents.count * MemoryLayout<Element>.stride, on: stream.stream)
        self.init(memory, offset: 0, extents, layout.strides(extents))
    }

    /// A copy of a tensor, in the same layout.
    ///
    /// The elements are taken before this returns and are on the device when the stream gets there.
    public init(_ tensor: Tensor<Element>, on stream: DeviceStream) throws(AttentionError) {
        try self.init(tensor.extents, layout: tensor.layout, on: stream)
        try copy(from: tensor, on: stream)
    }

    /// A tensor in somebody else's device memory.
    ///
    /// - Parameters:
    ///   - address: of element (0, 0, 0, 0) on the device. The memory must outlive every use of the tensor.
    ///   - elementCount: from there to the end of the memory.
    ///   - extents: the sizes.
    ///   - strides: the distances between neighbours, in elements.
    ///   - device: which GPU the memory is on.
    /// - Throws: `AttentionError.deviceUnavailable` without such a device; `AttentionError.bufferTooSmall` if
    ///   extents and strides reach beyond the memory, or the address is 0.
    public init(
        borrowing address: UInt64, elementCount: Int, extents: TensorExtents, strides: TensorStrides,
        device: Int = 0
    ) throws(AttentionError) {
        try extents.validate()
        let count = address == 0 ? 0 : min(max(elementCount, 0), .max / MemoryLayout<Element>.stride)
        let memory = DeviceMemory(
            borrowing: address, byteCount: count * MemoryLayout<Element>.stride,
            on: try CUDADevice.shared(device))
        self.init(memory, offset: 0, extents, strides)
        try placement.validate("address", expected: extents)
    }

    init(_ memory: DeviceMemory, offset: Int, _ extents: TensorExtents, _ strides: TensorStrides) {
        self.memory = memory
        self.offset = offset
        self.extents = extents
        self.strides = strides
    }

    /// Another tensor in the same memory: some of the heads, a part of the sequence, one of several tensors
    /// that lie side by side.
    ///
    /// - Parameters:
    ///   - extents: its sizes.
    ///   - strides: the distances between its neighbours, in elements.
    ///   - offset: elements from this tensor's (0, 0, 0, 0) to that of the new one.
    /// - Throws: `AttentionError.bufferTooSmall` if it reaches beyond the memory, and
    ///   `AttentionError.invalidStrides` or `.invalidOption` if the strides or the offset mean nothing.
    public func view(
        extents: TensorExtents, strides: TensorStrides, offset: Int = 0
    ) throws(AttentionError) -> DeviceTensor {
        try extents.validate()
        guard offset >= 0 else { throw .invalidOption("offset must be at least 0, got \(offset)") }
        guard offset <= elementCount else {
            throw .bufferTooSmall(operand: "offset", expected: offset, got: elementCount)
        }
        let view = DeviceTensor(memory, offset: self.offset + offset, extents, strides)
        try view.placement.validate("view", expected: extents)
        return view
    }

    /// Which GPU it is on.
    public var device: Int { memory.device.ordinal }

    /// Where element (0, 0, 0, 0) lies on the device, for other libraries.
    public var address: UInt64 { memory.address + UInt64(offset * MemoryLayout<Element>.stride) }

    /// Elements from (0, 0, 0, 0) to the end of the memory.
    public var elementCount: Int { memory.byteCount / MemoryLayout<Element>.stride - offset }

    /// Whether the elements lie as a dense tensor's do, and in which order; nil if not.
    var layout: TensorLayout? { TensorLayout.allCases.first { $0.strides(extents) == strides } }

    var placement: TensorPlacement {
        TensorPlacement(extents: extents, strides: strides, elementCount: elementCount)
    }

    var view: DeviceTensorView { DeviceTensorView(address: address, strides: strides) }
}
