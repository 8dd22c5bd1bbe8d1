import AttentionCUDA
import AttentionCore
import CTileABI
import Testing

/// What a problem launches; needs no GPU.
@Suite struct LaunchTableTests {
    private func problem(
        _ algorithm: AttentionAlgorithm = .flashAttention2, format: KernelFormat = .bf16,
        headSize: Int = 64, valueHeadSize: Int? = nil, queryLength: Int = 100, keyLength: Int = 300,
        batch: Int = 3, heads: Int = 8, keyValueHeads: Int = 2, deterministic: Bool = false
    ) -> LaunchProblem {
        LaunchProblem(
            shape: AttentionShape(
                batch: batch, heads: heads, keyValueHeads: keyValueHeads, queryLength: queryLength,
                keyLength: keyLength, headSize: headSize, valueHeadSize: valueHeadSize),
            mask: .causal, softmaxScale: 0.125, algorithm: algorithm, format: format,
            deterministic: deterministic, multiprocessorCount: 132)
    }

    @Test(arguments: [
        (1, 1, 32), (32, 32, 32), (33, 8, 64), (8, 80, 96), (128, 128, 128), (129, 3, 192), (199, 256, 256),
    ])
    func bucket_holdsBothHeadSizes(_ headSize: Int, _ valueHeadSize: Int, _ bucket: Int) {
        #expect(problem(headSize: headSize, valueHeadSize: valueHeadSize).bucket == bucket)
    }

    @Test func headsAbove256_areRefusedByName() throws {
        let refusal = try #require(problem(headSize: 64, valueHeadSize: 257).refusal)
        #expect(refusal.contains("Dv = 257"))
        #expect(problem().refusal == nil)
    }

    @Test func sizesBeyondAGrid_areRefusedByName() throws {
        let giant = problem(.naive, queryLength: 1 << 24, keyLength: 1 << 24, heads: 21_845, keyValueHeads: 1)
        #expect(try #require(giant.refusal).contains("2^48 scores"))
        let empty = problem(queryLength: 1, heads: 0, keyValueHeads: 1 << 40)
        #expect(try #require(empty.refusal).contains("65535"))
        #expect(try #require(problem(keyLength: 1 << 25).refusal).contains("lengths"))
    }

    @Test func deterministicMode_hasNoSumOfQueryGradients() {
        let names = problem(deterministic: true).backwardSteps.map(\.name)
        #expect(names.last == "fa2_backward_query_bf16_d64")
        #expect(WorkingMemory(problem(deterministic: true), .backward).gradientSum == 0)
        #expect(WorkingMemory(problem(), .backward).gradientSum == 3 * 8 * 128 * 64)
    }

    @Test func backwardInF32_hasTheStepsOf16Bits() {
        func names(deterministic: Bool) -> [String] {
            problem(format: .f32, queryLength: 4096, keyLength: 4096, deterministic: deterministic)
                .backwardSteps.map(\.name)
        }
        let first = ["fa2_backward_prepare_f32_d64", "fa2_backward_f32_d64"]
        #expect(names(deterministic: false) == first + ["fa2_backward_finish_f32_d64"])
        #expect(names(deterministic: true) == first + ["fa2_backward_query_f32_d64"])
    }

    /// The others sum dP in the order in which that kernel sums delta.
    @Test(arguments: [AttentionAlgorithm.naive, .onlineSoftmax, .flashAttention1])
    func backwardInF32WithExactProducts_sumsDeltaInOrder(_ algorithm: AttentionAlgorithm) {
        #expect(problem(algorithm, format: .f32).backwardSteps.first?.name == "naive_backward_prepare_f32")
        #expect(problem(algorithm).backwardSteps.first?.name == "fa2_backward_prepare_bf16_d64")
    }

    @Test func smallProblemsInF32_takeSmallTiles() {
        let small = problem(format: .f32, queryLength: 64, keyLength: 64, heads: 2)
        #expect(small.forwardSteps.map(\.name) == ["fa2_forward_small_f32_d64"])
        #expect(small.backwardSteps[1].name == "fa2_backward_small_f32_d64")
        #expect(!problem(queryLength: 64, keyLength: 64, heads: 2).isSmall(.forward))
        let large = problem(format: .f32, queryLength: 4096, keyLength: 4096)
        #expect(!large.isSmall(.forward) && !large.isSmall(.backward))
    }

    @Test func fewQueriesOverManyKeys_splitTheKeys() {
        for format in [KernelFormat.bf16, .f16, .f32] {
            let names = problem(format: format, queryLength: 1, keyLength: 16384).forwardSteps.map(\.name)
            #expect(names == ["split_forward_\(format.rawValue)_d64", "split_merge_\(format.rawValue)"])
        }
        #expect(problem().splits == nil)
        #expect(problem(queryLength: 5, keyLength: 16384).splits == nil)
        #expect(problem(queryLength: 1, keyLength: 511).splits == nil)
    }

    /// As many ranges as keep at least fifteen of sixteen processors (132) busy, each of 256 keys or more.
    @Test(arguments: [
        (8, 16384, 16), (64, 16384, 2), (128, 16384, 1), (1024, 16384, 1), (1, 1 << 20, 124), (100, 16384, 5),
        (8, 2048, 8), (140, 512, 2),
    ])
    func splits_fillTheProcessors(_ heads: Int, _ keys: Int, _ expected: Int) {
        let problem = problem(
            queryLength: 1, keyLength: keys, batch: 1, heads: 4 * heads, keyValueHeads: heads)
        #expect(problem.splits == expected)
        #expect(problem.forwardSteps.first?.grid == .fixed(Grid(expected, heads, 1)))
    }

    @Test(arguments: [
        (128, 1 << 20, 16), (128, 3 << 19, 16), (128, 16 << 20, 1), (7, 5 << 20, 3), (6, 4 << 20, 6),
        (0, 1, 1),
    ])
    func headsAtOnce_areEvenGroupsThatFit(_ pairs: Int, _ pairBytes: Int, _ expected: Int) {
        var step = problem().forwardSteps[0]
        step.pairs = pairs
        step.pairBytes = pairBytes
        #expect(step.pairsAtOnce(.causal) == expected)
        #expect(step.pairsAtOnce(.full) == 1)
    }

    @Test func headsInF32_areAllAtOnce() {
        func pairs(_ format: KernelFormat, _ headSize: Int, _ pass: AttentionPass) -> Int {
            let p = problem(
                format: format, headSize: headSize, queryLength: 1 << 16, keyLength: 1 << 16,
                keyValueHeads: 8)
            let main = pass == .forward ? p.forwardSteps[0] : p.backwardSteps[1]
            return main.pairsAtOnce(.causal)
        }
        for pass in [AttentionPass.forward, .backward] {
            #expect(pairs(.f32, 256, pass) == 24)
            #expect(pairs(.bf16, 64, pass) < 24)
        }
    }

    @Test func grids_coverEveryTile() {
        let geometry = TileKernelGeometry(threads: 128, sharedBytes: 0, queryTile: 64, keyTile: 128)
        #expect(GridRule.queryTiles(rows: 65, heads: 3).grid(geometry) == Grid(6))
        #expect(GridRule.keyTiles(keys: 128, heads: 3).grid(geometry) == Grid(3))
        #expect(GridRule.rows(64, heads: 3).grid(geometry) == Grid(1, 3))
        #expect(GridRule.tiles(129, 1, heads: 2).grid(geometry) == Grid(2, 1, 2))
    }

    @Test func parameters_sayWhenCopiesMayBeVectors() {
        let tensor = DeviceTensorView(
            address: 256, strides: TensorStrides(batch: 6400, head: 640, row: 64))
        var odd = tensor
        odd.strides.row = 65
        func launch(_ key: DeviceTensorView) -> AttentionLaunch {
            AttentionLaunch(
                problem(),
                DeviceOperands(
                    query: tensor, key: key, value: tensor, output: tensor, logSumExp: 512, keyLengths: 0))
        }
        #expect(launch(tensor).vectorised == 1)
        #expect(launch(odd).vectorised == 0)
        // As an axis of one entry may have it.
        odd.strides = TensorStrides(batch: .max - 15, head: 1 << 62, row: 64)
        #expect(launch(odd).vectorised == 1)
        #expect(launch(tensor).groupSize == 4)
        #expect(launch(tensor).mask == Int32(TileMaskCausalBottomRight))
    }

    @Test(.enabled(if: KernelModule.areEmbedded)) func everyModule_isAFatBinary() {
        for module in KernelModule.allCases {
            let image = module.deviceCode
            // The magic number of a fat binary.
            #expect(image.prefix(4) == [0x50, 0xed, 0x55, 0xba], "\(module)")
            #expect(image.count > 10_000)
        }
    }
}
