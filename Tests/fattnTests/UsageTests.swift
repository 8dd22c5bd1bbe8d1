import FlashAttention
import Foundation
import Testing

@Suite struct UsageTests {
    @Test(arguments: [
        [], ["paint"], ["--paint"], ["run"], ["run", "in"], ["run", "in", "--output"],
        ["run", "in", "--output", "out", "--algorithm", "fa9"],
        ["run", "in", "--output", "out", "--gemm", "mkl"],
        ["run", "in", "--output", "out", "--layout", "dhnb"],
        ["run", "in", "--output", "out", "--causal-alignment", "middle"],
        ["run", "in", "--output", "out", "--scale", "much"],
        ["run", "in", "--output", "out", "--scale", "nan"],
        ["run", "in", "--output", "out", "--scale", "-inf"],
        ["run", CommandLineTool.sample, "--output", "out", "--scale", "3e38"],
        ["run", CommandLineTool.sample, "--output", "out", "--scale", "-2.4e38"],
        ["run", CommandLineTool.sample, "--output", "out", "--causal-alignment", "top-left"],
        ["bench", "--json", "rows", "--csv", "rows"], ["bench", "--json", "./rows", "--csv", "rows"],
        ["run", "in", "--output", "out", "--threads", "0"],
        ["run", "in", "--output", "out", "--block-size", "0,8"],
        ["run", "in", "--output", "out", "--block-size", "8"],
        ["run", "in", "--output", "out", "--window", "-1,0"],
        ["run", "in", "--output", "out", "--softcap", "30"],
        ["run", "in", "--output", "out", "--dropout", "0.1", "--seed", "3"],
        ["run", "in", "--output", "out", "--emit", "probabilities"],
        ["run", "in", "--output", "out", "--block-mask-size", "64"],
        ["bench", "--shape", "1,2,3"], ["bench", "--shape", "1,3,2,8,8,4"],
        ["bench", "--algorithm", "fa2,fa9"],
        ["bench", "--dtype", "bf15"], ["bench", "--seconds", "0"], ["bench", "--pass", "sideways"],
        ["bench", "--input", "x", "--shape", "1,1,1,1,1,1"], ["verify", "--case", "nonsense"],
        ["bench", "--parallel", "pthreads"], ["run", "in", "--output", "out", "--parallel", "pthreads"],
        ["tune", "--shape", "1,2,3"], ["tune", "--shape", "1,3,2,8,8,4"], ["tune", "--dtype", "f8"],
        ["tune", "--seconds", "0"], ["tune", "--pass", "sideways"], ["tune", "--threads", "0"],
        ["tune", "--block-size", "64"], ["tune", "--algorithm", "fa9"], ["tune", "--parallel", "tbb"],
        ["info", "extra"], ["bench", "--threads", "-1"], ["bench", "--shape", "-1,1,1,1,1,1"],
        ["bench", "--seconds", "-1"],
        ["run", "in", "--output", "out", "--threads", "-1"], ["tune", "--seconds", "-1"],
        ["bench", "--input", CommandLineTool.sample, "--dtype", "f16"],
    ])
    func wrongUsage_is64(_ arguments: [String]) throws {
        let tool = try CommandLineTool()
        let outcome = try tool.run(arguments)
        #expect(outcome.isFailure(64), "\(outcome)")
        #expect(outcome.output.isEmpty && tool.fileNames.isEmpty)
        // The option at fault is named.
        if let option = arguments.dropFirst().last(where: { $0.hasPrefix("--") && $0 != "--seed" }) {
            #expect(outcome.error.contains(option), "\(outcome.error)")
        }
    }

    /// Through a symbolic link, a relative path and a link to what is not there yet as well.
    @Test(arguments: [
        ["bench", "--input", "in", "--json", "in"], ["bench", "--input", "in", "--csv", "./in"],
        ["bench", "--input", "link", "--json", "in"], ["bench", "--json", "link", "--input", "in"],
        ["bench", "--json", "later", "--csv", "new"], ["bench", "--csv", "none", "--input", "none"],
    ])
    func resultInPlaceOfAnotherFile_isRefusedAndLeavesIt(_ arguments: [String]) throws {
        let tool = try CommandLineTool()
        let sample = try Data(contentsOf: URL(fileURLWithPath: CommandLineTool.sample))
        try sample.write(to: URL(fileURLWithPath: tool.path("in")))
        for (link, destination) in [("link", "in"), ("later", "new")] {
            try FileManager.default.createSymbolicLink(
                atPath: tool.path(link), withDestinationPath: destination)
        }
        let before = tool.fileNames
        let outcome = try tool.run(arguments)
        #expect(outcome.isFailure(64, saying: "expected another file"), "\(outcome)")
        for option in arguments where option.hasPrefix("--") {
            #expect(outcome.error.contains(option), "\(outcome.error)")
        }
        #expect(tool.fileNames == before && outcome.output.isEmpty)
        #expect(FileManager.default.contents(atPath: tool.path("in")) == sample)
    }

    @Test(
        .enabled(if: (try? MachineInfo.cudaDevices()) == nil, "a GPU is here"),
        arguments: [["run", "in", "--output", "out"], ["bench"], ["verify"]])
    func cudaWithoutAGPU_is69(_ arguments: [String]) throws {
        let outcome = try CommandLineTool().run(arguments + ["--device", "cuda"])
        #expect(outcome.isFailure(69, saying: "--device", "cuda"), "\(outcome)")
    }

    @Test(.enabled(if: (try? MachineInfo.cudaDevices()) == nil, "a GPU is here"))
    func caseOfCudaWithoutAGPU_is69() throws {
        let name = "forward/f32/fa2/simd/generic/1,1,1,1,1,1,1/cuda"
        let outcome = try CommandLineTool().run("verify", "--case", name)
        #expect(outcome.isFailure(69, saying: "CUDA"), "\(outcome)")
    }

    @Test func kernelsOfAnUnknownName_areWrongUsage() throws {
        let outcome = try CommandLineTool().run("info", environment: ["FATTN_KERNELS": "mmx"])
        #expect(outcome.isFailure(64, saying: "FATTN_KERNELS", "mmx", "generic"), "\(outcome)")
    }

    @Test func kernelsThatThisMachineDoesNotRun_are69() throws {
        #if arch(x86_64)
        let foreign = "neon"
        #else
        let foreign = "avx512"
        #endif
        for arguments in [
            ["info"], ["run", CommandLineTool.sample, "--output", "out"], ["bench"], ["verify"],
            ["tune"],
        ] {
            let outcome = try CommandLineTool().run(arguments, environment: ["FATTN_KERNELS": foreign])
            #expect(outcome.isFailure(69, saying: foreign), "\(outcome)")
        }
        let name = "forward/f32/fa2/simd/\(foreign)/1,1,1,1,1,1,1"
        let outcome = try CommandLineTool().run("verify", "--case", name)
        #expect(outcome.isFailure(69, saying: foreign), "\(outcome)")
    }

    @Test func genericKernels_areUsedWhenForced() throws {
        #if arch(x86_64)
        let outcome = try CommandLineTool().run("info", environment: ["FATTN_KERNELS": "generic"])
        #expect(outcome.code == 0 && outcome.output.contains("kernels    generic;"), "\(outcome)")
        #endif
    }

    @Test func openBLASThatIsMissing_is69AndSaysWhatToInstall() throws {
        let tool = try CommandLineTool()
        let info = try tool.run("info", "--json", "info.json")
        #expect(info.code == 0, "\(info)")
        let data = try Data(contentsOf: URL(fileURLWithPath: tool.path("info.json")))
        let report = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        let outcome = try tool.run("run", CommandLineTool.sample, "--output", "out", "--gemm", "openblas")
        if report["openblas"] is NSNull {
            #expect(outcome.isFailure(69, saying: "openblas", "install"), "\(outcome)")
        } else {
            #expect(outcome.code == 0, "\(outcome)")
        }
    }

    @Test(arguments: [["--help"], ["run", "--help"], ["help", "bench"], ["verify", "-h"]])
    func help_isNoError(_ arguments: [String]) throws {
        let outcome = try CommandLineTool().run(arguments, environment: ["FATTN_KERNELS": "mmx"])
        #expect(outcome.code == 0 && outcome.error.isEmpty && outcome.output.contains("USAGE"), "\(outcome)")
    }

    @Test func verify_endsWithTheCount() throws {
        let name = "forward/f32/fa2/simd/generic/1,2,1,5,7,3,4/causal"
        let outcome = try CommandLineTool().run("verify", "--case", name)
        #expect(outcome.code == 0, "\(outcome)")
        #expect(outcome.output.split(separator: "\n").last == "1 passed, 0 failed")
    }

    @Test(arguments: [
        ["bench", "--shape", "1,1,1,100000000000,1,64"], ["tune", "--shape", "1,1,1,1,100000000000,64"],
        ["verify", "--case", "forward/f32/fa2/simd/generic/1,1,1,100000000000,1,64,64"],
    ])
    func problemBeyondAllMemory_is69(_ arguments: [String]) throws {
        let outcome = try CommandLineTool().run(arguments)
        #expect(outcome.isFailure(69, saying: "100000000000", "memory"), "\(outcome)")
        #expect(outcome.output.isEmpty)
    }

    @Test func unwritableReport_is74BeforeTheWork() throws {
        for command in ["bench", "tune", "info"] {
            let outcome = try CommandLineTool().run(command, "--json", "/proc/none/bench.json")
            #expect(outcome.isFailure(74, saying: "/proc/none/bench.json"), "\(outcome)")
            #expect(outcome.output.isEmpty)
        }
    }
}
