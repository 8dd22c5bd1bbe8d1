import FlashAttention
import SafeTensors

/// Why a command failed: the exit code of the contract, and the line that says it.
struct CommandError: Error {
    enum Code: Int32 {
        case checkFailed = 1
        case usage = 64
        case data = 65
        case unavailable = 69
        case file = 74
    }

    let code: Code
    let message: String

    static func checkFailed(_ message: String) -> CommandError { .init(code: .checkFailed, message: message) }
    static func usage(_ message: String) -> CommandError { .init(code: .usage, message: message) }
    static func data(_ message: String) -> CommandError { .init(code: .data, message: message) }
    static func unavailable(_ message: String) -> CommandError { .init(code: .unavailable, message: message) }

    private init(code: Code, message: String) {
        self.code = code
        self.message = message
    }

    /// The error of a library as one of the command line; nil for those of the argument parser.
    init?(_ error: any Error) {
        switch error {
        case let error as CommandError: self = error
        case let error as SafeTensorsError:
            self.init(code: error.isSystemError ? .file : .data, message: error.description)
        case let error as AttentionError: self.init(code: Self.code(error), message: error.description)
        default: return nil
        }
    }

    private static func code(_ error: AttentionError) -> Code {
        switch error {
        case .invalidOption, .wrongDevice: .usage
        case .invalidShape, .shapeMismatch, .invalidStrides, .bufferTooSmall, .invalidKeyLengths: .data
        case .kernelsUnavailable, .libraryUnavailable, .outOfMemory, .deviceUnavailable, .deviceFailed:
            .unavailable
        }
    }
}
