import AttentionCPU
import AttentionCore
import CProcessor
import Testing

#if canImport(Glibc)
import Glibc

/// Whether the library is there; leaves it loaded, as a process does that uses it for its own work.
private let openBLASIsInstalled = dlopen("libopenblas.so.0", RTLD_LAZY | RTLD_LOCAL) != nil

/// OpenBLAS as a guest in a process that may use it for its own work. Each test has a process of its own,
/// since a library is loaded once.
@Suite("BLAS", .enabled(if: openBLASIsInstalled))
struct BLASTests {
    @Sendable private static func run(_ options: AttentionOptions) throws {
        let shape = AttentionShape(batch: 1, heads: 4, queryLength: 64, headSize: 32)
        let attention = try CPUAttention<Float>(shape: shape, options: options)
        let zeros = UnsafeMutableBufferPointer<Float>.allocate(capacity: shape.queryExtents.count)
        zeros.initialize(repeating: 0)
        defer { zeros.deallocate() }
        let view = MutableTensorView(zeros, extents: shape.queryExtents)
        let logSumExp = UnsafeMutableBufferPointer<Double>.allocate(capacity: shape.rowCount)
        defer { logSumExp.deallocate() }
        try attention.forward(
            ForwardOperands(
                query: view.readOnly, key: view.readOnly, value: view.readOnly, output: view,
                logSumExp: logSumExp, keyLengths: nil))
    }

    @Test func threadSettingOfTheProcess_isLeftAsFound() async {
        await #expect(processExitsWith: .success) {
            let handle = try #require(dlopen("libopenblas.so.0", RTLD_NOW | RTLD_GLOBAL))
            let get = unsafeBitCast(
                try #require(dlsym(handle, "openblas_get_num_threads")),
                to: (@convention(c) () -> Int32).self)
            let set = unsafeBitCast(
                try #require(dlsym(handle, "openblas_set_num_threads")),
                to: (@convention(c) (Int32) -> Void).self)
            for threads in [1, 2] as [Int32] {
                set(threads)
                let found = get()
                for workers in [1, 2, 4] {
                    try BLASTests.run(AttentionOptions(gemm: .openblas, threads: workers))
                    #expect(get() == found)
                }
            }
        }
    }

    @Test func core_isAsWideAsTheProcessor_andTheEnvironmentAsItWas() async {
        await #expect(processExitsWith: .success) {
            unsetenv("OPENBLAS_CORETYPE")
            let blas = try BLAS.shared()
            #expect(!blas.version.isEmpty)
            if processor_runs_avx512() {
                #expect(!["Haswell", "Zen", "Sandybridge", "Nehalem", "Prescott"].contains(blas.core))
            }
            #expect(getenv("OPENBLAS_CORETYPE") == nil)
        }
    }

    @Test func coreThatTheUserSet_isKept() async {
        await #expect(processExitsWith: .success) {
            guard processor_runs_avx2() else { return }
            setenv("OPENBLAS_CORETYPE", "Haswell", 1)
            let core = try BLAS.shared().core
            #expect(core == "Haswell")
            #expect(getenv("OPENBLAS_CORETYPE").map { String(cString: $0) } == "Haswell")
        }
    }
}
#endif
