import AttentionCore
import Testing

@Suite("WorkCount")
struct WorkCountTests {
    private let square = AttentionShape(batch: 2, heads: 8, queryLength: 256, headSize: 64)

    @Test func flops_followTheConventionOfTheField() {
        let full = WorkCount.flops(square, mask: .full, pass: .forward)
        #expect(full == 4 * 2 * 8 * 256 * 256 * 64)
        #expect(WorkCount.flops(square, mask: .causal, pass: .forward) == full / 2)
        #expect(WorkCount.flops(square, mask: .full, pass: .backward) == 2.5 * full)
    }

    @Test func flops_countVisiblePairsWhereTheProblemIsNoSquare() {
        let shape = AttentionShape(
            batch: 1, heads: 1, queryLength: 2, keyLength: 5, headSize: 3, valueHeadSize: 7)
        // Rows see 4 and 5 keys.
        #expect(WorkCount.flops(shape, mask: .causal, pass: .forward) == 2 * 9 * (3 + 7))
        #expect(WorkCount.flops(shape, mask: .causal, pass: .forward, keyLengths: [1]) == 2 * 1 * (3 + 7))
        #expect(WorkCount.flops(shape, mask: .full, pass: .forward, keyLengths: [0]) == 0)
    }

    private func traffic(
        _ algorithm: AttentionAlgorithm, _ pass: AttentionPass, _ mask: AttentionMask = .full,
        sizes: TileSizes = TileSizes(queries: 64, keys: 64)
    ) -> Int {
        WorkCount.trafficBytes(
            square, mask: mask, pass: pass, algorithm: algorithm, sizes: sizes, scalarSize: 4)
    }

    @Test(arguments: AttentionPass.allCases)
    func flashAttention2_movesLessThanFlashAttention1_andThatLessThanNaive(pass: AttentionPass) {
        #expect(traffic(.flashAttention2, pass) < traffic(.flashAttention1, pass))
        #expect(traffic(.flashAttention1, pass) < traffic(.naive, pass))
    }

    @Test(arguments: [AttentionAlgorithm.flashAttention1, .flashAttention2])
    func largerTiles_moveLess(algorithm: AttentionAlgorithm) {
        let small = traffic(algorithm, .forward, sizes: TileSizes(queries: 32, keys: 32))
        let large = traffic(algorithm, .forward, sizes: TileSizes(queries: 128, keys: 128))
        #expect(large < small)
    }

    @Test(arguments: AttentionAlgorithm.allCases, AttentionPass.allCases)
    func causalMask_movesLess(algorithm: AttentionAlgorithm, pass: AttentionPass) {
        #expect(traffic(algorithm, pass, .causal) < traffic(algorithm, pass))
    }

    @Test func flashAttention2_forwardOfOneTile_readsAndWritesEachOperandOnce() {
        let shape = AttentionShape(
            batch: 1, heads: 1, queryLength: 20, keyLength: 32, headSize: 4, valueHeadSize: 6)
        let bytes = WorkCount.trafficBytes(
            shape, mask: .full, pass: .forward, algorithm: .flashAttention2,
            sizes: TileSizes(queries: 20, keys: 32), scalarSize: 8)
        let elements = 20 * 4 + 32 * 4 + 32 * 6 + 20 * 6
        // Q, K, V and O, and the lse, one number a row.
        #expect(bytes == 8 * (elements + 20))
    }

    @Test(arguments: AttentionAlgorithm.allCases, AttentionPass.allCases)
    func noQueryHeads_areNoWork(algorithm: AttentionAlgorithm, pass: AttentionPass) {
        let shape = AttentionShape(
            batch: 1, heads: 0, keyValueHeads: 2, queryLength: 8, keyLength: 32, headSize: 4)
        #expect(WorkCount.flops(shape, mask: .full, pass: pass) == 0)
        let bytes = WorkCount.trafficBytes(
            shape, mask: .full, pass: pass, algorithm: algorithm, sizes: TileSizes(queries: 8, keys: 8),
            scalarSize: 4)
        // What is left is K, V and their gradients.
        #expect(bytes <= 4 * 4 * 2 * 32 * 4)
    }

    @Test func splitKeys_readKeysAndValuesOnceForTheWholeGroup() {
        let shape = AttentionShape(
            batch: 2, heads: 8, keyValueHeads: 2, queryLength: 1, keyLength: 96, headSize: 4,
            valueHeadSize: 6)
        let bytes = WorkCount.trafficBytes(
            shape, mask: .causal, pass: .forward, algorithm: .flashAttention2,
            sizes: TileSizes(queries: 16, keys: 8), scalarSize: 4, keyLengths: [96, 40])
        // Splits of four tiles: three of 96 keys, two of 40. For each: Q in; O, l and m out and in.
        let splits = 4 * (3 + 2) * (4 + 2 * (6 + 2))
        #expect(bytes == 4 * 2 * ((96 + 40) * (4 + 6) + splits + 2 * 4 * (6 + 1)))
    }
}
