import ArgumentParser
import FlashAttention
import SafeTensors

/// `fattn info`: the machine, and what runs on it.
struct InfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info",
        abstract: "Say what this machine has and which feature runs on which algorithm and device.")

    @Option(help: "Where to write the same for programs.")
    var json: String?

    func run() throws {
        try checkEnvironment()
        if let json { try AtomicFile.checkWritable(json) }
        let info = try MachineReport()
        for line in info.lines { say(line) }
        if let json { try writeWhole(try encodeJSON(info), to: json) }
    }
}

/// What `fattn info` says.
private struct MachineReport: Encodable {
    struct Caches: Encodable {
        let l1_bytes, l2_bytes, l3_bytes: Int
    }

    struct CUDA: Encodable {
        let available: Bool
        let devices: [String]
        /// Why there is none; empty where there is one.
        let reason: String

        init() {
            do {
                let gpus = try MachineInfo.cudaDevices()
                available = true
                devices = gpus.map(\.summary)
                reason = ""
            } catch {
                available = false
                devices = []
                reason = error.description
            }
        }
    }

    let cpu = Processor.model
    let cores = Processor.cores
    let isa = Processor.instructionSets
    let os = Processor.operatingSystem
    let caches: Caches
    let kernels: String
    let kernels_available: [String]
    /// GFLOP/s of the dot product of pairs of BF16, measured on all cores; nil where there is none.
    let bf16_peak_gflops: Double?
    let openblas: OpenBLAS?
    let cuda = CUDA()
    let features = FeatureTable.features

    struct OpenBLAS: Encodable {
        let version, core: String
    }

    init() throws {
        let sizes = MachineInfo.cacheSizes
        caches = Caches(l1_bytes: sizes.l1, l2_bytes: sizes.l2, l3_bytes: sizes.l3)
        kernels = try MachineInfo.defaultKernels().rawValue
        kernels_available = MachineInfo.kernelSets.map(\.rawValue)
        bf16_peak_gflops = try MachineInfo.bfloat16Peak(threads: MachineInfo.processorCount)
        openblas = MachineInfo.openBLAS.map { OpenBLAS(version: $0.version, core: $0.core) }
    }

    private enum CodingKeys: CodingKey {
        case cpu, cores, isa, os, caches, kernels, kernels_available, bf16_peak_gflops, openblas, cuda,
            features
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(cpu, forKey: .cpu)
        try container.encode(cores, forKey: .cores)
        try container.encode(isa, forKey: .isa)
        try container.encode(os, forKey: .os)
        try container.encode(caches, forKey: .caches)
        try container.encode(kernels, forKey: .kernels)
        try container.encode(kernels_available, forKey: .kernels_available)
        // Null, not left out, where there is none.
        try container.encode(bf16_peak_gflops, forKey: .bf16_peak_gflops)
        try container.encode(openblas, forKey: .openblas)
        try container.encode(cuda, forKey: .cuda)
        try container.encode(features, forKey: .features)
    }

    var lines: [String] {
        let cacheText = [("L1", caches.l1_bytes), ("L2", caches.l2_bytes), ("L3", caches.l3_bytes)]
            .map { "\($0.0) \($0.1 == 0 ? "unknown" : "\($0.1 / 1024) KiB")" }.joined(separator: ", ")
        let blas =
            openblas.map { "\($0.version), running as \($0.core)" }
            ?? "none; install it with: apt-get install libopenblas-dev"
        let dotProduct =
            bf16_peak_gflops.map { "dot product of pairs, \(fixed($0, 0)) GFLOP/s measured" }
            ?? "no dot product of pairs that outruns Float; computed in F32"
        return [
            "CPU        \(cpu), \(cores) cores",
            "ISA        \(isa)",
            "caches     \(cacheText)",
            "kernels    \(kernels); available: \(kernels_available.joined(separator: ", "))",
            "BF16       \(dotProduct)",
            "OpenBLAS   \(blas)",
            "CUDA       \(cuda.available ? cuda.devices.joined(separator: "; ") : cuda.reason)",
            "system     \(os)",
            "",
        ] + FeatureTable.lines
    }
}

extension MachineInfo.GPU {
    /// What it is, in a line.
    var summary: String {
        "\(name), compute capability \(computeCapability / 10).\(computeCapability % 10), "
            + "\(multiprocessorCount) multiprocessors, \(memoryBytes >> 20) MiB, "
            + "driver for CUDA \(driverVersion / 1000).\(driverVersion % 1000 / 10)"
    }
}
