import FlashAttention

/// The machine that a table of times belongs to, its ceilings measured in the same run.
final class BenchMachine: Encodable {
    let cpu = Processor.model
    let cores = Processor.cores
    let threads: Int
    let isa = Processor.instructionSets
    let operatingSystem = Processor.operatingSystem
    let kernels: String
    /// GFLOP/s of multiply-adds in registers, with the threads in use: the best seen in this run.
    private var peakFloat: Double
    private var peakDouble: Double?
    /// Of the dot product of pairs of BF16; nil where there is none.
    private var peakBFloat16: Double?
    /// GB/s of reading, with the threads in use: the best seen in this run.
    private(set) var memoryBandwidth: Double
    let openBLAS: String?

    init(threads: Int, measuresDouble: Bool) throws {
        let kernels = try MachineInfo.defaultKernels()
        self.threads = threads
        self.kernels = kernels.rawValue
        peakFloat = try MachineInfo.multiplyAddPeak(threads: threads, kernels: kernels, double: false)
        peakDouble =
            measuresDouble
            ? try MachineInfo.multiplyAddPeak(threads: threads, kernels: kernels, double: true) : nil
        peakBFloat16 = try MachineInfo.bfloat16Peak(threads: threads, kernels: kernels)
        memoryBandwidth = try MachineInfo.memoryBandwidth(threads: threads)
        openBLAS = MachineInfo.openBLAS.map { "\($0.version) as \($0.core)" }
    }

    /// Measures the ceilings once more: a machine with other work to do is not equally fast all the time, and
    /// a ceiling that was taken in a slow spell would flatter what runs in a fast one.
    func measureAgain() throws {
        let kernels = try MachineInfo.defaultKernels()
        peakFloat = max(
            peakFloat, try MachineInfo.multiplyAddPeak(threads: threads, kernels: kernels, double: false))
        if let known = peakBFloat16, let now = try MachineInfo.bfloat16Peak(threads: threads, kernels: kernels) {
            peakBFloat16 = max(known, now)
        }
        memoryBandwidth = max(memoryBandwidth, try MachineInfo.memoryBandwidth(threads: threads))
        if let known = peakDouble {
            peakDouble = max(
                known, try MachineInfo.multiplyAddPeak(threads: threads, kernels: kernels, double: true))
        }
    }

    /// GFLOP/s of multiply-adds in what the type is computed in; for BF16 of its own instruction where there
    /// is one.
    func peak(_ type: BenchType) -> Double? {
        switch type {
        case .f64: peakDouble
        case .bf16: peakBFloat16 ?? peakFloat
        case .f32, .f16: peakFloat
        }
    }

    var summary: String {
        let double = peakDouble.map { ", \(fixed($0, 0)) in F64" } ?? ""
        let bfloat16 = peakBFloat16.map { ", \(fixed($0, 0)) in BF16" } ?? ""
        return """
            \(cpu), \(threads) of \(cores) cores, kernels \(kernels); \(openBLAS ?? "no OpenBLAS")
            measured now: multiply-add peak \(fixed(peakFloat, 0)) GFLOP/s in F32\(double)\(bfloat16); \
            memory \(fixed(memoryBandwidth, 1)) GB/s
            """
    }

    private enum Key: String, CodingKey {
        case cpu, cores, threads, isa, os, kernels, openblas, gpu
        case fma_peak_gflops_f32, fma_peak_gflops_f64, bf16_peak_gflops, memory_gbps, gpu_gemm_tflops
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(cpu, forKey: .cpu)
        try container.encode(cores, forKey: .cores)
        try container.encode(threads, forKey: .threads)
        try container.encode(isa, forKey: .isa)
        try container.encode(operatingSystem, forKey: .os)
        try container.encode(kernels, forKey: .kernels)
        try container.encode(peakFloat, forKey: .fma_peak_gflops_f32)
        try container.encode(peakDouble, forKey: .fma_peak_gflops_f64)
        // Null, not left out, where there is none.
        try container.encode(peakBFloat16, forKey: .bf16_peak_gflops)
        try container.encode(memoryBandwidth, forKey: .memory_gbps)
        try container.encode(openBLAS, forKey: .openblas)
        try container.encodeNil(forKey: .gpu)
        try container.encodeNil(forKey: .gpu_gemm_tflops)
    }
}
