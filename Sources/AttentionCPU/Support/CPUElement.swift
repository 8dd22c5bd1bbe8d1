import AttentionCore
import CProcessor
import TileKernelTable
import TileKernelsGenericF32

#if arch(x86_64)
import TileKernelsAVX2F32
import TileKernelsAVX512BF16
import TileKernelsAVX512F32
#endif

/// What the CPU implementation needs of a number type that tensors hold. The conformances are concrete, so
/// that the algorithms below them are compiled for the type and not for a witness table.
package protocol CPUElement: AttentionElement where Accumulator: CPUScalar {
    /// How blocks are loaded and stored; nil for a type that attention computes in, whose blocks are taken
    /// as they lie.
    static func conversion(_ set: KernelSet) -> ElementConversion?
    /// The micro-kernels over pairs of the type, if the set has them and they outrun those of Float here.
    static func pairKernels(_ set: KernelSet) -> PairKernelTable?
    static func run(_ run: ForwardRun<Self>)
    static func run(_ run: BackwardRun<Self>)
}

extension CPUElement {
    package static func pairKernels(_ set: KernelSet) -> PairKernelTable? { nil }
}

extension Float: CPUElement {
    package static func conversion(_ set: KernelSet) -> ElementConversion? { nil }
    package static func run(_ run: ForwardRun<Float>) { run.execute() }
    package static func run(_ run: BackwardRun<Float>) { run.execute() }
}

extension Double: CPUElement {
    package static func conversion(_ set: KernelSet) -> ElementConversion? { nil }
    package static func run(_ run: ForwardRun<Double>) { run.execute() }
    package static func run(_ run: BackwardRun<Double>) { run.execute() }
}

extension BFloat16: CPUElement {
    package static func conversion(_ set: KernelSet) -> ElementConversion? {
        switch set {
        #if arch(x86_64)
        case .avx512: TileKernelsAVX512F32.bfloat16Conversion()
        case .avx2: TileKernelsAVX2F32.bfloat16Conversion()
        #endif
        default: TileKernelsGenericF32.bfloat16Conversion()
        }
    }

    package static func pairKernels(_ set: KernelSet) -> PairKernelTable? {
        #if arch(x86_64)
        set == .avx512 ? dotProductsOfPairs : nil
        #else
        nil
        #endif
    }

    #if arch(x86_64)
    /// Some processors take four times as long for a dot product of pairs as for a multiply-add, for twice
    /// its work. Which this is, is measured once, in a tenth of a millisecond; elsewhere the two differ by a
    /// factor of two either way, so that the answer is the same in every process.
    private static let dotProductsOfPairs: PairKernelTable? = {
        guard processor_runs_avx512_bf16() else { return nil }
        let pairs = TileKernelsAVX512BF16.pairKernels()
        let (paired, single) = (pairs.multiplyAddLoop, Float.tileKernels(.avx512).multiplyAddLoop)
        let rounds = 5_000
        let isFaster =
            Machine.multiplyAddPeak(threads: 1, paired, rounds: rounds)
            > Machine.multiplyAddPeak(threads: 1, single, rounds: rounds)
        return isFaster ? pairs : nil
    }()
    #endif

    package static func run(_ run: ForwardRun<BFloat16>) { run.execute() }
    package static func run(_ run: BackwardRun<BFloat16>) { run.execute() }
}

// Swift has no Float16 on Intel Macs.
#if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
extension Float16: CPUElement {
    package static func conversion(_ set: KernelSet) -> ElementConversion? {
        switch set {
        #if arch(x86_64)
        case .avx512: TileKernelsAVX512F32.float16Conversion()
        case .avx2: TileKernelsAVX2F32.float16Conversion()
        #endif
        default: TileKernelsGenericF32.float16Conversion()
        }
    }

    package static func run(_ run: ForwardRun<Float16>) { run.execute() }
    package static func run(_ run: BackwardRun<Float16>) { run.execute() }
}
#endif
