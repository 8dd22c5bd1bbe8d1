import AttentionCore
import CProcessor

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Which micro-kernels this machine runs, and which of them to use.
package enum KernelSelection {
    /// The variable that forces a kernel set.
    package static let variable = "FATTN_KERNELS"

    /// The sets that this machine runs, the widest first.
    package static let available: [KernelSet] = {
        #if arch(x86_64)
        (processor_runs_avx512() ? [.avx512] : []) + (processor_runs_avx2() ? [.avx2] : []) + [.generic]
        #elseif arch(arm64)
        [.neon]
        #else
        [.generic]
        #endif
    }()

    /// The set asked for in the options, else in the environment, else the widest.
    /// - Throws: `AttentionError.kernelsUnavailable` for one that is not known or does not run here.
    package static func choose(_ requested: KernelSet?) throws(AttentionError) -> KernelSet {
        if let requested { return try check(requested, named: requested.rawValue) }
        guard let value = getenv(variable) else { return available[0] }
        let name = String(cString: value)
        return try check(KernelSet(rawValue: name), named: "\(variable)=\(name)")
    }

    private static func check(_ set: KernelSet?, named name: String) throws(AttentionError) -> KernelSet {
        guard let set, available.contains(set) else {
            let names = available.map(\.rawValue).joined(separator: ", ")
            throw .kernelsUnavailable(expected: "one of \(names) on this machine", got: name)
        }
        return set
    }
}
