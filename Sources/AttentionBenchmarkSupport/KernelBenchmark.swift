import AttentionCPU
import AttentionCore
import TileKernelTable

/// One micro-kernel on a block of a size that the algorithms give it, ready to be called again and again.
///
/// For the package in `Benchmarks/`, which cannot see the kernels themselves. No part of the public API: what is
/// here changes with the kernels.
public struct KernelBenchmark: Sendable {
    /// Kernel set, scalar type, kernel and block: "avx512 F32 gemmNN 192×64×512".
    public let name: String
    let work: KernelWork
    let machine: KernelMachine
    let prepare: @Sendable () throws(AttentionError) -> PreparedKernel

    /// Every kernel of every table that this machine runs, on the blocks that the algorithms use.
    public static var all: [KernelBenchmark] {
        KernelSelection.available.flatMap { set in
            benchmarks(set, Float.self, "F32") + benchmarks(set, Double.self, "F64") + pairBenchmarks(set)
        }
    }

    private static func benchmarks<Scalar: CPUScalar>(
        _ set: KernelSet, _ type: Scalar.Type, _ typeName: String
    ) -> [KernelBenchmark] {
        let table = Scalar.tileKernels(set)
        return benchmarks(KernelCase.all(table), of: table, type, "\(set.rawValue) \(typeName)")
    }

    /// The kernels over pairs of BF16, which have the form of those of Float: k and the strides count pairs.
    private static func pairBenchmarks(_ set: KernelSet) -> [KernelBenchmark] {
        guard let pairs = BFloat16.pairKernels(set) else { return [] }
        var table = Float.tileKernels(set)
        table.gemmPacked = pairs.gemmPacked
        table.gemmNN = pairs.gemmNN
        table.gemmTN = pairs.gemmTN
        table.packTransposed = pairs.packTransposed
        table.exponentiateColumns = pairs.exponentiatePairs
        table.multiplyAddLoop = pairs.multiplyAddLoop
        return benchmarks(KernelCase.pairs(table), of: table, Float.self, "\(set.rawValue) BF16 pairs")
    }

    private static func benchmarks<Scalar: CPUScalar>(
        _ cases: [KernelCase], of table: TileKernelTable, _ type: Scalar.Type, _ name: String
    ) -> [KernelBenchmark] {
        let machine = KernelMachine(table)
        return cases.map { kernelCase in
            KernelBenchmark(name: "\(name) \(kernelCase.name)", work: kernelCase.work, machine: machine) {
                () throws(AttentionError) in try PreparedKernel(kernelCase, table, type)
            }
        }
    }

    /// Allocates the operands.
    /// - Throws: `AttentionError.outOfMemory`
    public func prepared() throws(AttentionError) -> PreparedKernel { try prepare() }

    /// The entries of the block, or the multiply-adds of a product.
    public var elements: Int { work.elements }

    /// The seconds that one call would take at the machine's limit, measured now: its multiply-adds at the
    /// rate of registers, or what it reads at the rate of reading as many bytes, whichever is more.
    /// - Throws: `AttentionError.outOfMemory`
    public func limit() throws(AttentionError) -> Double { try machine.limit(work) }
}

/// What a call of a kernel does.
struct KernelWork: Sendable {
    /// Entries of the block; multiply-adds of a product.
    let elements: Int
    /// What only the multiply-add units can do: products, with a sum or without.
    let multiplyAdds: Int
    /// Scalars read. What is written goes its own way, and nearly always to where it was read.
    let scalars: Int
}
