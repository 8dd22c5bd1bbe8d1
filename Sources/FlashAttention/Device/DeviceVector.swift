import AttentionCUDA

/// Numbers side by side in the memory of an NVIDIA GPU: a log-sum-exp in Float, key lengths in Int32.
///
/// A reference, with the lifetime of a ``DeviceTensor``.
public struct DeviceVector<Scalar: BitwiseCopyable & Sendable>: Sendable {
    /// How many.
    public let count: Int
    let memory: DeviceMemory

    /// Contents undefined.
    /// - Throws: `AttentionError.outOfMemory` when the device has not so much left;
    ///   `AttentionError.invalidShape` for a count below 0 or one that no memory holds.
    public init(count: Int, on stream: DeviceStream) throws(AttentionError) {
        try Self.validate(count)
        self.count = count
        memory = try DeviceMemory(byteCount: count * MemoryLayout<Scalar>.stride, on: stream.stream)
    }

    /// A copy of an array, taken before this returns and on the device when the stream gets there.
    public init(_ elements: [Scalar], on stream: DeviceStream) throws(AttentionError) {
        try self.init(count: elements.count, on: stream)
        let staging = try PinnedMemory(byteCount: memory.byteCount, for: memory.device)
        elements.withUnsafeBytes { staging.bytes.copyMemory(from: $0) }
        staging.use(on: stream.stream)
        try stream.stream.copy(UnsafeRawBufferPointer(staging.bytes), to: memory)
    }

    /// Numbers in somebody else's device memory, which must outlive every use.
    ///
    /// - Throws: `AttentionError.deviceUnavailable` without such a device; `AttentionError.bufferTooSmall` if
    ///   the address is 0; `AttentionError.invalidShape` as above.
    public init(borrowing address: UInt64, count: Int, device: Int = 0) throws(AttentionError) {
        try Self.validate(count)
        guard address != 0 || count == 0 else {
            throw .bufferTooSmall(operand: "address", expected: count, got: 0)
        }
        self.count = count
        memory = DeviceMemory(
            borrowing: address, byteCount: count * MemoryLayout<Scalar>.stride,
            on: try CUDADevice.shared(device))
    }

    private static func validate(_ count: Int) throws(AttentionError) {
        guard count >= 0, count <= (1 << 47) / max(MemoryLayout<Scalar>.stride, 1) else {
            throw .invalidShape("expected a count of 0 or more that fits in memory, got \(count)")
        }
    }

    /// Which GPU it is on.
    public var device: Int { memory.device.ordinal }

    /// Where the first lies on the device, for other libraries.
    public var address: UInt64 { memory.address }

    /// The numbers on the host. Waits for everything queued on the stream so far.
    public func copyToHost(on stream: DeviceStream) throws(AttentionError) -> [Scalar] {
        try stream.require(memory.device, "stream", "the vector")
        let staging = try PinnedMemory(byteCount: count * MemoryLayout<Scalar>.stride, for: memory.device)
        defer { withExtendedLifetime(staging) {} }
        staging.use(on: stream.stream)
        try stream.stream.copy(memory, to: staging.bytes)
        try stream.synchronize()
        return Array(staging.bytes.bindMemory(to: Scalar.self))
    }
}
