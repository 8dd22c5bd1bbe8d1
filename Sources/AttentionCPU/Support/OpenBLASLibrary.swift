#if !canImport(Accelerate)
import AttentionCore
import CProcessor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// OpenBLAS as a library opened at run time.
struct OpenBLASLibrary {
    private let handle: UnsafeMutableRawPointer
    private static let names = ["libopenblas.so.0", "libopenblas.so"]
    private static let coreVariable = "OPENBLAS_CORETYPE"
    /// Cores whose kernels use 512-bit registers; `SkylakeX` is the oldest, which every OpenBLAS since
    /// 0.3.0 has and every AVX-512 processor runs.
    private static let wideCores = ["SkylakeX", "Cooperlake", "SapphireRapids", "Zen4", "Zen5"]

    /// Opens the library with the widest kernels that the processor runs.
    static func open() throws(AttentionError) -> OpenBLASLibrary {
        // Already here for the process's own work: its kernels are chosen, and its threads may be running.
        if let present = load(RTLD_NOW | RTLD_NOLOAD) { return present }
        guard let first = load(RTLD_NOW) else {
            throw .libraryUnavailable(
                "gemm openblas: expected OpenBLAS, got no libopenblas.so.0; "
                    + "install it with: apt-get install libopenblas-dev")
        }
        let wide = wideCores.contains { $0.lowercased() == first.core.lowercased() }
        guard processor_runs_avx512(), !wide, getenv(coreVariable) == nil else { return first }
        dlclose(first.handle)
        setenv(coreVariable, "SKYLAKEX", 1)
        defer { unsetenv(coreVariable) }
        guard let second = load(RTLD_NOW) else {
            throw .libraryUnavailable("gemm openblas: OpenBLAS could not be opened a second time")
        }
        return second
    }

    private static func load(_ flags: Int32) -> OpenBLASLibrary? {
        for name in names {
            if let handle = dlopen(name, flags | RTLD_LOCAL) { return OpenBLASLibrary(handle: handle) }
        }
        return nil
    }

    func symbol<Function>(_ name: String, as type: Function.Type) -> Function? {
        dlsym(handle, name).map { unsafeBitCast($0, to: type) }
    }

    /// Such as "OpenBLAS 0.3.21".
    var version: String {
        let words = text("openblas_get_config").split(separator: " ").prefix(2)
        return words.isEmpty ? "OpenBLAS" : words.joined(separator: " ")
    }

    /// The processor whose kernels it runs.
    var core: String { text("openblas_get_corename") }

    var threadSetting: ThreadSetting? {
        guard
            let get = symbol("openblas_get_num_threads", as: (@convention(c) () -> Int32).self),
            let set = symbol("openblas_set_num_threads", as: (@convention(c) (Int32) -> Void).self)
        else { return nil }
        return ThreadSetting(get: get, set: set)
    }

    private func text(_ function: String) -> String {
        guard
            let call = symbol(function, as: (@convention(c) () -> UnsafePointer<CChar>?).self),
            let characters = call()
        else { return "unknown" }
        return String(cString: characters)
    }
}
#endif
