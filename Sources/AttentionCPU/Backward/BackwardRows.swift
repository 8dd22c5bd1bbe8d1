import AttentionCore

/// Steps 4 to 8 of FlashAttention-2, backward: tiles of rows of Q and dO meet a tile of keys, which stays.
///
/// The form that the operands are held in decides which products there are: `WideRows` holds them in the type
/// that is summed in, `PairRows` in pairs of BF16. Which rows come, and whose turn it is at their dQ, is the
/// caller's: see `FlashAttention2Backward`.
protocol BackwardRows {
    /// What the operands hold.
    associatedtype Element: CPUElement
    typealias Scalar = Element.Accumulator
    /// K_j and V_j, ready for their products.
    associatedtype Keys
    /// dS as step 7 takes it.
    associatedtype ScoreGradient

    /// Lays out a worker's memory.
    init(_ c: CPUContext, _ arena: inout Arena)
    /// The steps that do not depend on the form.
    var steps: TileSteps<Scalar> { get }
    /// Room to widen rows of O where they have to be, free between visits: `[Br][Dv]`.
    var O: MutableBlock<Scalar> { get }
    /// Likewise of dO.
    var dO: MutableBlock<Scalar> { get }
    /// Makes K_j and V_j ready; they stay until the next.
    func ready(_ K: Block<Element>, _ V: Block<Element>) -> Keys
    /// Steps 4 to 6 and 8 for a tile or a strip of it; leaves dS for step 7.
    ///
    /// - Parameters:
    ///   - row: what was prepared for the rows of Q and dO.
    ///   - dK, dV: of the keys that some row sees.
    func visit(
        _ part: TilePlan.Tile, _ plan: TilePlan, _ K: Keys, _ Q: Block<Element>, _ dO: Block<Element>,
        _ row: RowPreparation<Scalar>, into dK: MutableBlock<Scalar>, _ dV: MutableBlock<Scalar>
    ) -> ScoreGradient
    /// Step 7: dQ_i += dS K_j.
    func accumulate(
        _ dS: ScoreGradient, _ K: Keys, into dQ: MutableBlock<Scalar>, _ part: TilePlan.Tile, _ plan: TilePlan
    )
}
