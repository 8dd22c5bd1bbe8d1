import AttentionCore
import CCUDADriver

/// A mark in a stream: to wait for what lies before it, or to measure the time between two of them.
package final class CUDAEvent: Sendable {
    package let device: CUDADevice
    nonisolated(unsafe) let handle: CUDAEventHandle

    /// - Parameters:
    ///   - timed: whether `seconds(until:)` is asked for; an event without is cheaper.
    package init(_ device: CUDADevice, timed: Bool = true) throws(AttentionError) {
        self.device = device
        try device.makeCurrent()
        var event: CUDAEventHandle?
        try device.driver.check(
            "cuEventCreate",
            device.driver.functions.eventCreate(&event, timed ? 0 : UInt32(CUDAEventDisableTiming)))
        guard let event else { throw .deviceFailed(call: "cuEventCreate", error: "no event") }
        handle = event
    }

    deinit {
        // An event that is still to come is destroyed when it has passed.
        if (try? device.makeCurrent()) != nil { _ = device.driver.functions.eventDestroy(handle) }
    }

    package func record(on stream: CUDAStream) throws(AttentionError) {
        try device.makeCurrent()
        try device.driver.check("cuEventRecord", device.driver.functions.eventRecord(handle, stream.handle))
    }

    /// Whether everything before the mark is done; true if it was never recorded.
    package func hasPassed() throws(AttentionError) -> Bool {
        try device.makeCurrent()
        let result = device.driver.functions.eventQuery(handle)
        if result == CUDAResult(CUDANotReady) { return false }
        try device.driver.check("cuEventQuery", result)
        return true
    }

    /// Waits for everything before the mark.
    package func synchronize() throws(AttentionError) {
        try device.makeCurrent()
        try device.driver.check("cuEventSynchronize", device.driver.functions.eventSynchronize(handle))
    }

    /// Seconds from this mark to a later one, which is waited for.
    package func seconds(until end: CUDAEvent) throws(AttentionError) -> Double {
        try end.synchronize()
        var milliseconds: Float = 0
        try device.driver.check(
            "cuEventElapsedTime", device.driver.functions.eventElapsedTime(&milliseconds, handle, end.handle))
        return Double(milliseconds) / 1000
    }
}
