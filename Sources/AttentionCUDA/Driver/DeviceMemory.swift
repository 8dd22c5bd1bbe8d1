import AttentionCore
import CCUDADriver
import Synchronization

/// Device memory: from the device's pool, or somebody else's.
///
/// Memory from the pool belongs to a stream, on which it was taken and on which it goes back, in the order of
/// that stream's work. Other streams may use it too: the first use waits until the memory is there, and the
/// memory goes back after the last.
package final class DeviceMemory: Sendable {
    package let address: UInt64
    package let byteCount: Int
    package let device: CUDADevice
    /// Nil for memory that is not ours to free.
    private let home: CUDAStream?
    private let visitors = Mutex<[CUDAStream]>([])

    /// - Throws: `AttentionError.outOfMemory` when the device has not so much left.
    package init(byteCount: Int, on stream: CUDAStream) throws(AttentionError) {
        self.byteCount = byteCount
        device = stream.device
        home = stream
        try device.makeCurrent()
        var address: UInt64 = 0
        let driver = device.driver
        let result = driver.functions.memoryAllocate(&address, max(byteCount, 16), device.pool, stream.handle)
        if result == CUDAResult(CUDAOutOfMemory) { throw .outOfMemory(bytes: byteCount) }
        try driver.check("cuMemAllocFromPoolAsync", result)
        self.address = address
    }

    /// Somebody else's memory, which outlives every use of it.
    package init(borrowing address: UInt64, byteCount: Int, on device: CUDADevice) {
        self.address = address
        self.byteCount = byteCount
        self.device = device
        home = nil
    }

    /// Says that work which is queued on the stream next uses the memory; makes the device current.
    package func use(on stream: CUDAStream) throws(AttentionError) {
        try device.makeCurrent()
        guard let home, stream !== home else { return }
        try visitors.withLock { (visitors) throws(AttentionError) in
            if visitors.contains(where: { $0 === stream }) { return }
            try stream.wait(for: home)
            visitors.append(stream)
        }
    }

    deinit {
        guard let home, (try? device.makeCurrent()) != nil else { return }
        let streams = visitors.withLock { $0 }
        for stream in streams {
            do { try home.wait(for: stream) } catch { try? stream.synchronize() }
        }
        _ = device.driver.functions.memoryFree(address, home.handle)
    }
}
