import AttentionCore
import Testing

struct TileTuningTests {
    private func sizes(
        _ shape: AttentionShape, _ pass: AttentionPass, mask: AttentionMask = .full, scalarSize: Int = 4,
        cacheBytes: Int = 1 << 20
    ) -> TileSizes {
        TileTuning.sizes(
            shape, AttentionOptions(mask: mask, algorithm: .flashAttention2), pass, scalarSize: scalarSize,
            cacheBytes: cacheBytes)
    }

    private func square(_ heads: Int, _ length: Int, _ headSize: Int) -> AttentionShape {
        AttentionShape(batch: 1, heads: heads, queryLength: length, headSize: headSize)
    }

    @Test func measuredShapes_haveTheirSizes() {
        for (headSize, keys) in [(64, 512), (128, 384)] {
            let shape = square(8, 2048, headSize)
            #expect(sizes(shape, .forward) == TileSizes(queries: 192, keys: keys))
            #expect(sizes(shape, .forward, mask: .causal) == TileSizes(queries: 192, keys: keys))
            #expect(sizes(shape, .backward) == TileSizes(queries: 192, keys: 128))
            #expect(sizes(shape, .backward, mask: .causal) == TileSizes(queries: 192, keys: 64))
        }
    }

    @Test func queries_areCutIntoEqualParts() {
        let shape = AttentionShape(batch: 1, heads: 8, queryLength: 256, keyLength: 4096, headSize: 128)
        #expect(sizes(shape, .forward).queries == 128)
        #expect(sizes(shape, .backward).queries == 128)
    }

    @Test(arguments: [AttentionPass.forward, .backward])
    func fewHeads_haveMoreTasks(pass: AttentionPass) {
        let few = sizes(square(1, 1024, 64), pass)
        let many = sizes(square(16, 1024, 64), pass)
        #expect(few.queries < many.queries)
        #expect(few.keys <= many.keys)
    }

    @Test func smallCache_hasNarrowerTiles() {
        let shape = square(8, 2048, 64)
        #expect(sizes(shape, .forward, cacheBytes: 256 << 10).keys < 512)
        #expect(sizes(shape, .forward, cacheBytes: 16 << 10).keys == 64)
        #expect(sizes(shape, .forward, cacheBytes: 0) == sizes(shape, .forward, cacheBytes: 1 << 20))
        #expect(sizes(shape, .forward, cacheBytes: 64 << 20).keys == 512)
    }

    @Test(arguments: [AttentionPass.forward, .backward], [AttentionMask.full, .causal])
    func everyShape_hasTilesWithinTheLimits(pass: AttentionPass, mask: AttentionMask) {
        for length in [0, 1, 17, 63, 64, 65, 193, 1000, 1 << 30] {
            for heads in [0, 1, 5, 64] {
                for scalarSize in [4, 8] {
                    let shape = AttentionShape(batch: 1, heads: heads, queryLength: length, headSize: 80)
                    let tiles = sizes(shape, pass, mask: mask, scalarSize: scalarSize)
                    #expect((1...192).contains(tiles.queries), "\(length) \(heads)")
                    #expect((1...512).contains(tiles.keys), "\(length) \(heads)")
                }
            }
        }
    }

    @Test func sizesAskedFor_areTaken() {
        let asked = TileSizes(queries: 7, keys: 9)
        let options = AttentionOptions(algorithm: .flashAttention2, tileSizes: asked)
        #expect(TileTuning.sizes(square(8, 64, 64), options, .forward, scalarSize: 4, cacheBytes: 0) == asked)
    }
}
