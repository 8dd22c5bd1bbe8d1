import Foundation
import SafeTensors
import Testing

/// The sample of real text, end to end.
@Suite struct SampleTests {
    @Test(
        arguments: ["naive", "online", "fa1", "fa2"], [["--threads", "1"], ["--block-size", "17,29"], []])
    func forward_agreesWithTheFloat64Answer(_ algorithm: String, _ options: [String]) throws {
        let tool = try CommandLineTool()
        let output = tool.path("out.safetensors")
        let outcome = try tool.run(
            ["run", CommandLineTool.sample, "--output", output, "--algorithm", algorithm] + options)
        #expect(outcome.code == 0 && outcome.error.isEmpty && outcome.output.isEmpty, "\(outcome)")
        let file = try SafeTensorsFile(path: output)
        #expect(file.tensors.mapValues(\.shape) == ["out": [2, 12, 128, 32], "lse": [2, 12, 128]])
        expectClose(try read("out", output), try read("out64", CommandLineTool.sample))
        expectClose(try read("lse", output), try read("lse64", CommandLineTool.sample))
        #expect(tool.fileNames == ["out.safetensors"])
    }

    @Test func paddedKeys_leakNowhere() throws {
        let tool = try CommandLineTool()
        var inputs = try sampleTensors()
        let gradient = (0..<98304).map { (index: Int) -> Float in Float(index % 13) / 13 - 0.4 }
        inputs.append(FileTensor("dout", [2, 12, 128, 32], gradient))
        let clean = try tool.write(inputs, "clean.safetensors")
        let poisoned = try tool.write(inputs.map(poison), "poisoned.safetensors")
        for path in [clean, poisoned] {
            let outcome = try tool.run("run", path, "--output", path + ".out", "--backward")
            #expect(outcome.code == 0, "\(outcome)")
        }
        for name in ["out", "lse", "dq", "dk", "dv"] {
            let expected: [Float] = try read(name, clean + ".out")
            #expect(expected.allSatisfy { $0.isFinite }, "\(name)")
            #expect(try read(name, poisoned + ".out") == expected, "\(name)")
        }
    }

    @Test func layouts_giveTheSameNumbers() throws {
        let tool = try CommandLineTool()
        let transposed = try sampleTensors().map { tensor -> FileTensor in
            guard tensor.shape.count == 4 else { return tensor }
            return FileTensor(
                tensor.name, [2, 128, 12, 32], swapAxes(try read(tensor.name, CommandLineTool.sample)))
        }
        let input = try tool.write(transposed)
        let outcome = try tool.run("run", input, "--output", "out", "--layout", "bnhd")
        #expect(outcome.code == 0, "\(outcome)")
        #expect(try tool.run("run", CommandLineTool.sample, "--output", "plain").code == 0)
        #expect(try SafeTensorsFile(path: tool.path("out")).tensors["out"]?.shape == [2, 128, 12, 32])
        let plain: [Float] = try read("out", tool.path("plain"))
        #expect(try read("out", tool.path("out")) == swapAxes(plain))
        #expect(try read("lse", tool.path("out"), as: Float.self) == read("lse", tool.path("plain")))
    }

    @Test func bench_timesTheSample() throws {
        let tool = try CommandLineTool()
        let outcome = try tool.run(
            "bench", "--input", CommandLineTool.sample, "--seconds", "0.01", "--algorithm", "fa2", "--gemm",
            "simd",
            "--json", "bench.json", "--csv", "bench.csv")
        #expect(outcome.code == 0, "\(outcome)")
        let data = try Data(contentsOf: URL(fileURLWithPath: tool.path("bench.json")))
        let report = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        let machine = try #require(report["machine"] as? [String: Any])
        for key in [
            "cpu", "cores", "isa", "kernels", "fma_peak_gflops_f32", "bf16_peak_gflops", "memory_gbps",
            "openblas",
            "gpu", "gpu_gemm_tflops",
        ] { #expect(machine.keys.contains(key), "\(key)") }
        let rows = try #require(report["rows"] as? [[String: Any]])
        #expect(rows.count == 4)
        let names = [
            "device", "algorithm", "gemm", "dtype", "pass", "mask", "B", "H", "Hkv", "Nq", "Nk", "D", "Dv",
            "threads",
            "Br", "Bc", "median_s", "min_s", "runs", "gflops", "peak_fraction", "max_abs_error", "rmse",
            "extra_bytes", "traffic_bytes",
        ]
        for row in rows {
            for name in names { #expect(row[name] != nil && !(row[name] is NSNull), "\(name)") }
        }
        let csv = try String(contentsOfFile: tool.path("bench.csv"), encoding: .utf8).split(separator: "\n")
        #expect(csv.count == 5 && csv[0].hasPrefix(names.joined(separator: ",")))
    }

    private func sampleTensors() throws -> [FileTensor] {
        try ["q", "k", "v"].map {
            FileTensor($0, [2, 12, 128, 32], try read($0, CommandLineTool.sample, as: Float.self))
        } + [FileTensor("seqused_k", [2], try read("seqused_k", CommandLineTool.sample, as: Int32.self))]
    }

    /// NaN and infinity in the keys and values that do not exist.
    private func poison(_ tensor: FileTensor) throws -> FileTensor {
        guard ["k", "v"].contains(tensor.name) else { return tensor }
        let lengths: [Int32] = try read("seqused_k", CommandLineTool.sample)
        var elements: [Float] = try read(tensor.name, CommandLineTool.sample)
        for index in elements.indices where index / 32 % 128 >= Int(lengths[index / 32 / 128 / 12]) {
            elements[index] = index % 2 == 0 ? .nan : .infinity
        }
        return FileTensor(tensor.name, tensor.shape, elements)
    }

    /// `[2,12,128,32]` to `[2,128,12,32]`.
    private func swapAxes(_ x: [Float]) -> [Float] {
        (0..<x.count).map { index in
            let (d, h, n, b) = (index % 32, index / 32 % 12, index / 32 / 12 % 128, index / 32 / 12 / 128)
            return x[((b * 12 + h) * 128 + n) * 32 + d]
        }
    }

    private func expectClose(_ x: [Float], _ reference: [Double]) {
        #expect(x.count == reference.count)
        let worst = zip(x, reference).map { abs(Double($0) - $1) / (1e-5 + 5e-6 * abs($1)) }.max() ?? 0
        #expect(worst <= 1)
    }
}
