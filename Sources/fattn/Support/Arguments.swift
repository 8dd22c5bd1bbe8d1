import ArgumentParser
import FlashAttention
import Foundation

/// Where to compute.
typealias Device = AttentionDevice

extension AttentionDevice: ExpressibleByArgument {
    /// - Throws: `CommandError.unavailable` for a device that this build or this machine does not have.
    func require() throws {
        guard self == .cuda else { return }
        do { _ = try MachineInfo.cudaDevices() } catch {
            throw CommandError.unavailable("--device: expected cpu, got cuda: \(error)")
        }
    }
}

extension AttentionAlgorithm: ExpressibleByArgument {}
extension GEMMProvider: ExpressibleByArgument {}

extension ParallelRuntime: ExpressibleByArgument {}
extension CausalAlignment: ExpressibleByArgument {}
extension TensorLayout: ExpressibleByArgument {}

/// `Br,Bc`
extension TileSizes: ExpressibleByArgument {
    public init?(argument: String) {
        // The upper bound keeps Br · Bc far from overflow; no machine has the memory for such a tile.
        guard let sizes = integers(argument), sizes.count == 2,
            sizes.allSatisfy({ (1...1 << 20).contains($0) })
        else { return nil }
        self.init(queries: sizes[0], keys: sizes[1])
    }
}

/// `B,H,Hkv,Nq,Nk,D[,Dv]`
extension AttentionShape: ExpressibleByArgument {
    public init?(argument: String) {
        guard let sizes = integers(argument), (6...7).contains(sizes.count) else { return nil }
        self.init(
            batch: sizes[0], heads: sizes[1], keyValueHeads: sizes[2], queryLength: sizes[3],
            keyLength: sizes[4], headSize: sizes[5], valueHeadSize: sizes.last)
        if sizes.count == 6 { valueHeadSize = headSize }
    }

    /// As it is written on the command line.
    var argument: String {
        let sizes =
            [batch, heads, keyValueHeads, queryLength, keyLength, headSize]
            + (valueHeadSize == headSize ? [] : [valueHeadSize])
        return sizes.map(String.init).joined(separator: ",")
    }
}

/// The numbers of a list with commas, or nil if one of them is none.
func integers(_ text: String) -> [Int]? {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
    return parts.contains(nil) ? nil : parts.compactMap { $0 }
}

/// The named values of a list with commas, each once, in the order given.
/// - Throws: `ValidationError` that says what the names are.
func list<Value: RawRepresentable<String> & CaseIterable & Equatable>(_ text: String) throws -> [Value] {
    var values: [Value] = []
    for name in text.split(separator: ",", omittingEmptySubsequences: false) {
        guard let value = Value(rawValue: String(name)) else {
            let names = Value.allCases.map(\.rawValue).joined(separator: ",")
            throw ValidationError("expected some of \(names), got '\(name)'")
        }
        if !values.contains(value) { values.append(value) }
    }
    return values
}

/// Checks that what the options ask for is here, before any work.
/// - Throws: `AttentionError` for kernels, a library or a device that this machine does not have.
func requireAvailable(_ options: AttentionOptions) throws {
    let shape = AttentionShape(batch: 1, heads: 1, queryLength: 1, headSize: 1)
    _ = try Attention<Float>(shape: shape, options: options)
}

/// - Throws: `CommandError.usage` for a time that no case can take.
func check(seconds: Double) throws {
    guard seconds > 0, seconds <= 86400 else {
        throw CommandError.usage("--seconds: expected more than 0 and at most 86400, got \(seconds)")
    }
}

/// - Throws: `CommandError.usage` for sizes that are no problem's.
func check(shapes: [AttentionShape]) throws {
    for shape in shapes {
        do { try shape.validate() } catch { throw CommandError.usage("--shape: \(error)") }
    }
}

/// Times of a debug build say nothing about anything.
/// - Throws: `CommandError.usage`
func requireReleaseBuild(_ command: String) throws {
    var isDebugBuild = false
    assert({ isDebugBuild = true }() == ())
    if isDebugBuild {
        throw CommandError.usage(
            "\(command): expected a release build (swift build -c release), got a debug build")
    }
}

/// Checks the variables that stand beside the options.
/// - Throws: `CommandError.usage` for a kernel set of a name that there is not. One that this machine cannot
///   run is the library's to refuse.
func checkEnvironment() throws {
    guard let name = ProcessInfo.processInfo.environment["FATTN_KERNELS"] else { return }
    guard KernelSet(rawValue: name) != nil else {
        let names = KernelSet.allCases.map(\.rawValue).joined(separator: ", ")
        throw CommandError.usage("FATTN_KERNELS: expected one of \(names), got '\(name)'")
    }
    _ = try MachineInfo.defaultKernels()
}
