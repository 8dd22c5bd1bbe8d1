import TileKernelTable

extension KernelCase {
    /// Every kernel of a table: the products at both usual head sizes, the passes over a tile of scores once.
    package static func all(_ table: TileKernelTable) -> [KernelCase] {
        let cases = KernelCases(table)
        return [64, 128].flatMap { forwardProducts(cases, D: $0) + backwardProducts(cases, D: $0) }
            + forwardPasses(cases) + backwardPasses(cases) + outputPasses(cases, D: 128)
    }

    private static func forwardProducts(_ cases: KernelCases, D: Int) -> [KernelCase] {
        let (table, tiles) = (cases.table, cases.sizes(.flashAttention2, .forward))
        let (Br, Bc, one) = (tiles.queries, tiles.keys, cases.sizes(.onlineSoftmax, .forward).keys)
        let padded = cases.padded(Br)
        return [
            // Sᵀ = K Qᵀ
            cases.product("gemmPacked", Bc, Br, D) {
                table.gemmPacked(Bc, Br, D, $0.A, D, $0.B, $0.C, padded)
            },
            // O += P V, with P held transposed, and as it is. Half of the old O is kept, so that it stays
            // bounded.
            cases.product("gemmTN", Br, D, Bc) {
                table.gemmTN(Br, D, Bc, $0.A, Br, $0.B, D, $0.C, D, $0.halves, true, $0.scratch)
            },
            cases.product("gemmNN", Br, D, Bc) {
                table.gemmNN(Br, D, Bc, $0.A, Bc, $0.B, D, $0.C, D, $0.halves, true, $0.scratch)
            },
            // A row of S in the online softmax.
            cases.product("gemmNT", 1, one, D) { table.gemmNT(1, one, D, $0.A, D, $0.B, D, $0.C, one) },
            cases.pass("packTransposed", Br, D) { table.packTransposed(Br, D, $0.A, D, $0.C) },
        ] + cases.passing(table.passing, D: D)
    }

    private static func backwardProducts(_ cases: KernelCases, D: Int) -> [KernelCase] {
        let (table, tiles) = (cases.table, cases.sizes(.flashAttention2, .backward))
        let (Br, Bc) = (tiles.queries, tiles.keys)
        let padded = cases.padded(Bc)
        return [
            // S = Q Kᵀ
            cases.product("gemmPacked", Br, Bc, D) {
                table.gemmPacked(Br, Bc, D, $0.A, D, $0.B, $0.C, padded)
            },
            // dV += Pᵀ dO
            cases.product("gemmTN", Bc, D, Br) {
                table.gemmTN(Bc, D, Br, $0.A, Bc, $0.B, D, $0.C, D, $0.halves, true, $0.scratch)
            },
            // dQ += dS K
            cases.product("gemmNN", Br, D, Bc) {
                table.gemmNN(Br, D, Bc, $0.A, Bc, $0.B, D, $0.C, D, $0.halves, true, $0.scratch)
            },
        ]
    }

    /// Products in 2^x: what splits the exponent, what the polynomial takes, and the power of two, as
    /// `Exponential.swift` has them.
    static func exponential(_ table: TileKernelTable) -> Int {
        if table.scalarSize == 8 { return 2 + 11 + 1 }
        return table.lanes == 16 ? 7 : 2 + 6 + 1
    }

    /// In place, S comes to rest where 2^(S − 1) is S.
    private static func forwardPasses(_ cases: KernelCases) -> [KernelCase] {
        let (table, tiles) = (cases.table, cases.sizes(.flashAttention2, .forward))
        let (Br, Bc) = (tiles.queries, tiles.keys)
        let (padded, exponential) = (cases.padded(Br), exponential(table))
        return [
            cases.pass("rowMaximum", Br, Bc) { table.rowMaximum(Br, Bc, $0.A, Bc, $0.out) },
            cases.pass("exponentiate", Br, Bc, multiplyAdds: exponential) {
                table.exponentiate(Br, Bc, $0.C, Bc, 1, $0.ones, $0.out)
            },
            cases.pass("columnMaximum", Bc, Br) { table.columnMaximum(Bc, Br, $0.A, padded, $0.out) },
            cases.pass("exponentiateColumns", Bc, Br, multiplyAdds: exponential) {
                table.exponentiateColumns(Bc, Br, $0.C, padded, 1, $0.ones, $0.out)
            },
        ]
    }

    private static func backwardPasses(_ cases: KernelCases) -> [KernelCase] {
        let (table, tiles) = (cases.table, cases.sizes(.flashAttention2, .backward))
        let (Br, Bc) = (tiles.queries, tiles.keys)
        return [
            cases.pass("probabilities", Br, Bc, multiplyAdds: exponential(table)) {
                table.probabilities(Br, Bc, $0.C, Bc, 1, $0.halves, $0.halves)
            },
            cases.pass("scoreGradient", Br, Bc, reads: 2 * table.scalarSize) {
                table.scoreGradient(Br, Bc, $0.A, Bc, $0.C, Bc, 0.5, $0.halves)
            },
        ]
    }

    private static func outputPasses(_ cases: KernelCases, D: Int) -> [KernelCase] {
        let (table, tiles) = (cases.table, cases.sizes(.flashAttention2, .forward))
        let (Br, Bc) = (tiles.queries, tiles.keys)
        return [
            cases.pass("scaleRows", Br, D) { table.scaleRows(Br, D, $0.C, D, $0.ones) },
            cases.pass("divideRows", Br, D) { table.divideRows(Br, D, $0.C, D, $0.ones, $0.C, D) },
            cases.pass("rowDot", Br, D, reads: 2 * table.scalarSize) {
                table.rowDot(Br, D, $0.A, D, $0.B, D, $0.out)
            },
            cases.pass("allFinite", Bc, D) { _ = table.allFinite(Bc, D, $0.A, D) },
        ]
    }
}
