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
    /// Where a GPU is asked for: what it is, and its ceilings, the best seen in this run.
    let gpu: String?
    private var gpuPeaks: MachineInfo.GPUPeaks?

    init(threads: Int, measuresDouble: Bool, measuresGPU: Bool) throws {
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
        gpu = measuresGPU ? try MachineInfo.cudaDevices().first?.summary : nil
        gpuPeaks = measuresGPU ? try MachineInfo.gpuPeaks() : nil
    }

    /// Measures the ceilings once more: a machine with other work to do is not equally fast all the time, and
    /// a ceiling that was taken in a slow spell would flatter what runs in a fast one.
    func measureAgain() throws {
        let kernels = try MachineInfo.defaultKernels()
        peakFloat = max(
            peakFloat, try MachineInfo.multiplyAddPeak(threads: threads, kernels: kernels, double: false))
        if let known = peakBFloat16,
            let now = try MachineInfo.bfloat16Peak(threads: threads, kernels: kernels)
        {
            peakBFloat16 = max(known, now)
        }
        memoryBandwidth = max(memoryBandwidth, try MachineInfo.memoryBandwidth(threads: threads))
        if let known = peakDouble {
            peakDouble = max(
                known, try MachineInfo.multiplyAddPeak(threads: threads, kernels: kernels, double: true))
        }
        if let known = gpuPeaks { gpuPeaks = known.best(try MachineInfo.gpuPeaks()) }
    }

    /// GFLOP/s of a device in what the type is computed in: of multiply-adds, or of the instructions and
    /// tensor cores that the type has for itself.
    func peak(_ type: BenchType, _ device: AttentionDevice) -> Double? {
        switch (device, type) {
        case (.cpu, .f64): peakDouble
        case (.cpu, .bf16): peakBFloat16 ?? peakFloat
        case (.cpu, _): peakFloat
        case (.cuda, .f64): nil
        case (.cuda, .f32): gpuPeaks.map { $0.multiplyAddTFLOPS * 1000 }
        case (.cuda, _): gpuPeaks.map { $0.tensorCoreTFLOPS * 1000 }
        }
    }

    var summary: String {
        let double = peakDouble.map { ", \(fixed($0, 0)) in F64" } ?? ""
        let bfloat16 = peakBFloat16.map { ", \(fixed($0, 0)) in BF16" } ?? ""
        return """
            \(cpu), \(threads) of \(cores) cores, kernels \(kernels); \(openBLAS ?? "no OpenBLAS")
            measured now: multiply-add peak \(fixed(peakFloat, 0)) GFLOP/s in F32\(double)\(bfloat16); \
            memory \(fixed(memoryBandwidth, 1)) GB/s\(gpuSummary)
            """
    }

    private var gpuSummary: String {
        guard let gpu, let peaks = gpuPeaks else { return "" }
        return """

            \(gpu)
            measured now: tensor cores \(fixed(peaks.tensorCoreTFLOPS, 0)) TFLOP/s in BF16, multiply-adds \
            \(fixed(peaks.multiplyAddTFLOPS, 1)) TFLOP/s in F32; copies \(fixed(peaks.copyBandwidth, 0)) GB/s
            """
    }

    private enum Key: String, CodingKey {
        case cpu, cores, threads, isa, os, kernels, openblas, gpu
        case fma_peak_gflops_f32, fma_peak_gflops_f64, bf16_peak_gflops, memory_gbps, gpu_gemm_tflops
        case gpu_fma_tflops_f32, gpu_copy_gbps
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
        try container.encode(gpu, forKey: .gpu)
        try container.encode(gpuPeaks?.tensorCoreTFLOPS, forKey: .gpu_gemm_tflops)
        try container.encode(gpuPeaks?.multiplyAddTFLOPS, forKey: .gpu_fma_tflops_f32)
        try container.encode(gpuPeaks?.copyBandwidth, forKey: .gpu_copy_gbps)
    }
}
