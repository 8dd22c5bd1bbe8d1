import AttentionCore

// Places in a tile, counted from its first row and its first key.

extension TilePlan {
    /// The keys of the tile that some of its rows do not see, counted from the tile's first: those before and
    /// those after the keys that all rows see.
    func partlyVisibleKeys(of tile: Tile) -> (before: Range<Int>, after: Range<Int>) {
        guard let first = tile.queries.first, let last = tile.queries.last else { return (0..<0, 0..<0) }
        let before = visibleKeys(row: last).clamped(to: tile.keys).lowerBound - tile.keys.lowerBound
        let after = visibleKeys(row: first).clamped(to: tile.keys).upperBound - tile.keys.lowerBound
        return (0..<before, max(before, after)..<tile.keys.count)
    }

    /// The keys that row r of the tile sees, counted from the tile's first.
    func visibleKeys(row r: Int, of tile: Tile) -> Range<Int> {
        let seen = visibleKeys(row: tile.queries.lowerBound + r).clamped(to: tile.keys)
        return seen.lowerBound - tile.keys.lowerBound..<seen.upperBound - tile.keys.lowerBound
    }

    /// The rows that see key c of the tile, counted from the tile's first.
    func visibleQueries(key c: Int, of tile: Tile) -> Range<Int> {
        let seeing = visibleQueries(key: tile.keys.lowerBound + c).clamped(to: tile.queries)
        return seeing.lowerBound - tile.queries.lowerBound..<seeing.upperBound - tile.queries.lowerBound
    }
}

extension TilePlan.Tile {
    /// The strip's rows, counted from the tile's first.
    func rows(in tile: TilePlan.Tile) -> Range<Int> {
        queries.lowerBound - tile.queries.lowerBound..<queries.upperBound - tile.queries.lowerBound
    }
}
