import Foundation

/// Compiles one CUDA source and writes the result as a Swift source.
///
///     cuda-embed NVCC SOURCE.cu OUTPUT.swift INCLUDE…
///
/// The result holds machine code for sm_80 and sm_90a and PTX for devices after them, compressed, as base64
/// in a `StaticString`: an array literal of that size would take the compiler many seconds.
@main
struct CUDAEmbed {
    static func main() {
        do {
            try run(Array(CommandLine.arguments.dropFirst()))
        } catch {
            FileHandle.standardError.write(Data("cuda-embed: error: \(error)\n".utf8))
            exit(1)
        }
    }

    static func run(_ arguments: [String]) throws {
        guard arguments.count >= 3 else {
            throw Failure("expected NVCC SOURCE.cu OUTPUT.swift INCLUDE…, got \(arguments.count) arguments")
        }
        let source = URL(filePath: arguments[1])
        let output = URL(filePath: arguments[2])
        let image = output.deletingPathExtension().appendingPathExtension("fatbin")
        defer { try? FileManager.default.removeItem(at: image) }
        try compile(nvcc: arguments[0], source: source, image: image, includes: arguments.dropFirst(3))

        let name = source.deletingPathExtension().lastPathComponent
        let words = name.split(separator: "_").map(String.init)
        let property = words[0] + words.dropFirst().map(\.capitalized).joined()
        let text = """
            // Written by cuda-embed from \(source.lastPathComponent).
            extension EmbeddedKernels {
                static var \(property): StaticString {
                    "\(try Data(contentsOf: image).base64EncodedString())"
                }
            }

            """
        try Data(text.utf8).write(to: output, options: .atomic)
    }

    private static func compile(
        nvcc: String, source: URL, image: URL, includes: ArraySlice<String>
    ) throws {
        let process = Process()
        process.executableURL = URL(filePath: nvcc)
        process.arguments =
            ["-std=c++17", "-O3", "-fatbin", "-Xfatbin", "-compress-all"]
            + ["-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_80,code=compute_80"]
            + ["-gencode=arch=compute_90a,code=sm_90a"]
            + includes.flatMap { ["-I", $0] } + [source.path, "-o", image.path]
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failure("nvcc \(source.lastPathComponent): exit code \(process.terminationStatus)")
        }
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }
}
