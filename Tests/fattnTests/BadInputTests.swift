import Foundation
import SafeTensors
import Testing

/// A file that `run` must refuse.
struct BadInput: Sendable, CustomTestStringConvertible {
    let name: String
    let tensors: @Sendable () -> [FileTensor]
    let options: [String]
    let words: [String]
    var testDescription: String { name }

    init(
        _ name: String, _ words: String..., options: [String] = [],
        tensors: @escaping @Sendable () -> [FileTensor]
    ) {
        (self.name, self.words, self.options, self.tensors) = (name, words, options, tensors)
    }
}

/// q, k and v of a small problem, with these shapes instead where they are given.
private func problem(
    q: [Int] = [2, 4, 3, 8], k: [Int] = [2, 2, 5, 8], v: [Int] = [2, 2, 5, 6], _ others: FileTensor...
) -> [FileTensor] {
    [FileTensor(zeros: "q", q), FileTensor(zeros: "k", k), FileTensor(zeros: "v", v)] + others
}

private let badInputs = [
    BadInput("no v", "tensor v", "got none") { Array(problem().dropLast()) },
    BadInput("q of three axes", "tensor q", "[B,H,N,D]", "[4,3,8]") { problem(q: [4, 3, 8]) },
    BadInput("q of very many axes", "tensor q", "[1,1,1,1,1,1,1,1,…]") {
        problem(q: Array(repeating: 1, count: 100_000))
    },
    BadInput("k of another batch", "tensor k", "B = 2", "[1,2,5,8]") { problem(k: [1, 2, 5, 8]) },
    BadInput("k of another head size", "tensor k", "D = 8", "[2,2,5,7]") { problem(k: [2, 2, 5, 7]) },
    BadInput("H not a multiple of Hkv", "tensor k", "divides H = 4", "[2,3,5,8]") {
        problem(k: [2, 3, 5, 8], v: [2, 3, 5, 6])
    },
    BadInput("Hkv of 0", "tensor k", "divides H = 4") { problem(k: [2, 0, 5, 8], v: [2, 0, 5, 6]) },
    BadInput("v of other heads", "tensor v", "Hkv = 2", "[2,4,5,6]") { problem(v: [2, 4, 5, 6]) },
    BadInput("v of another length", "tensor v", "Nk = 5", "[2,2,4,6]") { problem(v: [2, 2, 4, 6]) },
    BadInput("D of 0", "tensor q", "D of 1 or more", "[2,4,3,0]") {
        problem(q: [2, 4, 3, 0], k: [2, 2, 5, 0])
    },
    BadInput("Dv of 0", "tensor v", "Dv of 1 or more") { problem(v: [2, 2, 5, 0]) },
    BadInput("the other layout", "tensor k", "B = 2", options: ["--layout", "bnhd"]) {
        problem(k: [3, 5, 2, 8])
    },
    BadInput("k of another dtype", "tensor k", "dtype F32", "got F64") {
        [
            FileTensor(zeros: "q", [1, 1, 1, 1]), FileTensor(zeros: "k", [1, 1, 1, 1], .f64),
            FileTensor(zeros: "v", [1, 1, 1, 1]),
        ]
    },
    BadInput("k of F16 beside q of BF16", "tensor k", "dtype BF16", "got F16") {
        [
            FileTensor(zeros: "q", [1, 1, 1, 1], .bf16), FileTensor(zeros: "k", [1, 1, 1, 1], .f16),
            FileTensor(zeros: "v", [1, 1, 1, 1], .bf16),
        ]
    },
    BadInput("I32", "tensor q", "F64, F32, F16 or BF16", "I32") {
        ["q", "k", "v"].map { FileTensor(zeros: $0, [1, 1, 1, 1], .i32) }
    },
    BadInput("seqused_k of I64", "seqused_k", "I32", "I64") {
        problem(FileTensor("seqused_k", [2], [1, 1] as [Int64]))
    },
    BadInput("seqused_k of another length", "seqused_k", "[2]", "[3]") {
        problem(FileTensor("seqused_k", [3], [1, 1, 1] as [Int32]))
    },
    BadInput("seqused_k beyond Nk", "seqused_k", "0 to Nk = 5", "got 6") {
        problem(FileTensor("seqused_k", [2], [1, 6] as [Int32]))
    },
    BadInput("negative seqused_k", "seqused_k", "got -1") {
        problem(FileTensor("seqused_k", [2], [-1, 5] as [Int32]))
    },
    BadInput("no dout", "tensor dout", "got none", options: ["--backward"]) { problem() },
    BadInput("dout of another shape", "tensor dout", "[2,4,3,6]", "[2,4,3,8]", options: ["--backward"]) {
        problem(FileTensor(zeros: "dout", [2, 4, 3, 8]))
    },
]

private let laterTensors = [
    "bias", "mask", "alibi_slopes", "sinks", "cu_seqlens_q", "cu_seqlens_k", "block_table", "block_mask",
].map { name in
    BadInput("\(name), not there yet", "tensor \(name)", "not there yet") {
        problem(FileTensor(zeros: name, [1]))
    }
}

@Suite struct BadInputTests {
    private let old = Data("the old output".utf8)

    /// Runs, and checks that the output that was there before still is.
    private func refuse(
        _ tool: CommandLineTool, _ input: String, _ options: [String] = []
    ) throws -> Outcome {
        let output = tool.path("out.safetensors")
        try old.write(to: URL(fileURLWithPath: output))
        let before = tool.fileNames
        let outcome = try tool.run(["run", input, "--output", output] + options)
        #expect(FileManager.default.contents(atPath: output) == old)
        #expect(tool.fileNames == before)
        #expect(outcome.output.isEmpty)
        return outcome
    }

    @Test(arguments: badInputs + laterTensors)
    func badTensors_areRefusedByName(_ bad: BadInput) throws {
        let tool = try CommandLineTool()
        let outcome = try refuse(tool, try tool.write(bad.tensors()), bad.options)
        #expect(outcome.isFailure(65), "\(outcome)")
        for word in bad.words { #expect(outcome.error.contains(word), "\(outcome.error)") }
    }

    /// The parser has tests of its own; here, that its refusals reach the exit code.
    @Test(arguments: [
        ("truncated", "3000000000000000{\"q\":", "within the file"),
        ("oversized", "ffffffffffffff7f{}", "at most"),
        ("not JSON", "0500000000000000{oops", "JSON"),
        ("not an object", "0200000000000000[]", "starts with {"),
        (
            "beyond the file",
            "3c00000000000000{\"q\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}          ",
            "bytes of data"
        ),
        ("short", "00ff", "at least 8 bytes"),
        (
            "two shapes", "4400000000000000{\"q\":{\"shape\":[2],\"dtype\":\"F32\","
                + "\"data_offsets\":[0,8],\"shape\":[1,2]}}00000000", "got shape twice"
        ),
    ])
    func malformedFile_isRefused(_ name: String, _ contents: String, _ word: String) throws {
        let tool = try CommandLineTool()
        let digits = contents.prefix { $0.isHexDigit }
        var bytes = stride(from: 0, to: digits.count, by: 2).compactMap { at in
            UInt8(digits.dropFirst(at).prefix(2), radix: 16)
        }
        bytes += Array(contents.dropFirst(digits.count).utf8)
        try Data(bytes).write(to: URL(fileURLWithPath: tool.path("in")))
        let outcome = try refuse(tool, tool.path("in"))
        #expect(outcome.isFailure(65, saying: word), "\(outcome)")
    }

    @Test func missingOrUnreadableInput_is74() throws {
        let tool = try CommandLineTool()
        for input in [tool.path("none"), tool.directory.path] {
            let outcome = try refuse(tool, input)
            #expect(outcome.isFailure(74, saying: input), "\(outcome)")
        }
    }

    @Test func unwritableOutput_is74() throws {
        let tool = try CommandLineTool()
        let input = try tool.write(problem())
        for output in [tool.path("no/such/directory/out"), tool.directory.path, "/dev/null", "/proc/out", ""]
        {
            let outcome = try tool.run("run", input, "--output", output)
            #expect(outcome.isFailure(74, saying: "cannot write"), "\(outcome)")
        }
        #expect(tool.fileNames == ["in.safetensors"])
    }

    @Test func outputBeyondTheRoomThereIs_is74AndLeavesNothing() throws {
        let tool = try CommandLineTool()
        try old.write(to: URL(fileURLWithPath: tool.path("out")))
        let outcome = try tool.run(["run", CommandLineTool.sample, "--output", "out"], fileSizeLimit: 64)
        #expect(outcome.isFailure(74, saying: "out: cannot write"), "\(outcome)")
        #expect(tool.fileNames == ["out"])
        #expect(FileManager.default.contents(atPath: tool.path("out")) == old)
    }

    @Test func notFinite_passesThroughAsArithmeticHasIt() throws {
        let tool = try CommandLineTool()
        let input = try tool.write([
            FileTensor("q", [1, 1, 2, 1], [Float.nan, 1]), FileTensor("k", [1, 1, 1, 1], [Float(1)]),
            FileTensor("v", [1, 1, 1, 2], [Float.infinity, 3]),
        ])
        #expect(try tool.run("run", input, "--output", "out").code == 0)
        let out: [Float] = try read("out", tool.path("out"))
        #expect(out[0].isNaN && out[1].isNaN && out[2] == .infinity && out[3] == 3)
    }

    @Test func emptyProblems_work() throws {
        let tool = try CommandLineTool()
        for (q, k) in [
            ([0, 2, 3, 4], [0, 1, 5, 4]), ([1, 2, 0, 4], [1, 1, 5, 4]), ([1, 2, 3, 4], [1, 1, 0, 4]),
        ] {
            let input = try tool.write(
                problem(q: q, k: k, v: k, FileTensor(zeros: "dout", q)))
            let outcome = try tool.run("run", input, "--output", "out", "--backward")
            #expect(outcome.code == 0, "\(outcome)")
            let lse: [Float] = try read("lse", tool.path("out"))
            #expect(lse.allSatisfy { $0 == (k[2] == 0 ? -.infinity : lse[0]) })
        }
    }

    @Test func sameFileForInputAndOutput_works() throws {
        let tool = try CommandLineTool()
        let input = try tool.write(problem())
        #expect(try tool.run("run", input, "--output", input).code == 0)
        #expect(try SafeTensorsFile(path: input).tensors.keys.sorted() == ["lse", "out"])
    }
}
