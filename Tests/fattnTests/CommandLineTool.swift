import Foundation
import SafeTensors
import Testing

/// What a run of the program left behind.
struct Outcome {
    let code: Int32
    let output: String
    let error: String

    /// Whether it failed as the contract says: with this code and one line that says all this.
    func isFailure(_ code: Int32, saying words: String...) -> Bool {
        self.code == code && error.hasPrefix("fattn: error: ") && error.hasSuffix("\n")
            && error.dropLast().allSatisfy { !$0.isNewline } && words.allSatisfy(error.contains)
    }
}

/// The built program, in a directory of the test's own.
final class CommandLineTool {
    let directory: URL

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("fattn-\(UUID())")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    /// Beside the test bundle, where the package manager puts both.
    private static let executable: URL? = {
        let start = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        let bundles = Bundle.allBundles.map { $0.bundleURL.deletingLastPathComponent() }
        return ([start] + bundles).map { $0.appendingPathComponent("fattn") }
            .first { FileManager.default.isExecutableFile(atPath: $0.path) }
    }()

    static let sample = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Samples/minilm-layer0.safetensors").path

    func path(_ name: String) -> String { directory.appendingPathComponent(name).path }

    var fileNames: [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()) ?? []
    }

    func run(_ arguments: String..., environment: [String: String] = [:]) throws -> Outcome {
        try run(arguments, environment: environment)
    }

    /// - Parameters:
    ///   - fileSizeLimit: the largest file that the program may write, in blocks of 512 bytes or more.
    func run(
        _ arguments: [String], environment: [String: String] = [:], fileSizeLimit: Int? = nil
    ) throws -> Outcome {
        let executable: URL = try #require(Self.executable, "fattn has not been built")
        let process = Process()
        if let fileSizeLimit {
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            let script = "ulimit -f \(fileSizeLimit); exec \"$0\" \"$@\""
            process.arguments = ["-c", script, executable.path] + arguments
        } else {
            process.executableURL = executable
            process.arguments = arguments
        }
        process.currentDirectoryURL = directory
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        // Into files: a pipe that nobody reads yet would hold up a long output.
        let (output, error) = (path(".stdout"), path(".stderr"))
        for path in [output, error] { try Data().write(to: URL(fileURLWithPath: path)) }
        process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: output))
        process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: error))
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        defer { for path in [output, error] { try? FileManager.default.removeItem(atPath: path) } }
        return Outcome(
            code: process.terminationReason == .exit ? process.terminationStatus : -1,
            output: try String(contentsOfFile: output, encoding: .utf8),
            error: try String(contentsOfFile: error, encoding: .utf8))
    }
}

/// A tensor to be written to a file.
struct FileTensor {
    let name: String
    let type: DataType
    let shape: [Int]
    let bytes: [UInt8]

    init<Element: SafeTensorsScalar>(_ name: String, _ shape: [Int], _ elements: [Element]) {
        self.init(name, Element.dataType, shape, elements.withUnsafeBytes { Array($0) })
    }

    init(_ name: String, _ type: DataType, _ shape: [Int], _ bytes: [UInt8]) {
        (self.name, self.type, self.shape, self.bytes) = (name, type, shape, bytes)
    }

    /// As many bytes of zero as the shape asks for.
    init(zeros name: String, _ shape: [Int], _ type: DataType = .f32) {
        self.init(name, type, shape, Array(repeating: 0, count: type.byteCount(shape: shape) ?? 0))
    }
}

extension CommandLineTool {
    func write(_ tensors: [FileTensor], _ name: String = "in.safetensors") throws -> String {
        var writer = SafeTensorsWriter()
        let memory = tensors.map { tensor in
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: tensor.bytes.count, alignment: 8)
            memory.copyBytes(from: tensor.bytes)
            return memory
        }
        defer { for memory in memory { memory.deallocate() } }
        for (tensor, memory) in zip(tensors, memory) {
            try writer.add(
                tensor.name, tensor.type, shape: tensor.shape, bytes: UnsafeRawBufferPointer(memory))
        }
        try writer.write(to: path(name))
        return path(name)
    }
}

/// A tensor's elements.
func read<Element: SafeTensorsScalar>(
    _ name: String, _ path: String, as type: Element.Type = Element.self
) throws -> [Element] {
    let elements: TensorElements<Element> = try SafeTensorsFile(path: path).elements(of: name)
    return withExtendedLifetime(elements) { Array(elements.buffer) }
}
