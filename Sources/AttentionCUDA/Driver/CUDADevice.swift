import AttentionCore
import CCUDADriver
import Synchronization

/// One GPU: its context, shared with everybody else in the process who uses the driver's primary context, and
/// a pool of its memory that is ours.
package final class CUDADevice: Sendable {
    package let driver: CUDADriver
    package let ordinal: Int
    package let name: String
    /// 90 for compute capability 9.0.
    package let computeCapability: Int
    package let multiprocessorCount: Int
    package let memoryBytes: Int
    /// Page-locked host memory that waits to be used again.
    let pinnedBlocks = PinnedBlocks()
    private let identifier: CUDADeviceID
    private nonisolated(unsafe) let context: CUDAContext
    nonisolated(unsafe) let pool: CUDAPoolHandle

    /// How many devices there are.
    /// - Throws: `AttentionError.deviceUnavailable` without a driver.
    package static func count(_ driver: CUDADriver? = nil) throws(AttentionError) -> Int {
        let driver = if let driver { driver } else { try CUDADriver.shared() }
        var count: Int32 = 0
        try driver.check("cuDeviceGetCount", driver.functions.deviceGetCount(&count))
        return Int(count)
    }

    /// The device of this number, the same object for everybody.
    /// - Throws: `AttentionError.deviceUnavailable` if there is no such device or it is older than our
    ///   kernels.
    package static func shared(_ ordinal: Int = 0) throws(AttentionError) -> CUDADevice {
        try known.withLock { (known) throws(AttentionError) -> CUDADevice in
            if let device = known[ordinal] { return device }
            let device = try CUDADevice(CUDADriver.shared(), ordinal: ordinal)
            known[ordinal] = device
            return device
        }
    }

    private static let known = Mutex<[Int: CUDADevice]>([:])

    /// Opens a device; ``shared(_:)`` is for everybody but tests.
    package init(_ driver: CUDADriver, ordinal: Int) throws(AttentionError) {
        let functions = driver.functions
        let count = try Self.count(driver)
        guard (0..<count).contains(ordinal) else {
            throw .deviceUnavailable("CUDA device \(ordinal): the driver shows \(count) devices")
        }
        self.driver = driver
        self.ordinal = ordinal
        var device: CUDADeviceID = 0
        try driver.check("cuDeviceGet", functions.deviceGet(&device, Int32(ordinal)))
        identifier = device
        var bytes = 0
        try driver.check("cuDeviceTotalMem", functions.deviceTotalMem(&bytes, device))
        memoryBytes = bytes
        name = try Self.name(driver, device)
        let major = try Self.attribute(driver, device, CUDAAttributeComputeCapabilityMajor)
        let minor = try Self.attribute(driver, device, CUDAAttributeComputeCapabilityMinor)
        computeCapability = major * 10 + minor
        multiprocessorCount = try Self.attribute(driver, device, CUDAAttributeMultiprocessorCount)
        guard computeCapability >= 80 else {
            throw .deviceUnavailable(
                "CUDA device \(ordinal), \(name): expected compute capability 8.0 or newer, "
                    + "got \(major).\(minor)"
            )
        }
        var retained: CUDAContext?
        try driver.check("cuDevicePrimaryCtxRetain", functions.primaryContextRetain(&retained, device))
        do throws(AttentionError) {
            guard let retained else {
                throw .deviceFailed(call: "cuDevicePrimaryCtxRetain", error: "no context")
            }
            context = retained
            pool = try Self.makePool(driver, device)
        } catch {
            _ = functions.primaryContextRelease(device)
            throw error
        }
    }

    deinit {
        if (try? makeCurrent()) != nil {
            pinnedBlocks.removeAll(driver)
            _ = driver.functions.poolDestroy(pool)
        }
        _ = driver.functions.primaryContextRelease(identifier)
    }

    /// Makes the device the one that this thread's driver calls mean; first in every operation.
    package func makeCurrent() throws(AttentionError) {
        try driver.check("cuCtxSetCurrent", driver.functions.contextSetCurrent(context))
    }

    /// Gives memory that was freed back to the system, which the pools otherwise keep for the next call.
    package func releaseUnusedMemory() throws(AttentionError) {
        try makeCurrent()
        pinnedBlocks.removeAll(driver)
        try driver.check("cuMemPoolTrimTo", driver.functions.poolTrim(pool, 0))
    }

    /// A pool that keeps what is freed: the driver's own gives it back at every synchronisation, and the next
    /// allocation then takes as long as the first.
    private static func makePool(
        _ driver: CUDADriver, _ device: CUDADeviceID
    ) throws(AttentionError) -> CUDAPoolHandle {
        var properties = CUDAPoolProperties()
        properties.allocationType = 1
        properties.locationType = 1
        properties.device = device
        var pool: CUDAPoolHandle?
        try driver.check("cuMemPoolCreate", driver.functions.poolCreate(&pool, &properties))
        guard let pool else { throw .deviceFailed(call: "cuMemPoolCreate", error: "no pool") }
        var threshold = UInt64.max
        let result = driver.functions.poolSetAttribute(pool, Int32(CUDAPoolReleaseThreshold), &threshold)
        if result != 0 { _ = driver.functions.poolDestroy(pool) }
        try driver.check("cuMemPoolSetAttribute", result)
        return pool
    }

    private static func name(_ driver: CUDADriver, _ device: CUDADeviceID) throws(AttentionError) -> String {
        var characters = [CChar](repeating: 0, count: 256)
        try driver.check("cuDeviceGetName", driver.functions.deviceGetName(&characters, 256, device))
        return String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func attribute(
        _ driver: CUDADriver, _ device: CUDADeviceID, _ attribute: Int
    ) throws(AttentionError) -> Int {
        var value: Int32 = 0
        try driver.check(
            "cuDeviceGetAttribute", driver.functions.deviceGetAttribute(&value, Int32(attribute), device))
        return Int(value)
    }
}
