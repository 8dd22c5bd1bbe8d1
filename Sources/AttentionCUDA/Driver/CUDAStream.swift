#if CUDA
import AttentionCore
import CCUDADriver

/// A queue of work on one device. Work on one stream runs in order; calls return before it is done.
package final class CUDAStream: Sendable {
    package let device: CUDADevice
    nonisolated(unsafe) let handle: CUDAStreamHandle

    package init(_ device: CUDADevice) throws(AttentionError) {
        self.device = device
        try device.makeCurrent()
        var stream: CUDAStreamHandle?
        try device.driver.check(
            "cuStreamCreate", device.driver.functions.streamCreate(&stream, UInt32(CUDAStreamNonBlocking)))
        guard let stream else { throw .deviceFailed(call: "cuStreamCreate", error: "no stream") }
        handle = stream
    }

    deinit {
        if (try? device.makeCurrent()) != nil { _ = device.driver.functions.streamDestroy(handle) }
    }

    /// Waits for all work queued so far.
    /// - Throws: `AttentionError.deviceFailed` also for what a kernel before did wrong.
    package func synchronize() throws(AttentionError) {
        try device.makeCurrent()
        try device.driver.check("cuStreamSynchronize", device.driver.functions.streamSynchronize(handle))
    }

    /// Queues a copy from the host; `source` must live until the stream gets there.
    package func copy(
        _ source: UnsafeRawBufferPointer, to target: DeviceMemory
    ) throws(AttentionError) {
        precondition(source.count <= target.byteCount)
        guard let start = source.baseAddress, !source.isEmpty else { return }
        try device.makeCurrent()
        try device.driver.check(
            "cuMemcpyHtoDAsync", device.driver.functions.copyToDevice(target.address, start, source.count, handle))
    }

    /// Queues a copy to the host; `target` is written when the stream gets there.
    package func copy(
        _ source: DeviceMemory, to target: UnsafeMutableRawBufferPointer
    ) throws(AttentionError) {
        precondition(target.count <= source.byteCount)
        guard let start = target.baseAddress, !target.isEmpty else { return }
        try device.makeCurrent()
        try device.driver.check(
            "cuMemcpyDtoHAsync", device.driver.functions.copyToHost(start, source.address, target.count, handle))
    }
}

/// Device memory from the driver's pool, given back to it in the order of its stream.
package final class DeviceMemory: Sendable {
    package let address: UInt64
    package let byteCount: Int
    private let stream: CUDAStream

    /// - Throws: `AttentionError.outOfMemory` when the device has not so much left.
    package init(byteCount: Int, on stream: CUDAStream) throws(AttentionError) {
        self.byteCount = byteCount
        self.stream = stream
        try stream.device.makeCurrent()
        var address: UInt64 = 0
        let driver = stream.device.driver
        let result = driver.functions.memoryAllocate(&address, max(byteCount, 16), stream.handle)
        if result == Self.outOfMemory { throw .outOfMemory(bytes: byteCount) }
        try driver.check("cuMemAllocAsync", result)
        self.address = address
    }

    deinit {
        if (try? stream.device.makeCurrent()) != nil {
            _ = stream.device.driver.functions.memoryFree(address, stream.handle)
        }
    }

    private static let outOfMemory: CUDAResult = 2
}

/// Host memory that the device copies from and to without a detour.
package final class PinnedMemory: Sendable {
    package nonisolated(unsafe) let bytes: UnsafeMutableRawBufferPointer
    private let device: CUDADevice

    /// - Throws: `AttentionError.outOfMemory` when the system has not so much left.
    package init(byteCount: Int, for device: CUDADevice) throws(AttentionError) {
        self.device = device
        try device.makeCurrent()
        var address: UnsafeMutableRawPointer?
        guard device.driver.functions.hostAllocate(&address, max(byteCount, 16), 0) == 0, let address else {
            throw .outOfMemory(bytes: byteCount)
        }
        bytes = UnsafeMutableRawBufferPointer(start: address, count: byteCount)
    }

    deinit {
        if (try? device.makeCurrent()) != nil { _ = device.driver.functions.hostFree(bytes.baseAddress) }
    }
}

/// A mark in a stream, to measure the time between two of them.
package final class CUDAEvent: Sendable {
    private nonisolated(unsafe) let handle: CUDAEventHandle
    private let device: CUDADevice

    package init(_ device: CUDADevice) throws(AttentionError) {
        self.device = device
        try device.makeCurrent()
        var event: CUDAEventHandle?
        try device.driver.check("cuEventCreate", device.driver.functions.eventCreate(&event, 0))
        guard let event else { throw .deviceFailed(call: "cuEventCreate", error: "no event") }
        handle = event
    }

    deinit {
        if (try? device.makeCurrent()) != nil { _ = device.driver.functions.eventDestroy(handle) }
    }

    package func record(on stream: CUDAStream) throws(AttentionError) {
        try device.makeCurrent()
        try device.driver.check("cuEventRecord", device.driver.functions.eventRecord(handle, stream.handle))
    }

    /// Seconds from this mark to a later one, which is waited for.
    package func seconds(until end: CUDAEvent) throws(AttentionError) -> Double {
        try device.makeCurrent()
        var milliseconds: Float = 0
        try device.driver.check("cuEventSynchronize", device.driver.functions.eventSynchronize(end.handle))
        try device.driver.check(
            "cuEventElapsedTime", device.driver.functions.eventElapsedTime(&milliseconds, handle, end.handle))
        return Double(milliseconds) / 1000
    }
}
#endif
