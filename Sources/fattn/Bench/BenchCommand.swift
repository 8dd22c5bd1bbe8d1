import ArgumentParser
import AttentionVerification
import FlashAttention
import Foundation
import SafeTensors

/// `fattn bench`: checks and times every algorithm.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Time the algorithms, each case checked against the FP64 oracle first.",
        discussion: """
            Lists are separated by commas; by default every value there is, on the CPU and in f32 or the \
            file's type. GFLOP/s count 2·B·H·Nq·Nk·(D+Dv) operations forward, half of it when causal, and \
            2.5 times as many backward; the backward pass is timed alone. The peak is that of multiply-adds \
            in registers, measured before and after each group of cases; a row shows its share of the best \
            so far, --json of the best of all. On a GPU the operands are there already, times are by its own \
            clock, and the peak of f16 and bf16 is that of the tensor cores; copies to and from it have \
            columns of their own, and so has the time until a call returns.
            """)

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "A problem; may be given several times. A default set without it.",
            valueName: "B,H,Hkv,Nq,Nk,D[,Dv]"))
    var shape: [AttentionShape] = []
    @OptionGroup var cases: CaseOptions
    @Option(help: ArgumentHelp("cpu, cuda.", valueName: "list"), transform: { try list($0) as [Device] })
    var device: [Device] = [.cpu]
    @Option(
        help: ArgumentHelp("simd, openblas.", valueName: "list"),
        transform: { try list($0) as [GEMMProvider] })
    var gemm: [GEMMProvider] = []
    @OptionGroup var workers: ThreadOptions
    @Option(parsing: .unconditional, help: ArgumentHelp("Time for each case.", valueName: "number"))
    var seconds = 0.8
    @Option(help: "A safetensors file whose q, k, v and seqused_k are taken instead of random ones.")
    var input: String?
    @Option(help: "Where to write the results for programs.")
    var json: String?
    @Option(help: "Where to write the rows as a table for programs.")
    var csv: String?

    func run() throws {
        try checkEnvironment()
        try check()
        let providers = try providers()
        let threads = workers.threads ?? Processor.cores
        let problems = try problems()
        if device.contains(.cuda), problems.contains(where: { $0.type == .f64 }) {
            throw CommandError.usage("--dtype: expected f32, f16 or bf16 on cuda, got f64")
        }
        for problem in problems { try problem.requireMemory() }
        for path in [json, csv].compactMap({ $0 }) { try AtomicFile.checkWritable(path) }
        let progress = Progress()
        progress.show("measuring the machine")
        let machine = try BenchMachine(
            threads: threads, measuresDouble: problems.contains { $0.type == .f64 },
            measuresGPU: device.contains(.cuda))
        progress.clear()
        say(machine.summary)
        let bench = Bench(
            devices: device, algorithms: cases.algorithms(or: AttentionAlgorithm.allCases),
            providers: providers, passes: cases.passes, masks: cases.mask, threads: threads,
            parallel: workers.parallel, seconds: seconds, machine: machine, progress: progress)
        let table = BenchTable(problems.map(\.shape), device)
        say(table.header)
        var rows: [BenchRow] = []
        for problem in problems {
            try bench.run(problem) { row in
                rows.append(row)
                say(table.line(row))
            }
        }
        let report = BenchReport(machine: machine, rows: rows)
        if let json { try writeWhole(report.json(), to: json) }
        if let csv { try writeWhole(report.csv, to: csv) }
        let failed = rows.count { $0.failure != nil }
        if failed > 0 { throw CommandError.checkFailed("bench: \(failed) of \(rows.count) cases failed") }
    }

    private func check() throws {
        try requireReleaseBuild("bench")
        for device in device { try device.require() }
        try workers.check()
        try requireAvailable(AttentionOptions(parallelRuntime: workers.parallel))
        try fattn.check(seconds: seconds)
        try fattn.check(shapes: shape)
        guard input == nil || shape.isEmpty else {
            throw CommandError.usage(
                "--shape: expected none beside --input, whose tensors have one, got some")
        }
        try checkFiles(read: ["--input": input], written: ["--json": json, "--csv": csv])
    }

    /// The providers asked for, or those that are there.
    private func providers() throws -> [GEMMProvider] {
        guard gemm.isEmpty else {
            for provider in gemm { try requireAvailable(AttentionOptions(gemm: provider)) }
            return gemm
        }
        return VerificationMachine.current.providers
    }

    private func problems() throws -> [BenchProblem] {
        guard let input else {
            let shapes = shape.isEmpty ? Self.defaultShapes : shape
            return shapes.flatMap { shape in
                cases.types.map { BenchProblem(shape: shape, type: $0, file: nil) }
            }
        }
        let file = try SafeTensorsFile(path: input)
        var problem: BenchProblem?
        try withElementType(of: file) { type in problem = try BenchProblem(file, type) }
        if let problem, !cases.dtype.isEmpty, cases.dtype != [problem.type] {
            throw CommandError.usage(
                "--dtype: expected \(problem.type.rawValue), that of \(input), "
                    + "got \(cases.dtype.map(\.rawValue).joined(separator: ","))")
        }
        return problem.map { [$0] } ?? []
    }

    /// Two long problems with the usual head sizes, and the small one of a sentence encoder.
    private static let defaultShapes = [
        AttentionShape(batch: 1, heads: 8, queryLength: 2048, headSize: 128),
        AttentionShape(batch: 1, heads: 8, queryLength: 2048, headSize: 64),
        AttentionShape(batch: 4, heads: 12, queryLength: 128, headSize: 32),
    ]
}

/// Writes a text file whole or not at all.
func writeWhole(_ text: String, to path: String) throws {
    let file = try AtomicFile(path: path)
    try file.write(text)
    try file.commit()
}
