import AttentionCPU
import AttentionCore
import TileKernelTable

/// A kernel, the block that it is given, and what it does there.
package struct KernelCase: Sendable {
    /// The field of its table.
    package let kernel: String
    /// Rows, columns and, of a product, the inner length.
    let m, n, k: Int
    let work: KernelWork
    /// What the operands that are read hold, and the one that is written.
    let input, output: KernelOperands.Content
    let panelWidth: Int
    /// Scalars of scratch.
    let scratch: Int
    let call: @Sendable (KernelOperands) -> Void

    var name: String { "\(kernel) \(m)×\(n)" + (k > 0 ? "×\(k)" : "") }
}

/// What a call of a kernel does.
package struct KernelWork: Sendable {
    /// Entries of the block; multiply-adds of a product.
    let elements: Int
    /// What only the multiply-add units can do: products, with a sum or without.
    let multiplyAdds: Int
    /// Bytes read. What is written goes its own way, and nearly always to where it was read.
    let bytes: Int

    package init(elements: Int, multiplyAdds: Int, bytes: Int) {
        (self.elements, self.multiplyAdds, self.bytes) = (elements, multiplyAdds, bytes)
    }
}

/// Makes the cases of one table.
struct KernelCases {
    let table: TileKernelTable
    var input: KernelOperands.Content
    var output: KernelOperands.Content

    init(_ table: TileKernelTable) {
        self.table = table
        input = table.scalarSize == 4 ? .float : .double
        output = input
    }

    /// Br and Bc for a common shape.
    func sizes(_ algorithm: AttentionAlgorithm, _ pass: AttentionPass) -> TileSizes {
        TileTuning.sizes(
            AttentionShape(batch: 1, heads: 8, queryLength: 2048, headSize: 128),
            AttentionOptions(algorithm: algorithm), pass, scalarSize: table.scalarSize, cacheBytes: 0)
    }

    /// Br and Bc for decoding.
    var decodingSizes: TileSizes {
        TileTuning.sizes(
            AttentionShape(
                batch: 1, heads: 32, keyValueHeads: 8, queryLength: 1, keyLength: 16384, headSize: 128),
            AttentionOptions(algorithm: .flashAttention2), .forward, scalarSize: table.scalarSize,
            cacheBytes: 0)
    }

    /// A row length of a destination that the kernel writes in whole panels.
    func padded(_ n: Int) -> Int { n.roundedUp(toMultipleOf: table.panelWidth) }

    /// - Parameters:
    ///   - k: the inner length, in what the table counts it in.
    ///   - perEntry: multiply-adds for each of m · n · k; 2 where k counts pairs.
    func product(
        _ kernel: String, _ m: Int, _ n: Int, _ k: Int, perEntry: Int = 1,
        _ call: @escaping @Sendable (KernelOperands) -> Void
    ) -> KernelCase {
        let count = m * n * k * perEntry
        // A single row uses each entry of B once: it is bound by reading B.
        let work = KernelWork(
            elements: count, multiplyAdds: count, bytes: m == 1 ? n * k * table.scalarSize : 0)
        return make(kernel, m, n, k, work, call)
    }

    /// The products of decoding: four rows as they lie, and 16 in panels.
    ///
    /// - Parameters:
    ///   - unit: how many numbers the inner length counts as one: 2 where it counts pairs.
    func passing(_ products: PassingProducts, D: Int, unit: Int = 1) -> [KernelCase] {
        let (few, many, keys, width) = (4, 16, decodingSizes.keys, padded(16))
        let (depth, pairs) = (D / unit, keys / unit)
        return [
            product("passing.gemmNT", few, keys, depth, perEntry: unit) {
                products.gemmNT(few, keys, depth, $0.A, depth, $0.B, depth, $0.C, keys, $0.B, 0, 0)
            },
            product("passing.gemmPacked", keys, many, depth, perEntry: unit) {
                products.gemmPacked(keys, many, depth, $0.A, depth, $0.B, $0.C, width, $0.scratch, $0.A, 0, 0)
            },
            product("passing.gemmNN", few, D, pairs, perEntry: unit) {
                products.gemmNN(
                    few, D, pairs, $0.A, pairs, $0.B, D, $0.C, D, $0.halves, $0.scratch, $0.B, 0, 0)
            },
            product("passing.gemmTN", many, D, pairs, perEntry: unit) {
                products.gemmTN(
                    many, D, pairs, $0.A, many, $0.B, D, $0.C, D, $0.halves, $0.scratch, $0.B, 0, 0)
            },
        ]
    }

    /// - Parameters:
    ///   - multiplyAdds: for each entry.
    ///   - reads: bytes for each entry; one scalar unless given.
    func pass(
        _ kernel: String, _ m: Int, _ n: Int, multiplyAdds: Int = 0, reads: Int? = nil,
        _ call: @escaping @Sendable (KernelOperands) -> Void
    ) -> KernelCase {
        let work = KernelWork(
            elements: m * n, multiplyAdds: m * n * multiplyAdds, bytes: m * n * (reads ?? table.scalarSize))
        return make(kernel, m, n, 0, work, call)
    }

    private func make(
        _ kernel: String, _ m: Int, _ n: Int, _ k: Int, _ work: KernelWork,
        _ call: @escaping @Sendable (KernelOperands) -> Void
    ) -> KernelCase {
        KernelCase(
            kernel: kernel, m: m, n: n, k: k, work: work, input: input, output: output,
            panelWidth: table.panelWidth, scratch: table.gemmScratch(depth: k), call: call)
    }
}
