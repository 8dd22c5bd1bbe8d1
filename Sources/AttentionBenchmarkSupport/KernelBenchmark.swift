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
            benchmarks(set, Float.self, "F32") + benchmarks(set, Double.self, "F64")
        }
    }

    private static func benchmarks<Scalar: CPUScalar>(
        _ set: KernelSet, _ type: Scalar.Type, _ typeName: String
    ) -> [KernelBenchmark] {
        let table = Scalar.tileKernels(set)
        let machine = KernelMachine(table)
        return KernelCase.all(table).map { kernelCase in
            KernelBenchmark(
                name: "\(set.rawValue) \(typeName) \(kernelCase.name)",
                work: kernelCase.work, machine: machine
            ) { () throws(AttentionError) in try PreparedKernel(kernelCase, table, type) }
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
package struct KernelWork: Sendable {
    /// Entries of the block; multiply-adds of a product.
    let elements: Int
    /// What only the multiply-add units can do: products, with a sum or without.
    let multiplyAdds: Int
    /// Scalars read. What is written goes its own way, and nearly always to where it was read.
    let scalars: Int

    package init(elements: Int, multiplyAdds: Int, scalars: Int) {
        (self.elements, self.multiplyAdds, self.scalars) = (elements, multiplyAdds, scalars)
    }
}
