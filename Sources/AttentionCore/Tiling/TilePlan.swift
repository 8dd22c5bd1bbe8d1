/// Which tiles of the score matrix an algorithm visits, and what each of them needs.
///
/// The plan of one sequence, `[Nq, Nk]`: batch entries and heads repeat it. It owns every bound: no
/// algorithm, and no kernel on any device, computes a causal limit of its own. Its laws, which the tests
/// hold it to: every visible (row, key) lies in exactly one visited tile, a tile's keys reach no further
/// than some row of it sees, and a `full` or `edge` tile holds no masked element.
public struct TilePlan: Hashable, Sendable {
    /// What a tile asks of the masking step.
    public enum Zone: Hashable, Sendable {
        /// Br × Bc elements, all visible.
        case full
        /// Fewer rows or keys than Br × Bc, all visible.
        case edge
        /// Some element is not visible.
        case masked
    }

    /// One visited tile.
    public struct Tile: Hashable, Sendable {
        /// i
        public let queryTile: Int
        /// j
        public let keyTile: Int
        /// Rows of Q.
        public let queries: Range<Int>
        /// Rows of K and V: from the start of key tile j to the last that some row here may see.
        public let keys: Range<Int>
        /// What the masking step has to do here.
        public let zone: Zone
    }

    /// Nq
    public let queryLength: Int
    /// The query heads whose rows are the plan's: row r is query r / groupSize of head r % groupSize. 1
    /// unless the heads that share keys are taken together.
    public let groupSize: Int
    /// The keys that exist: Nk, or fewer.
    public let keyLength: Int
    /// Which keys a row sees.
    public let mask: AttentionMask
    /// Br and Bc.
    public let sizes: TileSizes

    /// The plan of one sequence.
    ///
    /// - Parameters:
    ///   - queryLength: Nq, 0 or more.
    ///   - keyLength: the keys that exist, 0 or more, which bottom-right alignment counts from.
    ///   - mask: which keys a row sees.
    ///   - sizes: Br and Bc, 1 or more.
    ///   - groupSize: the query heads that are rows of the same tiles, next to each other for each query.
    public init(
        queryLength: Int, keyLength: Int, mask: AttentionMask, sizes: TileSizes, groupSize: Int = 1
    ) {
        precondition(queryLength >= 0 && keyLength >= 0 && sizes.queries > 0 && sizes.keys > 0)
        precondition(groupSize > 0)
        self.queryLength = queryLength
        self.groupSize = groupSize
        self.keyLength = keyLength
        self.mask = mask
        self.sizes = sizes
    }

    /// Rows of Q: Nq, or as many for each head of a group.
    public var rowCount: Int { queryLength * groupSize }

    /// Tr
    public var queryTileCount: Int { Self.tiles(rowCount, of: sizes.queries) }
    /// Tc
    public var keyTileCount: Int { Self.tiles(keyLength, of: sizes.keys) }

    /// The rows of query tile i.
    public func queries(_ i: Int) -> Range<Int> { Self.tile(i, of: sizes.queries, within: rowCount) }

    /// The keys of key tile j.
    public func keys(_ j: Int) -> Range<Int> { Self.tile(j, of: sizes.keys, within: keyLength) }

    /// How many tiles of a size cover a length. Sizes may be as large as they like, so nothing is added to
    /// one.
    package static func tiles(_ length: Int, of size: Int) -> Int {
        length / size + (length % size == 0 ? 0 : 1)
    }

    private static func tile(_ index: Int, of size: Int, within length: Int) -> Range<Int> {
        let start = index * size
        return start..<start + min(size, length - start)
    }

    // MARK: The mask's geometry. Everything below follows from these two.

    /// The keys that a query row may see. Both bounds grow with the row.
    public func visibleKeys(row: Int) -> Range<Int> {
        switch mask {
        case .full: 0..<keyLength
        case .causal: 0..<min(max(row / groupSize + diagonal + 1, 0), keyLength)
        }
    }

    /// The query rows that may see a key. Both bounds grow with the key.
    public func visibleQueries(key: Int) -> Range<Int> {
        switch mask {
        case .full: 0..<rowCount
        case .causal: min(max(key - diagonal, 0), queryLength) * groupSize..<rowCount
        }
    }

    /// Query i sees keys up to i + diagonal.
    private var diagonal: Int {
        mask == .causal(.bottomRight) ? keyLength - queryLength : 0
    }

    // MARK: Tiles

    /// The key tiles that query tile i visits, in order.
    public func keyTiles(forQueryTile i: Int) -> Range<Int> {
        tiles(covering: visibleKeys(queries(i)), size: sizes.keys)
    }

    /// The query tiles that visit key tile j, in order.
    public func queryTiles(forKeyTile j: Int) -> Range<Int> {
        let keys = keys(j)
        guard let first = keys.first, let last = keys.last else { return 0..<0 }
        let rows = visibleQueries(key: first).lowerBound..<visibleQueries(key: last).upperBound
        return tiles(covering: rows, size: sizes.queries)
    }

    /// The tile where query tile i meets key tile j, which it visits.
    public func tile(_ i: Int, _ j: Int) -> Tile {
        tile(i, j, rows: queries(i))
    }

    /// The tile in parts that waste less on a diagonal: a masked tile as strips of up to `rows` rows, each
    /// with keys and a zone of its own and none without keys; any other tile as it is.
    public func parts(of tile: Tile, rows: Int) -> TileParts { TileParts(plan: self, tile: tile, rows: rows) }

    /// The tile of some rows of Q and a key tile's first keys, as far as the rows see them.
    fileprivate func tile(_ i: Int, _ j: Int, rows: Range<Int>) -> Tile {
        let all = keys(j)
        let keys = all.lowerBound..<max(all.lowerBound, min(all.upperBound, visibleKeys(rows).upperBound))
        var zone: Zone = rows.count == sizes.queries && keys.count == sizes.keys ? .full : .edge
        if let first = rows.first, let last = rows.last,
            visibleKeys(row: first).upperBound < keys.upperBound
                || visibleKeys(row: last).lowerBound > keys.lowerBound
        {
            zone = .masked
        }
        return Tile(queryTile: i, keyTile: j, queries: rows, keys: keys, zone: zone)
    }

    /// How many (row, key) pairs are visible.
    public var visibleCount: Int {
        switch mask {
        case .full: rowCount * keyLength
        case .causal: (0..<rowCount).reduce(0) { $0 + visibleKeys(row: $1).count }
        }
    }

    /// The keys that at least one of these rows sees.
    private func visibleKeys(_ rows: Range<Int>) -> Range<Int> {
        guard let first = rows.first, let last = rows.last else { return 0..<0 }
        return visibleKeys(row: first).lowerBound..<visibleKeys(row: last).upperBound
    }

    private func tiles(covering range: Range<Int>, size: Int) -> Range<Int> {
        range.isEmpty ? 0..<0 : range.lowerBound / size..<Self.tiles(range.upperBound, of: size)
    }
}

/// The parts of a tile, in order; made without allocating.
public struct TileParts: Sequence, IteratorProtocol, Sendable {
    private let plan: TilePlan
    private let whole: TilePlan.Tile
    private let rows: Int
    private var position: Int

    fileprivate init(plan: TilePlan, tile: TilePlan.Tile, rows: Int) {
        self.plan = plan
        whole = tile
        self.rows = tile.zone == .masked ? rows : tile.queries.count
        position = tile.queries.lowerBound
    }

    public mutating func next() -> TilePlan.Tile? {
        while position < whole.queries.upperBound {
            let strip = position..<Swift.min(position + rows, whole.queries.upperBound)
            position = strip.upperBound
            if strip == whole.queries { return whole }
            let part = plan.tile(whole.queryTile, whole.keyTile, rows: strip)
            if !part.keys.isEmpty { return part }
        }
        return nil
    }
}
