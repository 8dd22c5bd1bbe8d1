import TileKernelTable

extension KernelCase {
    /// The kernels of a 16-bit type: conversions of a tile of Q, products of a group's rows when decoding.
    package static func all(_ conversion: ElementConversion, _ table: TileKernelTable) -> [KernelCase] {
        var widening = KernelCases(table)
        let (rounding, Br, D) = (widening, widening.sizes(.flashAttention2, .forward).queries, 128)
        // Bits that are ordinary numbers in F16 as well.
        widening.input = .pairs
        return [
            widening.pass("widen", Br, D, reads: 2) { conversion.widen(Br, D, $0.A, D, $0.C, D) },
            rounding.pass("round", Br, D, reads: 4) { conversion.round(Br, D, $0.A, D, $0.C, D) },
        ] + widening.passing(conversion.passing, D: D)
    }

    /// The products over pairs of BF16, whose inner lengths count pairs.
    package static func products(_ kernels: PairKernelTable, _ table: TileKernelTable) -> [KernelCase] {
        var cases = KernelCases(table)
        cases.input = .pairs
        let forward = cases.sizes(.flashAttention2, .forward)
        let backward = cases.sizes(.flashAttention2, .backward)
        return [64, 128].flatMap { [cases] D in
            let (Br, Bc, rows, columns) = (forward.queries, forward.keys, backward.queries, backward.keys)
            let padded = cases.padded(Br)
            return [
                // Sᵀ = K Qᵀ
                cases.product("gemmPacked", Bc, Br, D / 2, perEntry: 2) {
                    kernels.gemmPacked(Bc, Br, D / 2, $0.A, D / 2, $0.B, $0.C, padded)
                },
                // O += P V, with P held transposed.
                cases.product("gemmTN", Br, D, Bc / 2, perEntry: 2) {
                    kernels.gemmTN(Br, D, Bc / 2, $0.A, Br, $0.B, D, $0.C, D, $0.halves, true, $0.scratch)
                },
                // dQ += dS K
                cases.product("gemmNN", rows, D, columns / 2, perEntry: 2) {
                    kernels.gemmNN(
                        rows, D, columns / 2, $0.A, columns / 2, $0.B, D, $0.C, D, $0.halves, true,
                        $0.scratch)
                },
            ] + cases.passing(kernels.passing, D: D, unit: 2)
        }
    }

    /// The passes that make pairs or look at them.
    package static func passes(_ kernels: PairKernelTable, _ table: TileKernelTable) -> [KernelCase] {
        var cases = KernelCases(table)
        cases.input = .pairs
        let forward = cases.sizes(.flashAttention2, .forward)
        let backward = cases.sizes(.flashAttention2, .backward)
        let (Br, Bc, rows, columns, D) = (forward.queries, forward.keys, backward.queries, backward.keys, 128)
        let padded = cases.padded(Br)
        var fromFloat = cases
        fromFloat.input = .float
        return [
            cases.pass("packTransposed", Br, D / 2) { kernels.packTransposed(Br, D / 2, $0.A, D / 2, $0.C) },
            // 2^x by a polynomial of degree 4. What is written are pairs, which as Float are what their
            // second numbers are.
            cases.pass("exponentiatePairs", Bc, Br, multiplyAdds: 2 + 4 + 1) {
                kernels.exponentiatePairs(Bc, Br, $0.C, padded, 1, $0.ones, $0.out)
            },
            // P in Float, in place, and in pairs.
            fromFloat.pass("probabilityPairs", rows, columns, multiplyAdds: 2 + 4 + 1) {
                kernels.probabilityPairs(rows, columns, $0.C, columns, 1, $0.halves, $0.halves, $0.B, columns)
            },
            // dS in pairs of rows, and after them in rows. None of it is 0, which beside another number would
            // be subnormal as Float.
            fromFloat.pass("scoreGradientPairs", rows, columns, reads: 8) {
                kernels.scoreGradientPairs(
                    rows, columns, $0.A, columns, $0.B, columns, 1, $0.halves, $0.C, columns,
                    $0.C + 2 * rows * columns, columns)
            },
            cases.pass("pairRows", Bc, D, reads: 2) { kernels.pairRows(Bc, D, $0.A, D, $0.C, D) },
            fromFloat.pass("roundPairs", rows, columns) {
                kernels.roundPairs(rows, columns, $0.A, columns, $0.C, columns)
            },
            cases.pass("allFinite", Bc, D, reads: 2) { _ = kernels.allFinite(Bc, D, $0.A, D) },
        ]
    }
}
