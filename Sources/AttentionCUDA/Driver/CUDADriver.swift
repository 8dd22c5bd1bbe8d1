import AttentionCore
import CCUDADriver

/// The CUDA driver's functions, found at run time, and the one place that checks what they return.
package struct CUDADriver: Sendable {
    package let functions: CUDADriverFunctions

    /// - Parameters:
    ///   - functions: every one of them set.
    package init(functions: CUDADriverFunctions) { self.functions = functions }

    /// - Throws: `AttentionError.deviceUnavailable` in a build without the kernels, and where there is no
    ///   driver, or none that starts.
    package static func shared() throws(AttentionError) -> CUDADriver { try found.get() }

    private static let found: Result<CUDADriver, AttentionError> = {
        guard KernelModule.areEmbedded else {
            return .failure(.deviceUnavailable("this build does not have CUDA (trait CUDA)"))
        }
        var functions = CUDADriverFunctions()
        if let missing = cuda_driver_open(&functions) {
            return .failure(.deviceUnavailable("no CUDA driver: \(String(cString: missing))"))
        }
        let driver = CUDADriver(functions: functions)
        let result = functions.`init`(0)
        guard result == 0 else {
            return .failure(.deviceUnavailable("the CUDA driver does not start: \(driver.name(result))"))
        }
        return .success(driver)
    }()

    /// The version as CUDA counts it, 13000 for 13.0.
    package func version() throws(AttentionError) -> Int {
        var version: Int32 = 0
        try check("cuDriverGetVersion", functions.driverGetVersion(&version))
        return Int(version)
    }

    /// - Throws: `AttentionError.deviceFailed` with the call and the error's name unless `result` is success;
    ///   `outOfMemory` is left to the caller, who knows how much was asked for.
    package func check(_ call: @autoclosure () -> String, _ result: CUDAResult) throws(AttentionError) {
        guard result != 0 else { return }
        throw .deviceFailed(call: call(), error: name(result))
    }

    /// An error's name and what the driver says of it.
    func name(_ result: CUDAResult) -> String {
        var name: UnsafePointer<CChar>?
        var text: UnsafePointer<CChar>?
        guard functions.getErrorName(result, &name) == 0, let name else { return "error \(result)" }
        guard functions.getErrorString(result, &text) == 0, let text else { return String(cString: name) }
        return "\(String(cString: name)), \(String(cString: text))"
    }
}
