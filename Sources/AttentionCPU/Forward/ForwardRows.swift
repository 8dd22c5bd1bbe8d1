import AttentionCore

/// Steps 5 to 8 of FlashAttention-2, forward: some rows of Q meet tiles of keys, one after the other.
///
/// The form that the rows are held in decides which products there are: `PanelRows` holds a query a lane,
/// which is best where the rows fill vectors, `DotRows` takes fewer rows as they lie. Both exist over pairs
/// of BF16. What the rows belong to, and which keys they meet, is the caller's: see `FlashAttention2Forward`
/// and `SplitKeysForward`.
protocol ForwardRows {
    /// What the operands hold.
    associatedtype Element: CPUElement
    typealias Scalar = Element.Accumulator
    /// Q_i, ready for its products.
    associatedtype Query

    /// Lays out a worker's memory.
    init(_ c: CPUContext, _ arena: inout Arena)
    /// The steps that do not depend on the form.
    var steps: TileSteps<Scalar> { get }
    /// Makes Q_i ready; it stays until the next.
    func ready(_ Q: Block<Element>) -> Query
    /// Takes a tile of keys into O, which is not normalised, and into m and l.
    ///
    /// - Parameters:
    ///   - next: the K that comes next, if K and V pass by once; nil if they come again.
    func visit(
        _ tile: TilePlan.Tile, _ plan: TilePlan, _ Q: Query, _ K: Block<Element>, _ V: Block<Element>,
        next: Block<Element>?, into O: MutableBlock<Scalar>, _ statistics: RowStatistics<Scalar>)
}

extension ForwardRows {
    /// Steps 3 to 8 of a query tile for some of its key tiles.
    ///
    /// - Parameters:
    ///   - end: the K that comes after them, if K and V pass by once.
    func attend(
        _ Q: Block<Element>, _ keyTiles: Range<Int>, ofQueryTile i: Int, _ plan: TilePlan,
        _ keys: (Range<Int>) -> (K: Block<Element>, V: Block<Element>), before end: Block<Element>? = nil,
        into O: MutableBlock<Scalar>, _ statistics: RowStatistics<Scalar>
    ) {
        let Qi = ready(Q)
        O.fill(0)
        statistics.reset(O.rows)
        for j in keyTiles {
            let tile = plan.tile(i, j)
            let (Kj, Vj) = keys(tile.keys)
            let next = end == nil || j + 1 == keyTiles.upperBound ? end : keys(plan.tile(i, j + 1).keys).K
            visit(tile, plan, Qi, Kj, Vj, next: next, into: O, statistics)
        }
    }
}

/// Room for a tile's operands in pairs of BF16.
struct PairedOperands {
    /// Q_i and K_j where they cannot be read as pairs: `[Br][⌈D / 2⌉]`, `[Bc][⌈D / 2⌉]`.
    let Q, K: MutableBlock<UInt32>
    /// V_j in pairs of keys: `[⌈Bc / 2⌉][Dv]`.
    let V: MutableBlock<UInt32>

    init(_ c: CPUContext, _ arena: inout Arena) {
        let (depth, Dv) = (PairSteps.count(c.shape.headSize), c.shape.valueHeadSize)
        Q = arena.block(c.tileRows, depth, stride: depth)
        K = arena.block(c.tileKeys, depth, stride: depth)
        V = arena.block(PairSteps.count(c.tileKeys), Dv, stride: c.paddedColumns(Dv))
    }
}

/// What a tile's softmax leaves for its rows: `[rows]` each, in whole panels.
struct RowSums<Scalar: CPUScalar> {
    /// rowmax S, then what exp subtracts; exp(m_old − m); rowsum P.
    let maximum, correction, sum: UnsafeMutablePointer<Scalar>

    init(_ c: CPUContext, _ arena: inout Arena) {
        let padded = c.paddedColumns(c.tileRows)
        maximum = arena.take(padded, of: Scalar.self)
        correction = arena.take(padded, of: Scalar.self)
        sum = arena.take(padded, of: Scalar.self)
    }
}
