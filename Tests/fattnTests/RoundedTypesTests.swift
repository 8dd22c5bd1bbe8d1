import FlashAttention
import Foundation
import SafeTensors
import Testing

/// F16 and BF16 end to end.
@Suite struct RoundedTypesTests {
    /// The sample rounded to the type and back, to be run in Float.
    private func inputs<Element: AttentionElement>(
        _ type: Element.Type, _ name: DataType
    ) throws -> (rounded: [FileTensor], wide: [FileTensor]) {
        var (rounded, wide): ([FileTensor], [FileTensor]) = ([], [])
        for (tensor, source) in [("q", "q"), ("k", "k"), ("v", "v"), ("dout", "q")] {
            let elements: [Float] = try read(source, CommandLineTool.sample)
            let values = elements.map { Element.rounding(Double($0)) }
            let shape = [2, 12, 128, 32]
            rounded.append(FileTensor(tensor, name, shape, values.withUnsafeBytes { Array($0) }))
            wide.append(FileTensor(tensor, shape, values.map { Double($0.widened) }))
        }
        return (rounded, wide)
    }

    private func check<Element: AttentionElement>(
        _ type: Element.Type, _ name: DataType, ulp: Double, _ algorithm: String
    ) throws {
        let tool = try CommandLineTool()
        let inputs = try inputs(type, name)
        let (rounded, wide) = (try tool.write(inputs.rounded, "a"), try tool.write(inputs.wide, "b"))
        for path in [rounded, wide] {
            let outcome = try tool.run(
                "run", path, "--output", path + ".out", "--backward", "--algorithm", algorithm)
            #expect(outcome.code == 0 && outcome.error.isEmpty, "\(outcome)")
        }
        let file = try SafeTensorsFile(path: rounded + ".out")
        for tensor in ["out", "dq", "dk", "dv"] {
            #expect(file.tensors[tensor]?.dataType == name)
            let result = try file.withBytes(of: tensor) { bytes in
                Array(bytes.bindMemory(to: Element.self)).map { Double($0.widened) }
            }
            let expected: [Double] = try read(tensor, wide + ".out")
            let largest = expected.map(abs).max() ?? 0
            let worst = zip(result, expected).map { abs($0 - $1) }.max() ?? .infinity
            // The logits go up to 46, and delta is that of the rounded O: 2.1 ulp were seen.
            #expect(worst <= 4 * ulp * largest, "\(tensor)")
        }
        #expect(file.tensors["lse"]?.dataType == .f32)
        let lse: [Float] = try read("lse", rounded + ".out")
        let expected: [Double] = try read("lse", wide + ".out")
        #expect(zip(lse, expected).allSatisfy { abs(Double($0) - $1) <= 1e-5 + 5e-6 * abs($1) })
    }

    @Test(arguments: ["naive", "online", "fa1", "fa2"])
    func bfloat16_isReadAndWritten(_ algorithm: String) throws {
        try check(BFloat16.self, .bf16, ulp: 0x1p-7, algorithm)
    }

    #if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
    @Test(arguments: ["naive", "online", "fa1", "fa2"])
    func float16_isReadAndWritten(_ algorithm: String) throws {
        try check(Float16.self, .f16, ulp: 0x1p-10, algorithm)
    }
    #endif
}
