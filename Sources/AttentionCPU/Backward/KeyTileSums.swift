import AttentionCore

extension CPUAlgorithm where Operands == BackwardOperands<Element> {
    /// Sums dK_j and dV_j over the query tiles that see the keys, of all heads of the group, and writes them
    /// once.
    ///
    /// - Parameters:
    ///   - dK, dV: room for the sums where they have to be rounded: `[Bc][D]`, `[Bc][Dv]`.
    ///   - add: adds the terms of a tile of head h to the rows of dK and dV that it sees.
    static func sumKeyTile(
        _ j: Int, _ b: Int, _ hkv: Int, _ c: CPUContext, _ x: Operands,
        _ steps: TileSteps<Element.Accumulator>, dK: MutableBlock<Element.Accumulator>,
        dV: MutableBlock<Element.Accumulator>,
        add: (
            _ h: Int, _ tile: TilePlan.Tile, _ plan: TilePlan, _ dK: MutableBlock<Element.Accumulator>,
            _ dV: MutableBlock<Element.Accumulator>
        ) -> Void
    ) {
        let plan = c.plan(b, x.keyLengths)
        guard j < plan.keyTileCount else { return }
        let (keyGradient, valueGradient) = (
            x.keyGradient.block(b, hkv, plan.keys(j)), x.valueGradient.block(b, hkv, plan.keys(j))
        )
        let (dK, dV) = (steps.accumulator(keyGradient, or: dK), steps.accumulator(valueGradient, or: dV))
        dK.fill(0)
        dV.fill(0)
        for h in hkv * c.shape.groupSize..<(hkv + 1) * c.shape.groupSize {
            for i in plan.queryTiles(forKeyTile: j) {
                let tile = plan.tile(i, j)
                add(h, tile, plan, dK.rows(0..<tile.keys.count), dV.rows(0..<tile.keys.count))
            }
        }
        steps.store(dK, to: keyGradient)
        steps.store(dV, to: valueGradient)
    }
}
