/// How the keys of a problem with few queries are split among tasks (Flash-Decoding): each takes some
/// neighbouring key tiles, and what they find is merged.
///
/// The split depends on the problem alone, never on the number of threads, and so do the results.
package struct KeySplits: Hashable, Sendable {
    /// Key tiles of a split; the last may have fewer.
    package let tilesOfSplit: Int

    package init(tilesOfSplit: Int) {
        precondition(tilesOfSplit > 0)
        self.tilesOfSplit = tilesOfSplit
    }

    /// How many splits there are for so many key tiles: one at least, which writes the rows without keys.
    package func count(keyTiles: Int) -> Int { max(1, TilePlan.tiles(keyTiles, of: tilesOfSplit)) }

    /// The key tiles of split s, of so many.
    package func tiles(_ s: Int, of keyTiles: Int) -> Range<Int> {
        min(s * tilesOfSplit, keyTiles)..<min((s + 1) * tilesOfSplit, keyTiles)
    }
}
