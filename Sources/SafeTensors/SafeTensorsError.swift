/// What was wrong with a safetensors file. Every description is one line.
public enum SafeTensorsError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The operating system refused: which file, what was tried, and its reason.
    case system(path: String, operation: String, reason: String)
    /// The file's frame or header is not that of a safetensors file.
    case malformedHeader(path: String, expected: String, got: String)
    /// One tensor's entry in the header is not usable.
    case malformedTensor(name: String, expected: String, got: String)
    /// The file does not hold a tensor that was asked for.
    case missingTensor(name: String, path: String)
    /// The tensor has another element type than was asked for.
    case wrongDataType(name: String, expected: String, got: DataType)

    public var description: String {
        switch self {
        case .system(let path, let operation, let reason):
            "\(oneLine(path)): cannot \(operation): \(reason)"
        case .malformedHeader(let path, let expected, let got):
            "\(oneLine(path)): expected \(expected), got \(oneLine(got))"
        case .malformedTensor(let name, let expected, let got):
            "tensor \(oneLine(name)): expected \(expected), got \(oneLine(got))"
        case .missingTensor(let name, let path):
            "tensor \(oneLine(name)): expected in \(oneLine(path)), got none"
        case .wrongDataType(let name, let expected, let got):
            "tensor \(oneLine(name)): expected dtype \(expected), got \(got.rawValue)"
        }
    }

    /// Whether the operating system is to blame rather than the file's contents.
    public var isSystemError: Bool {
        if case .system = self { true } else { false }
    }
}

/// Text from a file as it may stand in a message: short, and without line breaks or other control characters.
func oneLine(_ text: String) -> String {
    let limit = 200
    var result = ""
    for scalar in text.unicodeScalars.prefix(limit) {
        let isLineBreak = (0x2028...0x2029).contains(scalar.value)
        result +=
            isLineBreak || scalar.properties.generalCategory == .control
            ? scalar.escaped(asASCII: true) : String(scalar)
    }
    return text.unicodeScalars.count > limit ? result + "…" : result
}
