/// What was wrong with a call. Each case names the operand or option, what was expected and what came.
public enum AttentionError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The sizes are not those of an attention problem.
    case invalidShape(String)
    /// An option has a value that means nothing.
    case invalidOption(String)
    /// An operand does not have the extents that the shape asks for.
    case shapeMismatch(operand: String, expected: String, got: String)
    /// An operand's strides are not usable.
    case invalidStrides(operand: String, expected: String, got: String)
    /// An operand's memory is smaller than its extents and strides reach.
    case bufferTooSmall(operand: String, expected: Int, got: Int)
    /// An operand, or the stream, is on another device than the call.
    case wrongDevice(operand: String, expected: String, got: String)
    /// The key lengths of the batch entries are not usable.
    case invalidKeyLengths(expected: String, got: String)
    /// The micro-kernels asked for cannot run here.
    case kernelsUnavailable(expected: String, got: String)
    /// The library asked for is not there.
    case libraryUnavailable(String)
    /// The device asked for is not there, or this build has no support for it.
    case deviceUnavailable(String)
    /// A call to the device's driver failed: which, and the driver's name for what happened.
    case deviceFailed(call: String, error: String)
    /// The working memory cannot be had.
    case outOfMemory(bytes: Int)

    public var description: String {
        switch self {
        case .invalidShape(let what), .invalidOption(let what), .libraryUnavailable(let what),
            .deviceUnavailable(let what):
            what
        case .deviceFailed(let call, let error): "\(call): \(error)"
        case .shapeMismatch(let operand, let expected, let got):
            "\(operand): expected shape \(expected), got \(got)"
        case .invalidStrides(let operand, let expected, let got):
            "\(operand): expected strides \(expected), got \(got)"
        case .bufferTooSmall(let operand, let expected, let got):
            "\(operand): expected at least \(expected) elements, got \(got)"
        case .wrongDevice(let operand, let expected, let got): "\(operand): expected \(expected), got \(got)"
        case .invalidKeyLengths(let expected, let got): "keyLengths: expected \(expected), got \(got)"
        case .kernelsUnavailable(let expected, let got): "kernels: expected \(expected), got \(got)"
        case .outOfMemory(let bytes): "working memory: expected \(bytes) bytes, got an allocation failure"
        }
    }
}
