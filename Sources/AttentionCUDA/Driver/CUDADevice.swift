#if CUDA
import AttentionCore
import CCUDADriver

/// One GPU: its context, shared with everybody else in the process who uses the driver's primary context.
package final class CUDADevice: Sendable {
    package let driver: CUDADriver
    package let ordinal: Int
    package let name: String
    /// 90 for compute capability 9.0.
    package let computeCapability: Int
    package let multiprocessorCount: Int
    package let memoryBytes: Int
    private let identifier: CUDADeviceID
    private nonisolated(unsafe) let context: CUDAContext

    /// How many devices there are.
    /// - Throws: `AttentionError.deviceUnavailable` without a driver.
    package static func count() throws(AttentionError) -> Int {
        let driver = try CUDADriver.shared()
        var count: Int32 = 0
        try driver.check("cuDeviceGetCount", driver.functions.deviceGetCount(&count))
        return Int(count)
    }

    /// - Throws: `AttentionError.deviceUnavailable` if there is no such device or it is older than our kernels.
    package init(ordinal: Int = 0) throws(AttentionError) {
        driver = try CUDADriver.shared()
        let count = try Self.count()
        guard (0..<count).contains(ordinal) else {
            throw .deviceUnavailable("CUDA device \(ordinal): the driver shows \(count) devices")
        }
        self.ordinal = ordinal
        var device: CUDADeviceID = 0
        try driver.check("cuDeviceGet", driver.functions.deviceGet(&device, Int32(ordinal)))
        identifier = device
        var bytes = 0
        try driver.check("cuDeviceTotalMem", driver.functions.deviceTotalMem(&bytes, device))
        memoryBytes = bytes
        name = try Self.name(driver, device)
        let major = try Self.attribute(driver, device, CUDAAttributeComputeCapabilityMajor)
        let minor = try Self.attribute(driver, device, CUDAAttributeComputeCapabilityMinor)
        computeCapability = major * 10 + minor
        multiprocessorCount = try Self.attribute(driver, device, CUDAAttributeMultiprocessorCount)
        guard computeCapability >= 80 else {
            throw .deviceUnavailable(
                "CUDA device \(ordinal), \(name): expected compute capability 8.0 or newer, got \(major).\(minor)")
        }
        var retained: CUDAContext?
        try driver.check("cuDevicePrimaryCtxRetain", driver.functions.primaryContextRetain(&retained, device))
        guard let retained else { throw .deviceFailed(call: "cuDevicePrimaryCtxRetain", error: "no context") }
        context = retained
    }

    deinit { _ = driver.functions.primaryContextRelease(identifier) }

    /// Makes the device the one that this thread's driver calls mean; first in every operation.
    package func makeCurrent() throws(AttentionError) {
        try driver.check("cuCtxSetCurrent", driver.functions.contextSetCurrent(context))
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
#endif
