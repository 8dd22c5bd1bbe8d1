import ArgumentParser
import FlashAttention
import SafeTensors

/// `fattn tune`: sweeps the tile sizes and shows the choice of the library against the best of them.
struct TuneCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tune",
        abstract: "Sweep the tile sizes of a problem and show the library's choice against the best found.",
        discussion: """
            Sizes are timed in turns, so that a slow spell of the machine falls on all of them. After each \
            round the slower half is out; the choice stays to the end. What is left gets --seconds each, and \
            its fastest runs are compared. Every size is checked against the FP64 oracle first.
            """)

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "A problem; may be given several times. Ten problems without it.",
            valueName: "B,H,Hkv,Nq,Nk,D[,Dv]"))
    var shape: [AttentionShape] = []
    @OptionGroup var cases: CaseOptions
    @Option(help: "Who multiplies the blocks.")
    var gemm: GEMMProvider = .simd
    @OptionGroup var workers: ThreadOptions
    @Option(
        help: ArgumentHelp(
            "Sizes to try beside the choice; may be given several times. A grid without it.",
            valueName: "Br,Bc"))
    var blockSize: [TileSizes] = []
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Time for each size that comes to the end.", valueName: "number"))
    var seconds = 0.8
    @Option(help: "Where to write the results, every size's, for programs.")
    var json: String?

    func run() throws {
        try checkEnvironment()
        try requireReleaseBuild("tune")
        try workers.check()
        try check(seconds: seconds)
        try check(shapes: shape)
        try requireAvailable(AttentionOptions(gemm: gemm, parallelRuntime: workers.parallel))
        let shapes = shape.isEmpty ? Self.defaultShapes : shape
        for (shape, type) in shapes.flatMap({ shape in cases.types.map { (shape, $0) } }) {
            try BenchProblem(shape: shape, type: type, file: nil).requireMemory()
        }
        if let json { try AtomicFile.checkWritable(json) }
        let threads = workers.threads ?? Processor.cores
        let progress = Progress()
        progress.show("measuring the machine")
        let machine = try BenchMachine(
            threads: threads, measuresDouble: cases.types.contains(.f64), measuresGPU: false)
        progress.clear()
        say(machine.summary)
        let table = TuneTable(shapes)
        say(table.header)
        let sweep = TuneSweep(candidates: blockSize, seconds: seconds, progress: progress)
        var results: [TuneResult] = []
        for row in rows(shapes, threads) {
            let result = try sweep.run(row, machine)
            results.append(result)
            say(table.line(result))
        }
        if let json { try writeWhole(try encodeJSON(TuneReport(machine: machine, rows: results)), to: json) }
        let failed = results.count { $0.failure != nil }
        if failed > 0 {
            throw CommandError.checkFailed("tune: \(failed) of \(results.count) problems failed")
        }
    }

    private func rows(_ shapes: [AttentionShape], _ threads: Int) -> [BenchRow] {
        let algorithms = cases.algorithms(or: [.flashAttention2])
        var rows: [BenchRow] = []
        for shape in shapes {
            for type in cases.types {
                for mask in cases.mask {
                    for pass in cases.passes {
                        rows += algorithms.map {
                            BenchRow(
                                shape: shape, type: type, pass: pass, mask: mask, device: .cpu,
                                algorithm: $0, gemm: gemm, threads: threads, parallel: workers.parallel)
                        }
                    }
                }
            }
        }
        return rows
    }

    /// From small to large: head sizes from 32 to 256, grouped heads, one head, few queries to many keys.
    static let defaultShapes = [
        AttentionShape(batch: 1, heads: 1, queryLength: 64, headSize: 64),
        AttentionShape(batch: 4, heads: 12, queryLength: 128, headSize: 32),
        AttentionShape(batch: 1, heads: 8, queryLength: 512, headSize: 64),
        AttentionShape(batch: 1, heads: 8, keyValueHeads: 2, queryLength: 1000, headSize: 80),
        AttentionShape(batch: 1, heads: 8, queryLength: 256, keyLength: 4096, headSize: 128),
        AttentionShape(batch: 1, heads: 8, queryLength: 2048, headSize: 64),
        AttentionShape(batch: 1, heads: 8, queryLength: 2048, headSize: 128),
        AttentionShape(batch: 1, heads: 4, queryLength: 2048, headSize: 256),
        AttentionShape(batch: 1, heads: 1, queryLength: 8192, headSize: 64),
        AttentionShape(batch: 1, heads: 8, keyValueHeads: 2, queryLength: 4096, headSize: 128),
    ]
}
