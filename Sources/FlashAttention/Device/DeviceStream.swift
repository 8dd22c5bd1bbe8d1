import AttentionCUDA

/// A queue of work on an NVIDIA GPU. Work on one stream runs in order; a call that is given a stream returns
/// when its work is queued, long before it is done.
///
/// Work on different streams runs in any order, side by side where there is room. ``wait(for:)`` puts it in
/// order.
public final class DeviceStream: Sendable {
    let stream: CUDAStream

    /// A stream of its own.
    ///
    /// - Parameters:
    ///   - device: which GPU, 0 being the first, the one that `AttentionOptions(device: .cuda)` computes on.
    /// - Throws: `AttentionError.deviceUnavailable` that says why there is none: a build without the trait
    ///   `CUDA`, no driver, no such device, or one that is too old.
    public init(device: Int = 0) throws(AttentionError) {
        stream = try CUDAStream(CUDADevice.shared(device))
    }

    /// The stream of another library.
    ///
    /// - Parameters:
    ///   - handle: a `CUstream` or `cudaStream_t` in the device's primary context, which must outlive this
    ///     object, what was allocated on it and all work queued through it.
    ///   - device: which GPU it is a stream of.
    /// - Throws: `AttentionError.deviceUnavailable`, as above.
    public init(borrowing handle: OpaquePointer, device: Int = 0) throws(AttentionError) {
        stream = CUDAStream(borrowing: handle, on: try CUDADevice.shared(device))
    }

    package init(_ stream: CUDAStream) { self.stream = stream }

    /// Which GPU it is.
    public var device: Int { stream.device.ordinal }

    /// Waits until everything queued so far is done.
    /// - Throws: `AttentionError.deviceFailed`, also for what a kernel before did wrong.
    public func synchronize() throws(AttentionError) { try stream.synchronize() }

    /// Lets work that is queued from now on wait until the event, as it was last recorded, has passed.
    public func wait(for event: DeviceEvent) throws(AttentionError) { try stream.wait(for: event.event) }

    /// Marks the present end of the queue.
    public func record() throws(AttentionError) -> DeviceEvent {
        let event = try DeviceEvent(device: stream.device)
        try event.record(on: self)
        return event
    }
}

/// A mark in a stream: to wait for what lies before it, or to measure the time between two of them.
public final class DeviceEvent: Sendable {
    let event: CUDAEvent

    /// A mark that is in no stream yet.
    /// - Throws: `AttentionError.deviceUnavailable` that says why there is no such device.
    public convenience init(device: Int = 0) throws(AttentionError) {
        try self.init(device: CUDADevice.shared(device))
    }

    init(device: CUDADevice) throws(AttentionError) { event = try CUDAEvent(device) }

    /// Puts the mark at the present end of the stream's queue, and away from wherever it was.
    /// - Throws: `AttentionError.wrongDevice` if the stream is another device's.
    public func record(on stream: DeviceStream) throws(AttentionError) {
        try stream.require(event.device, "stream", "the event")
        try event.record(on: stream.stream)
    }

    /// Whether everything before the mark is done; true if it is in no stream.
    /// - Throws: `AttentionError.deviceFailed` for what a kernel before did wrong.
    public func hasPassed() throws(AttentionError) -> Bool { try event.hasPassed() }

    /// Waits until everything before the mark is done.
    public func synchronize() throws(AttentionError) { try event.synchronize() }

    /// Seconds on the device's clock from this mark to a later one, which is waited for.
    /// - Throws: `AttentionError.deviceFailed` if one of them was never recorded.
    public func seconds(until end: DeviceEvent) throws(AttentionError) -> Double {
        try event.seconds(until: end.event)
    }
}

extension DeviceStream {
    /// - Parameters:
    ///   - operand: what is at fault if this stream is not the device's.
    func require(_ device: CUDADevice, _ operand: String, _ other: String) throws(AttentionError) {
        guard stream.device === device else {
            throw .wrongDevice(
                operand: operand, expected: "device \(device.ordinal), that of \(other)",
                got: "device \(stream.device.ordinal)")
        }
    }
}
