import AttentionCore
import TileKernelTable
import TileKernelsGenericF32
import TileKernelsGenericF64

#if arch(x86_64)
import TileKernelsAVX2F32
import TileKernelsAVX2F64
import TileKernelsAVX512F32
import TileKernelsAVX512F64
#endif

/// What the CPU implementation needs of a number type that it computes in.
package protocol CPUScalar: CPUElement, AttentionScalar {
    /// The micro-kernels of a set, for the caller that knows that the processor runs them.
    static func tileKernels(_ set: KernelSet) -> TileKernelTable
    /// `C = alpha A B + beta C` of BLAS, row-major.
    static func gemm(_ blas: BLAS, _ call: BLASCall<Self>)
}

extension Float: CPUScalar {
    package static func tileKernels(_ set: KernelSet) -> TileKernelTable {
        switch set {
        #if arch(x86_64)
        case .avx512: TileKernelsAVX512F32.tileKernels()
        case .avx2: TileKernelsAVX2F32.tileKernels()
        #endif
        default: TileKernelsGenericF32.tileKernels()
        }
    }

    package static func gemm(_ blas: BLAS, _ call: BLASCall<Float>) {
        blas.sgemm(
            BLAS.rowMajor, call.transposeA, call.transposeB, call.m, call.n, call.k, 1, call.a, call.lda,
            call.b, call.ldb, call.accumulate ? 1 : 0, call.c, call.ldc)
    }
}

extension Double: CPUScalar {
    package static func tileKernels(_ set: KernelSet) -> TileKernelTable {
        switch set {
        #if arch(x86_64)
        case .avx512: TileKernelsAVX512F64.tileKernels()
        case .avx2: TileKernelsAVX2F64.tileKernels()
        #endif
        default: TileKernelsGenericF64.tileKernels()
        }
    }

    package static func gemm(_ blas: BLAS, _ call: BLASCall<Double>) {
        blas.dgemm(
            BLAS.rowMajor, call.transposeA, call.transposeB, call.m, call.n, call.k, 1, call.a, call.lda,
            call.b, call.ldb, call.accumulate ? 1 : 0, call.c, call.ldc)
    }
}
