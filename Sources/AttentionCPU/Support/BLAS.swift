import AttentionCore
import Synchronization

#if canImport(Accelerate)
import Accelerate
#elseif canImport(Glibc)
import CProcessor
import Glibc
#elseif canImport(Musl)
import CProcessor
import Musl
#endif

/// The arguments of one GEMM, in BLAS's types.
package struct BLASCall<Scalar> {
    var transposeA: Int32
    var transposeB: Int32
    var m: Int32
    var n: Int32
    var k: Int32
    var a: UnsafePointer<Scalar>
    var lda: Int32
    var b: UnsafePointer<Scalar>
    var ldb: Int32
    var c: UnsafeMutablePointer<Scalar>
    var ldc: Int32
    var accumulate: Bool
}

/// A BLAS library, opened when it is first asked for.
///
/// On Linux it is OpenBLAS. One that does not know the processor falls back to narrow kernels (0.3.21 runs
/// its Haswell kernels on a Zen 5, at half the speed); it is then opened again with `OPENBLAS_CORETYPE` set,
/// unless the user has set that variable or the library was in the process already. The environment is
/// left as it was found.
package final class BLAS: Sendable {
    typealias SGEMM = @convention(c) (
        Int32, Int32, Int32, Int32, Int32, Int32, Float, UnsafePointer<Float>, Int32,
        UnsafePointer<Float>, Int32, Float, UnsafeMutablePointer<Float>, Int32
    ) -> Void
    typealias DGEMM = @convention(c) (
        Int32, Int32, Int32, Int32, Int32, Int32, Double, UnsafePointer<Double>, Int32,
        UnsafePointer<Double>, Int32, Double, UnsafeMutablePointer<Double>, Int32
    ) -> Void

    static let rowMajor: Int32 = 101
    static let noTranspose: Int32 = 111
    static let transpose: Int32 = 112

    let sgemm: SGEMM
    let dgemm: DGEMM
    /// Such as "OpenBLAS 0.3.21".
    package let version: String
    /// The processor whose kernels it runs, such as "SkylakeX".
    package let core: String
    private let threads: ThreadSetting?

    /// The library, or why there is none.
    package static func shared() throws(AttentionError) -> BLAS { try loaded.get() }

    private static let loaded: Result<BLAS, AttentionError> = {
        do throws(AttentionError) { return .success(try BLAS()) } catch { return .failure(error) }
    }()

    /// Runs the body with BLAS on one thread a call, and puts the process's own setting back.
    package func withSingleThreads<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) {
        threads?.enter()
        defer { threads?.leave() }
        try body()
    }

    #if canImport(Accelerate)
    private init() throws(AttentionError) {
        sgemm = { order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc in
            cblas_sgemm(
                CBLAS_ORDER(UInt32(order)), CBLAS_TRANSPOSE(UInt32(ta)), CBLAS_TRANSPOSE(UInt32(tb)), m, n,
                k, alpha, a, lda, b, ldb, beta, c, ldc)
        }
        dgemm = { order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc in
            cblas_dgemm(
                CBLAS_ORDER(UInt32(order)), CBLAS_TRANSPOSE(UInt32(ta)), CBLAS_TRANSPOSE(UInt32(tb)), m, n,
                k, alpha, a, lda, b, ldb, beta, c, ldc)
        }
        version = "Accelerate"
        core = "Apple"
        threads = nil
    }
    #else
    private init() throws(AttentionError) {
        let library = try OpenBLASLibrary.open()
        guard let sgemm = library.symbol("cblas_sgemm", as: SGEMM.self),
            let dgemm = library.symbol("cblas_dgemm", as: DGEMM.self)
        else { throw .libraryUnavailable("gemm openblas: the OpenBLAS found has no cblas_sgemm") }
        self.sgemm = sgemm
        self.dgemm = dgemm
        version = library.version
        core = library.core
        threads = library.threadSetting
    }
    #endif
}

/// The thread setting of a BLAS library that the whole process shares: the first call in sets it to one,
/// the last one out puts back what the first found.
final class ThreadSetting: Sendable {
    private let get: @convention(c) () -> Int32
    private let set: @convention(c) (Int32) -> Void
    private let state = Mutex((users: 0, found: Int32(1)))

    init(get: @escaping @convention(c) () -> Int32, set: @escaping @convention(c) (Int32) -> Void) {
        self.get = get
        self.set = set
    }

    func enter() {
        state.withLock { state in
            if state.users == 0 {
                state.found = get()
                if state.found != 1 { set(1) }
            }
            state.users += 1
        }
    }

    func leave() {
        state.withLock { state in
            state.users -= 1
            if state.users == 0 && state.found != 1 { set(state.found) }
        }
    }
}
