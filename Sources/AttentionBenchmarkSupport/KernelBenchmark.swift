import AttentionCPU
import AttentionCore
import TileKernelTable

/// One micro-kernel on a block of a size that the algorithms give it, ready to be called again and again.
///
/// For the package in `Benchmarks/`, which cannot see the kernels themselves. No part of the public API: what
/// is here changes with the kernels.
public struct KernelBenchmark: Sendable {
    /// Kernel set, element type, kernel and block: "avx512 F32 gemmNN 192×64×512".
    public let name: String
    /// The entries of the block, or the multiply-adds of a product.
    public var elements: Int { kernelCase.work.elements }

    let kernelCase: KernelCase
    let machine: KernelMachine

    /// Every kernel of every table that this machine runs, on the blocks that the algorithms use.
    public static var all: [KernelBenchmark] {
        KernelSelection.available.flatMap { set in
            let float = Float.tileKernels(set)
            return benchmarks(float, KernelCase.all(float), "F32")
                + benchmarks(Double.tileKernels(set), KernelCase.all(Double.tileKernels(set)), "F64")
                + conversions(set, float) + pairs(set, float)
        }
    }

    private static func benchmarks(
        _ table: TileKernelTable, _ cases: [KernelCase], _ type: String, _ machine: KernelMachine? = nil
    ) -> [KernelBenchmark] {
        let machine = machine ?? KernelMachine(table)
        return cases.map {
            KernelBenchmark(name: "\(table.name) \(type) \($0.name)", kernelCase: $0, machine: machine)
        }
    }

    private static func conversions(_ set: KernelSet, _ table: TileKernelTable) -> [KernelBenchmark] {
        var types: [(String, ElementConversion?)] = [("BF16", BFloat16.conversion(set))]
        #if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
        types.append(("F16", Float16.conversion(set)))
        #endif
        return types.flatMap { type, conversion in
            conversion.map { benchmarks(table, KernelCase.all($0, table), type) } ?? []
        }
    }

    /// The products of pairs against their own instruction's peak, the passes over tiles of Float against
    /// that of Float.
    private static func pairs(_ set: KernelSet, _ table: TileKernelTable) -> [KernelBenchmark] {
        guard let kernels = BFloat16.pairKernels(set) else { return [] }
        let machine = KernelMachine(table, multiplyAddLoop: kernels.multiplyAddLoop)
        return benchmarks(table, KernelCase.products(kernels, table), "BF16", machine)
            + benchmarks(table, KernelCase.passes(kernels, table), "BF16")
    }

    /// Allocates the operands.
    /// - Throws: `AttentionError.outOfMemory`
    public func prepared() throws(AttentionError) -> PreparedKernel { try PreparedKernel(kernelCase) }

    /// The seconds that one call would take at the machine's limit, measured now: its multiply-adds at the
    /// rate of registers, or what it reads at the rate of reading as many bytes, whichever is more.
    /// - Throws: `AttentionError.outOfMemory`
    public func limit() throws(AttentionError) -> Double { try machine.limit(kernelCase.work) }
}

/// A kernel with operands of its own.
public struct PreparedKernel {
    package let operands: KernelOperands
    private let call: @Sendable (KernelOperands) -> Void

    init(_ kernelCase: KernelCase) throws(AttentionError) {
        operands = try KernelOperands(kernelCase)
        call = kernelCase.call
    }

    /// Calls the kernel so many times.
    public func run(_ times: Int) { for _ in 0..<times { call(operands) } }
}
