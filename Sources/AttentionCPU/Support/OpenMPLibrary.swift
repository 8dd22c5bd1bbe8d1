import AttentionCore

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// An OpenMP library, opened when it is first asked for.
///
/// LLVM's and GCC's both have the entry that GCC compiles `#pragma omp parallel` to, and it is all we need:
/// they start the threads, we divide the work.
package struct OpenMPLibrary: Sendable {
    private typealias Region = @convention(c) (UnsafeMutableRawPointer?) -> Void
    private typealias Parallel = @convention(c) (
        _ region: Region, _ data: UnsafeMutableRawPointer?, _ threads: UInt32, _ flags: UInt32
    ) -> Void

    private typealias SetBlockTime = @convention(c) (Int32) -> Void

    private let parallel: Parallel
    /// Sets for how many ms LLVM's threads wait in a loop after a call that this thread makes; GCC's has no
    /// such entry.
    private let setBlockTime: SetBlockTime?
    private static let names = ["libomp.so.5", "libgomp.so.1"]

    /// The library, or why there is none.
    static func shared() throws(AttentionError) -> OpenMPLibrary { try loaded.get() }

    private static let loaded: Result<OpenMPLibrary, AttentionError> = {
        // One that the process has already comes first: two would each bring threads for every core.
        for flags in [RTLD_NOW | RTLD_NOLOAD, RTLD_NOW] {
            for name in names {
                if let handle = dlopen(name, flags | RTLD_LOCAL), let entry = dlsym(handle, "GOMP_parallel") {
                    // LLVM's 200 ms would take a core from what comes next. Who sets it is obeyed.
                    let isSet = getenv("KMP_BLOCKTIME") != nil || getenv("OMP_WAIT_POLICY") != nil
                    let setter = isSet ? nil : dlsym(handle, "kmp_set_blocktime")
                    return .success(
                        OpenMPLibrary(
                            parallel: unsafeBitCast(entry, to: Parallel.self),
                            setBlockTime: setter.map { unsafeBitCast($0, to: SetBlockTime.self) }))
                }
            }
        }
        return .failure(
            .libraryUnavailable(
                "parallel openmp: expected an OpenMP library, got no \(names.joined(separator: " and no ")); "
                    + "install it with: apt-get install libomp-dev"))
    }()

    /// Runs the body on up to so many threads. There are fewer where the caller is in a parallel region of
    /// its own or `OMP_THREAD_LIMIT` is lower.
    func run(_ workers: Int, _ body: SharedBody) {
        setBlockTime?(1)
        withExtendedLifetime(body) {
            parallel(
                { data in
                    guard let data else { return }
                    Unmanaged<SharedBody>.fromOpaque(data).takeUnretainedValue().runNext()
                }, Unmanaged.passUnretained(body).toOpaque(), UInt32(clamping: workers), 0)
        }
    }
}
