#if !KERNEL_BF16
import TileKernelTable

/// The micro-kernels of this target, for the caller that has made sure that the CPU can run them.
@inline(never)
public func tileKernels() -> TileKernelTable {
    TileKernelTable(
        name: tableName, scalarSize: MemoryLayout<Scalar>.size, lanes: lanes, registerRows: tileRows,
        panelWidth: panelWidth,
        gemmPacked: gemmPacked, gemmNT: gemmNT, gemmNN: gemmNN, gemmTN: gemmTN,
        passing: passingScalars,
        packTransposed: packTransposed, rowMaximum: rowMaximum, exponentiate: exponentiate,
        columnMaximum: columnMaximum, exponentiateColumns: exponentiateColumns,
        probabilities: probabilities,
        scoreGradient: scoreGradient, scaleRows: scaleRows, divideRows: divideRows, rowDot: rowDot,
        allFinite: allFinite,
        multiplyAddLoop: multiplyAddLoop, readStream: readStream)
}

#if KERNEL_AVX512
private let tableName: StaticString = "avx512"
#elseif KERNEL_AVX2
private let tableName: StaticString = "avx2"
#elseif arch(arm64)
private let tableName: StaticString = "neon"
#else
private let tableName: StaticString = "generic"
#endif
#endif
