import AttentionCore
import Testing

@Suite("KeySplits")
struct KeySplitsTests {
    @Test(arguments: [1, 2, 4, 7], [0, 1, 3, 4, 5, 8, 63])
    func splits_takeEveryTileOnce(tilesOfSplit: Int, keyTiles: Int) {
        let splits = KeySplits(tilesOfSplit: tilesOfSplit)
        let count = splits.count(keyTiles: keyTiles)
        #expect(count >= 1)
        #expect((0..<count).flatMap { splits.tiles($0, of: keyTiles) } == Array(0..<keyTiles))
        #expect((0..<count).allSatisfy { keyTiles == 0 || !splits.tiles($0, of: keyTiles).isEmpty })
        #expect(splits.tiles(count, of: keyTiles).isEmpty)
    }

    private func splits(_ queries: Int, _ keys: Int, batch: Int = 1) -> KeySplits? {
        TileTuning.keySplits(
            AttentionShape(batch: batch, heads: 8, queryLength: queries, keyLength: keys, headSize: 64),
            .flashAttention2, .forward, TileSizes(queries: 64, keys: 64))
    }

    @Test func fewQueries_splitTheKeys_manyDoNot() {
        #expect(splits(16, 4096) != nil)
        #expect(splits(17, 4096) == nil)
    }

    /// The same sequence gives the same bits in any batch.
    @Test func splits_doNotDependOnTheBatch() {
        #expect(splits(1, 100_000) == splits(1, 100_000, batch: 7))
    }
}
