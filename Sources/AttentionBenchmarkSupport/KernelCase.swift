import AttentionCore
import TileKernelTable

/// A kernel and the block that it is given.
struct KernelCase: Sendable {
    let kernel: Kernel
    /// Rows, columns and, of a product, the inner length.
    let m, n, k: Int
    let work: KernelWork

    /// The entries of ``TileKernelTable`` that do an algorithm's work.
    enum Kernel: String, CaseIterable, Sendable {
        case gemmPacked, gemmNT, gemmNN, gemmTN, packTransposed
        case rowMaximum, exponentiate, columnMaximum, exponentiateColumns, probabilities, scoreGradient
        case scaleRows, divideRows, rowDot, allFinite
    }

    var name: String { "\(kernel) \(m)×\(n)" + (k > 0 ? "×\(k)" : "") }

    private static func product(_ kernel: Kernel, _ m: Int, _ n: Int, _ k: Int) -> KernelCase {
        KernelCase(
            kernel: kernel, m: m, n: n, k: k,
            // A single row uses each entry of B once: it is bound by reading B.
            work: KernelWork(elements: m * n * k, multiplyAdds: m * n * k, scalars: m == 1 ? n * k : 0))
    }

    /// - Parameters:
    ///   - multiplyAdds: for each entry.
    ///   - reads: operands that are read.
    private static func pass(
        _ kernel: Kernel, _ m: Int, _ n: Int, multiplyAdds: Int = 0, reads: Int
    ) -> KernelCase {
        KernelCase(
            kernel: kernel, m: m, n: n, k: 0,
            work: KernelWork(elements: m * n, multiplyAdds: m * n * multiplyAdds, scalars: m * n * reads))
    }

    /// The products at both usual head sizes, the passes over a tile of scores once.
    static func all(_ table: TileKernelTable) -> [KernelCase] {
        let forward = sizes(.flashAttention2, .forward, table)
        let backward = sizes(.flashAttention2, .backward, table)
        let online = sizes(.onlineSoftmax, .forward, table)
        return [64, 128].flatMap { D in
            products(D, forward, backward) + [.product(.gemmNT, 1, online.keys, D)]
        } + scorePasses(table, forward, backward) + outputPasses(forward, headSize: 128)
    }

    private static func sizes(
        _ algorithm: AttentionAlgorithm, _ pass: AttentionPass, _ table: TileKernelTable
    ) -> TileSizes {
        let shape = AttentionShape(batch: 1, heads: 8, queryLength: 2048, headSize: 128)
        return TileTuning.sizes(
            shape, AttentionOptions(algorithm: algorithm), pass, scalarSize: table.scalarSize)
    }

    private static func products(_ D: Int, _ forward: TileSizes, _ backward: TileSizes) -> [KernelCase] {
        let (Br, Bc) = (forward.queries, forward.keys)
        return [
            .product(.gemmPacked, Bc, Br, D),  // Sᵀ = K Qᵀ
            .product(.gemmTN, Br, D, Bc),  // O += P V, with P held transposed
            .product(.gemmNN, Br, D, Bc),  // O += P V
            .product(.gemmPacked, backward.queries, backward.keys, D),  // S = Q Kᵀ
            .product(.gemmTN, backward.keys, D, backward.queries),  // dV += Pᵀ dO
            .product(.gemmNN, backward.queries, D, backward.keys),  // dQ += dS K
            // The transposition of a block of lanes × lanes goes through the registers: no products.
            .pass(.packTransposed, Br, D, reads: 1),
        ]
    }

    private static func scorePasses(
        _ table: TileKernelTable, _ forward: TileSizes, _ backward: TileSizes
    ) -> [KernelCase] {
        let (Br, Bc) = (forward.queries, forward.keys)
        // 2^x: two to divide the exponent, one for each degree of the polynomial, one by the power of two.
        let exponential = table.scalarSize == 4 ? 2 + 6 + 1 : 2 + 11 + 1
        let (rows, columns) = (backward.queries, backward.keys)
        return [
            .pass(.rowMaximum, Br, Bc, reads: 1),
            .pass(.exponentiate, Br, Bc, multiplyAdds: exponential, reads: 1),
            .pass(.columnMaximum, Bc, Br, reads: 1),
            .pass(.exponentiateColumns, Bc, Br, multiplyAdds: exponential, reads: 1),
            .pass(.probabilities, rows, columns, multiplyAdds: exponential, reads: 1),
            .pass(.scoreGradient, rows, columns, reads: 2),
        ]
    }

    private static func outputPasses(_ forward: TileSizes, headSize D: Int) -> [KernelCase] {
        let Br = forward.queries
        return [
            .pass(.scaleRows, Br, D, reads: 1),
            .pass(.divideRows, Br, D, reads: 1),
            .pass(.rowDot, Br, D, reads: 2),
            .pass(.allFinite, forward.keys, D, reads: 1),
        ]
    }
}
