import AttentionCore
import Testing

/// The laws of the plan, against a predicate of the test's own.
@Suite("TilePlan")
struct TilePlanTests {
    static let masks: [AttentionMask] = [.full, .causal(.bottomRight), .causal(.topLeft)]
    static let lengths = [0, 1, 2, 3, 5, 7, 8, 9, 13, 16, 17, 31, 33]
    static let sizes = [(1, 1), (1, 4), (4, 1), (3, 5), (8, 8), (16, 4), (7, 16), (64, 64)]
        .map { TileSizes(queries: $0.0, keys: $0.1) }

    private func sees(_ plan: TilePlan, _ i: Int, _ j: Int) -> Bool {
        switch plan.mask {
        case .full: true
        case .causal(.topLeft): j <= i
        case .causal(.bottomRight): j <= i + plan.keyLength - plan.queryLength
        }
    }

    private func forEachPlan(_ mask: AttentionMask, _ sizes: TileSizes, _ body: (TilePlan) -> Void) {
        for queryLength in Self.lengths {
            for keyLength in Self.lengths {
                body(TilePlan(queryLength: queryLength, keyLength: keyLength, mask: mask, sizes: sizes))
            }
        }
    }

    private func visited(_ plan: TilePlan) -> [TilePlan.Tile] {
        (0..<plan.queryTileCount).flatMap { i in plan.keyTiles(forQueryTile: i).map { plan.tile(i, $0) } }
    }

    @Test(arguments: masks, sizes)
    func visiblePair_isVisitedExactlyOnce(mask: AttentionMask, sizes: TileSizes) {
        forEachPlan(mask, sizes) { plan in
            var visits = [Int](repeating: 0, count: plan.queryLength * plan.keyLength)
            for tile in visited(plan) {
                for i in tile.queries { for j in tile.keys { visits[i * plan.keyLength + j] += 1 } }
            }
            let wrong = visits.indices.first {
                let seen = sees(plan, $0 / plan.keyLength, $0 % plan.keyLength)
                return seen ? visits[$0] != 1 : visits[$0] > 1
            }
            #expect(wrong == nil, "\(plan)")
        }
    }

    /// Parts cover what their tile shows, keep its laws, and are the tile itself unless it is masked.
    @Test(arguments: masks, sizes)
    func parts_coverTheVisiblePairsOfTheirTile(mask: AttentionMask, sizes: TileSizes) {
        forEachPlan(mask, sizes) { plan in
            for tile in visited(plan) {
                let parts = Array(plan.parts(of: tile, rows: 3))
                if tile.zone != .masked { #expect(parts == [tile], "\(plan)") }
                var covered = Set<[Int]>()
                for part in parts {
                    #expect(!part.keys.isEmpty && part.keys.lowerBound == tile.keys.lowerBound, "\(plan)")
                    let pairs = part.queries.flatMap { i in part.keys.map { [i, $0] } }
                    let hidden = pairs.contains { !sees(plan, $0[0], $0[1]) }
                    #expect(hidden == (part.zone == .masked), "\(plan)")
                    for pair in pairs { #expect(covered.insert(pair).inserted, "\(plan)") }
                }
                let visible = tile.queries.flatMap { i in tile.keys.map { [i, $0] } }
                    .filter { sees(plan, $0[0], $0[1]) }
                #expect(covered.isSuperset(of: visible), "\(plan)")
            }
        }
    }

    @Test(arguments: masks, sizes)
    func tile_staysWithinItsCellAndTheProblem(mask: AttentionMask, sizes: TileSizes) {
        forEachPlan(mask, sizes) { plan in
            for tile in visited(plan) {
                let rows = tile.queryTile * sizes.queries..<(tile.queryTile + 1) * sizes.queries
                let keys = tile.keyTile * sizes.keys..<(tile.keyTile + 1) * sizes.keys
                #expect(tile.queries == rows.clamped(to: 0..<plan.queryLength), "\(plan)")
                #expect(tile.keys.clamped(to: keys.clamped(to: 0..<plan.keyLength)) == tile.keys, "\(plan)")
            }
        }
    }

    @Test(arguments: masks, sizes)
    func tile_holdsNoKeyBeyondWhatItsRowsSee(mask: AttentionMask, sizes: TileSizes) {
        forEachPlan(mask, sizes) { plan in
            for tile in visited(plan) {
                #expect(!tile.queries.isEmpty && !tile.keys.isEmpty, "\(plan)")
                let last = tile.keys.upperBound - 1
                #expect(tile.queries.contains { sees(plan, $0, last) }, "\(plan) \(tile)")
            }
        }
    }

    @Test(arguments: masks, sizes)
    func zone_saysWhetherAnElementIsHidden(mask: AttentionMask, sizes: TileSizes) {
        forEachPlan(mask, sizes) { plan in
            for tile in visited(plan) {
                let hidden = tile.queries.contains { i in tile.keys.contains { !sees(plan, i, $0) } }
                let whole = tile.queries.count == sizes.queries && tile.keys.count == sizes.keys
                let expected: TilePlan.Zone = hidden ? .masked : whole ? .full : .edge
                #expect(tile.zone == expected, "\(plan) \(tile)")
            }
        }
    }

    @Test(arguments: masks, sizes)
    func queryTilesAndKeyTiles_areTransposes(mask: AttentionMask, sizes: TileSizes) {
        forEachPlan(mask, sizes) { plan in
            for i in 0..<plan.queryTileCount {
                for j in 0..<plan.keyTileCount {
                    let forward = plan.keyTiles(forQueryTile: i).contains(j)
                    let backward = plan.queryTiles(forKeyTile: j).contains(i)
                    #expect(forward == backward, "\(plan) i \(i) j \(j)")
                }
            }
        }
    }

    @Test(arguments: masks)
    func visibleRanges_agreeWithTheMask(mask: AttentionMask) {
        forEachPlan(mask, TileSizes(queries: 4, keys: 4)) { plan in
            for i in 0..<plan.queryLength {
                let seen = (0..<plan.keyLength).filter { sees(plan, i, $0) }
                #expect(Array(plan.visibleKeys(row: i)) == seen, "\(plan) row \(i)")
            }
            for j in 0..<plan.keyLength {
                let seeing = (0..<plan.queryLength).filter { sees(plan, $0, j) }
                #expect(Array(plan.visibleQueries(key: j)) == seeing, "\(plan) key \(j)")
            }
        }
    }

    @Test(arguments: masks)
    func visibleCount_isTheNumberOfVisiblePairs(mask: AttentionMask) {
        forEachPlan(mask, TileSizes(queries: 4, keys: 4)) { plan in
            var count = 0
            for i in 0..<plan.queryLength {
                for j in 0..<plan.keyLength where sees(plan, i, j) { count += 1 }
            }
            #expect(plan.visibleCount == count, "\(plan)")
        }
    }

    /// The heads of a group as rows next to each other: every row sees what its query sees alone, and the
    /// tiles of the taller matrix keep the laws.
    @Test(arguments: masks, [1, 2, 3, 8])
    func groupedRows_seeWhatTheirQueriesSee(mask: AttentionMask, groupSize: Int) {
        forEachPlan(mask, TileSizes(queries: 5, keys: 4)) { single in
            let plan = TilePlan(
                queryLength: single.queryLength, keyLength: single.keyLength, mask: mask, sizes: single.sizes,
                groupSize: groupSize)
            #expect(plan.visibleCount == groupSize * single.visibleCount, "\(plan)")
            var visits = [Int](repeating: 0, count: plan.rowCount * plan.keyLength)
            for tile in visited(plan) {
                for r in tile.queries { for j in tile.keys { visits[r * plan.keyLength + j] += 1 } }
                let hidden = tile.queries.contains { r in
                    tile.keys.contains { !sees(plan, r / groupSize, $0) }
                }
                #expect(hidden == (tile.zone == .masked), "\(plan) \(tile)")
            }
            for r in 0..<plan.rowCount {
                #expect(
                    plan.visibleKeys(row: r) == single.visibleKeys(row: r / groupSize), "\(plan) row \(r)")
                for j in plan.visibleKeys(row: r) where visits[r * plan.keyLength + j] != 1 {
                    Issue.record("\(plan) row \(r) key \(j)")
                }
            }
            for j in 0..<plan.keyLength {
                let seeing = (0..<plan.rowCount).filter { sees(plan, $0 / groupSize, j) }
                #expect(Array(plan.visibleQueries(key: j)) == seeing, "\(plan) key \(j)")
            }
        }
    }

    @Test func causalBottomRight_lastQuerySeesLastKey() {
        let plan = TilePlan(
            queryLength: 3, keyLength: 10, mask: .causal, sizes: TileSizes(queries: 2, keys: 4))
        #expect(plan.visibleKeys(row: 2) == 0..<10)
        #expect(plan.visibleKeys(row: 0) == 0..<8)
    }

    @Test func causalBottomRight_moreQueriesThanKeys_firstRowsSeeNothing() {
        let plan = TilePlan(
            queryLength: 10, keyLength: 3, mask: .causal, sizes: TileSizes(queries: 4, keys: 2))
        #expect(plan.visibleKeys(row: 6).isEmpty)
        #expect(plan.keyTiles(forQueryTile: 0).isEmpty)
        #expect(plan.visibleKeys(row: 7) == 0..<1)
    }
}
