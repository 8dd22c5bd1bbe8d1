import Foundation
import PackagePlugin

/// Compiles the CUDA kernels of a target and embeds them as Swift source, one file a kernel source.
///
/// Runs when the trait `CUDA` is on. Each command names the sources and the headers that its kernel source
/// includes, so that a change rebuilds what it touches and nothing else.
@main
struct CompileCUDA: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: any Target) throws -> [Command] {
        guard let module = target as? any SourceModuleTarget else { return [] }
        guard module.compilationConditionNames.contains("CUDA") else { return [] }
        let nvcc = try findCompiler(packageFolder: context.package.directoryURL)
        let kernels = target.directoryURL.appending(path: "Kernels")
        let interface = context.package.directoryURL.appending(path: "Sources/CTileABI/include")
        let tool = try context.tool(named: "cuda-embed").url
        let sources = try FileManager.default
            .contentsOfDirectory(at: kernels, includingPropertiesForKeys: nil)
            .filter { $0.pathExtension == "cu" }
            .sorted { $0.path < $1.path }
        return try sources.map { source in
            let name = source.deletingPathExtension().lastPathComponent
            let output = context.pluginWorkDirectoryURL.appending(path: "EmbeddedKernels+\(name).swift")
            return .buildCommand(
                displayName: "Compiling \(source.lastPathComponent)", executable: tool,
                arguments: [nvcc.path, source.path, output.path, kernels.path, interface.path],
                inputFiles: try [source] + includes(of: source, folders: [kernels, interface]),
                outputFiles: [output])
        }
    }

    /// nvcc under CUDA_HOME, then on PATH, then in the package's own `.cuda`, the order of Scripts/find-nvcc.
    private func findCompiler(packageFolder: URL) throws -> URL {
        let environment = ProcessInfo.processInfo.environment
        var places: [URL] = []
        if let home = environment["CUDA_HOME"], !home.isEmpty {
            places.append(URL(filePath: home).appending(path: "bin/nvcc"))
        }
        places += (environment["PATH"] ?? "").split(separator: ":").map {
            URL(filePath: String($0)).appending(path: "nvcc")
        }
        places.append(packageFolder.appending(path: ".cuda/nvidia/cu13/bin/nvcc"))
        if let found = places.first(where: { FileManager.default.isExecutableFile(atPath: $0.path) }) {
            return found
        }
        Diagnostics.error(
            "the trait CUDA needs nvcc: set CUDA_HOME, put nvcc on PATH, or run Scripts/cuda-toolchain, "
                + "which installs it in .cuda")
        throw MissingCompiler()
    }

    /// The headers that a source includes by a quoted name, directly or not.
    private func includes(of source: URL, folders: [URL]) throws -> [URL] {
        var found: [URL] = []
        var unread = [source]
        while let file = unread.popLast() {
            for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
                let parts = line.split(separator: "\"", omittingEmptySubsequences: false)
                guard line.hasPrefix("#include \""), parts.count >= 3 else { continue }
                let candidates = folders.map { $0.appending(path: String(parts[1])) }
                let isThere = { (header: URL) in FileManager.default.fileExists(atPath: header.path) }
                guard let header = candidates.first(where: isThere), !found.contains(header) else { continue }
                found.append(header)
                unread.append(header)
            }
        }
        return found.sorted { $0.path < $1.path }
    }
}

struct MissingCompiler: Error, CustomStringConvertible {
    var description: String { "nvcc was not found" }
}

extension SourceModuleTarget {
    /// The conditions set for a Swift target, traits among them.
    var compilationConditionNames: [String] {
        (self as? SwiftSourceModuleTarget)?.compilationConditions ?? []
    }
}
