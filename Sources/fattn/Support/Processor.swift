import FlashAttention
import Foundation

extension AttentionConfiguration {
    /// Bytes of working memory that a plan keeps after a forward pass, or after both; `Int.max` for more.
    func workspaceBytes(backward: Bool) -> Int {
        backward
            ? forwardWorkspaceBytes + min(backwardWorkspaceBytes, .max - forwardWorkspaceBytes)
            : forwardWorkspaceBytes
    }
}

/// What the operating system says about the machine.
enum Processor {
    /// Such as "AMD EPYC 9B45".
    static let model: String = {
        #if canImport(Darwin)
        var size = 0
        sysctlbyname("machdep.cpu.brand_string", nil, &size, nil, 0)
        var text = [UInt8](repeating: 0, count: max(size, 1))
        guard sysctlbyname("machdep.cpu.brand_string", &text, &size, nil, 0) == 0 else { return architecture }
        return String(decoding: text.prefix { $0 != 0 }, as: UTF8.self)
        #else
        return field("model name") ?? field("Model") ?? architecture
        #endif
    }()

    /// The instruction sets that matter here, such as "x86_64 avx2 fma avx512f".
    static let instructionSets: String = {
        #if canImport(Darwin)
        return architecture
        #else
        let interesting = [
            "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16",
            "amx_bf16", "asimd", "bf16", "sve",
        ]
        let flags = Set((field("flags") ?? field("Features") ?? "").split(separator: " ").map(String.init))
        return ([architecture] + interesting.filter(flags.contains)).joined(separator: " ")
        #endif
    }()

    static let cores = MachineInfo.processorCount

    static let operatingSystem = ProcessInfo.processInfo.operatingSystemVersionString

    /// Bytes that a process may still take: the least of what is free and what its container allows.
    static var availableMemory: Int {
        let physical = Int(clamping: ProcessInfo.processInfo.physicalMemory)
        #if canImport(Darwin)
        return physical
        #else
        let free = (try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8))
            .flatMap { value(of: "MemAvailable", in: $0) }
            .flatMap { Int($0.split(separator: " ").first ?? "") }
            .map { $0 * 1024 }
        let limit = (try? String(contentsOfFile: "/sys/fs/cgroup/memory.max", encoding: .utf8))
            .flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
        return min(physical, free ?? physical, limit ?? physical)
        #endif
    }

    /// Checks that there is so much memory. The system itself may promise more than it has and end the
    /// process when that is used.
    /// - Throws: `CommandError.unavailable`
    static func require(memory needed: Int, for purpose: String = "working memory") throws {
        let available = availableMemory
        guard needed <= available else {
            throw CommandError.unavailable(
                "\(purpose): expected \(bytes(needed)), got \(bytes(available)) that are free")
        }
    }

    /// Checks that there is memory for a problem that is computed and compared with the oracle: operands and
    /// results, and the operands once more in Double.
    /// - Throws: `CommandError.unavailable`
    static func requireMemory(toCheck shape: AttentionShape, elementSize: Int) throws {
        let elements = [shape.queryExtents, shape.keyExtents, shape.valueExtents, shape.outputExtents]
            .reduce(0) { $0 + $1.count }
        try require(
            memory: elements * (2 * elementSize + MemoryLayout<Double>.size),
            for: "memory for \(shape.argument)")
    }

    private static let architecture: String = {
        #if arch(x86_64)
        "x86_64"
        #elseif arch(arm64)
        "arm64"
        #else
        "unknown"
        #endif
    }()

    #if !canImport(Darwin)
    private static func field(_ name: String) -> String? {
        (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)).flatMap { value(of: name, in: $0) }
    }

    /// The value of the first line `name: value`.
    private static func value(of name: String, in text: String) -> String? {
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2, parts[0].trimmingCharacters(in: .whitespaces) == name {
                return parts[1].trimmingCharacters(in: .whitespaces)
            }
        }
        return nil
    }
    #endif
}
