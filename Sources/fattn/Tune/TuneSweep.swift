import AttentionVerification
import FlashAttention

/// Times the tile sizes of one problem against each other.
struct TuneSweep {
    /// What to try beside the choice; a grid if empty.
    let candidates: [TileSizes]
    let seconds: Double
    let progress: Progress

    /// Br and Bc up to eight panels of the widest kernels; Br in multiples of their register rows too.
    private static let grid = [32, 64, 96, 128, 192, 256, 384].flatMap { queries in
        [32, 64, 128, 256, 384, 512, 1024].map { TileSizes(queries: queries, keys: $0) }
    }
    /// Sizes that come to the end, besides the choice.
    private static let finalists = 3

    /// - Parameters:
    ///   - row: the problem, without sizes.
    func run(_ row: BenchRow, _ machine: BenchMachine) throws -> TuneResult {
        let problem = BenchProblem(shape: row.shape, type: row.type, file: nil)
        switch row.type {
        case .f64: return try run(row, BenchInputs<Double>(problem), problem, machine)
        case .f32: return try run(row, BenchInputs<Float>(problem), problem, machine)
        case .bf16: return try run(row, BenchInputs<BFloat16>(problem), problem, machine)
        case .f16:
            #if (os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64)
            throw CommandError.usage("--dtype: expected another type on this platform, got f16")
            #else
            return try run(row, BenchInputs<Float16>(problem), problem, machine)
            #endif
        }
    }

    private func run<Element: FileElement>(
        _ row: BenchRow, _ inputs: BenchInputs<Element>, _ problem: BenchProblem, _ machine: BenchMachine
    ) throws -> TuneResult {
        let check = BenchCheck(inputs, problem, row.mask)
        let results = BenchResults<Element>()
        func prepared(_ sizes: TileSizes?) -> BenchCase<Element> {
            var row = row
            row.tiles = sizes
            let benchCase = BenchCase(row, inputs, check, results: results)
            progress.show("checking \(benchCase.name)")
            benchCase.prepare()
            return benchCase
        }
        let choice = prepared(nil)
        let others = sizes(beside: choice.row.tiles, row.shape).map { prepared($0) }
        try machine.measureAgain()
        let areRight = ([choice] + others).allSatisfy { $0.row.failure == nil }
        let finalists = areRight ? race(choice, others) : []
        try machine.measureAgain()
        progress.clear()
        for benchCase in [choice] + others { benchCase.sortTimes() }
        return TuneResult(
            choice: choice.row.against(machine), finalists: finalists.map { $0.row.against(machine) },
            others: others.map { $0.row.against(machine) })
    }

    /// What is left of the candidates when sizes beyond the problem's are taken for what they are, without
    /// the choice.
    private func sizes(beside choice: TileSizes?, _ shape: AttentionShape) -> [TileSizes] {
        var known = Set([choice.map { $0.within(shape) }])
        return (candidates.isEmpty ? Self.grid : candidates).map { $0.within(shape) }
            .filter { known.insert($0).inserted }
    }

    /// Turns for all, of which the slower half goes, until few are left. Those have their time and are
    /// returned.
    private func race<Element>(
        _ choice: BenchCase<Element>, _ others: [BenchCase<Element>]
    ) -> [BenchCase<Element>] {
        var others = others
        let turn = max(seconds / 8, 0.005)
        func fastest(_ benchCase: BenchCase<Element>) -> Double { benchCase.row.times.min() ?? .infinity }
        func takeTurns() {
            for benchCase in ([choice] + others).shuffled() {
                progress.show("timing \(benchCase.name)")
                benchCase.runFor(turn)
            }
        }
        repeat {
            takeTurns()
            others.sort { fastest($0) < fastest($1) }
            others = Array(others.prefix(max(Self.finalists, (others.count + 1) / 2)))
        } while others.count > Self.finalists
        while ([choice] + others).contains(where: { $0.row.failure == nil && !isDone($0) }) { takeTurns() }
        return others
    }

    /// Its time, and four runs at least.
    private func isDone<Element>(_ benchCase: BenchCase<Element>) -> Bool {
        benchCase.spent >= seconds && benchCase.row.times.count >= 4
    }
}

extension TileSizes {
    /// Tiles no larger than what there is of rows, of a whole group where its heads share them, and keys.
    fileprivate func within(_ shape: AttentionShape) -> TileSizes {
        TileSizes(
            queries: min(queries, max(shape.queryLength * shape.groupSize, 1)),
            keys: min(keys, max(shape.keyLength, 1)))
    }
}
