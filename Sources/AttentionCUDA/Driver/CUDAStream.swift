import AttentionCore
import CCUDADriver

/// A queue of work on one device. Work on one stream runs in order; calls return before it is done.
package final class CUDAStream: Sendable {
    package let device: CUDADevice
    nonisolated(unsafe) let handle: CUDAStreamHandle
    private let isBorrowed: Bool

    package init(_ device: CUDADevice) throws(AttentionError) {
        self.device = device
        try device.makeCurrent()
        var stream: CUDAStreamHandle?
        try device.driver.check(
            "cuStreamCreate", device.driver.functions.streamCreate(&stream, UInt32(CUDAStreamNonBlocking)))
        guard let stream else { throw .deviceFailed(call: "cuStreamCreate", error: "no stream") }
        handle = stream
        isBorrowed = false
    }

    /// Somebody else's stream, which outlives this object.
    package init(borrowing handle: OpaquePointer, on device: CUDADevice) {
        self.device = device
        self.handle = handle
        isBorrowed = true
    }

    deinit {
        // The driver finishes the work of a stream that is destroyed.
        if !isBorrowed, (try? device.makeCurrent()) != nil {
            _ = device.driver.functions.streamDestroy(handle)
        }
    }

    /// Waits for all work queued so far.
    /// - Throws: `AttentionError.deviceFailed` also for what a kernel before did wrong.
    package func synchronize() throws(AttentionError) {
        try device.makeCurrent()
        try device.driver.check("cuStreamSynchronize", device.driver.functions.streamSynchronize(handle))
    }

    /// Work queued from now on waits for the event, as it was last recorded.
    package func wait(for event: CUDAEvent) throws(AttentionError) {
        try device.makeCurrent()
        try device.driver.check(
            "cuStreamWaitEvent", device.driver.functions.streamWaitEvent(handle, event.handle, 0))
    }

    /// Work queued from now on waits for what another stream has queued so far.
    func wait(for other: CUDAStream) throws(AttentionError) {
        let mark = try CUDAEvent(other.device, timed: false)
        try mark.record(on: other)
        try wait(for: mark)
    }

    /// Queues a copy from the host; `source` must live until the stream gets there.
    package func copy(
        _ source: UnsafeRawBufferPointer, to target: DeviceMemory, offset: Int = 0
    ) throws(AttentionError) {
        precondition(offset >= 0 && offset + source.count <= target.byteCount)
        guard let start = source.baseAddress, !source.isEmpty else { return }
        try target.use(on: self)
        try device.driver.check(
            "cuMemcpyHtoDAsync",
            device.driver.functions.copyToDevice(
                target.address + UInt64(offset), start, source.count, handle))
    }

    /// Queues a copy to the host; `target` is written when the stream gets there.
    package func copy(
        _ source: DeviceMemory, offset: Int = 0, to target: UnsafeMutableRawBufferPointer
    ) throws(AttentionError) {
        precondition(offset >= 0 && offset + target.count <= source.byteCount)
        guard let start = target.baseAddress, !target.isEmpty else { return }
        try source.use(on: self)
        try device.driver.check(
            "cuMemcpyDtoHAsync",
            device.driver.functions.copyToHost(start, source.address + UInt64(offset), target.count, handle))
    }

    /// Queues a copy from one place on the device to another.
    package func copy(_ source: DeviceMemory, to target: DeviceMemory, byteCount: Int) throws(AttentionError)
    {
        precondition(byteCount <= source.byteCount && byteCount <= target.byteCount)
        guard byteCount > 0 else { return }
        try source.use(on: self)
        try target.use(on: self)
        try device.driver.check(
            "cuMemcpyDtoDAsync",
            device.driver.functions.copyOnDevice(target.address, source.address, byteCount, handle))
    }
}
