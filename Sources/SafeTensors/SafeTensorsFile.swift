/// A safetensors file, open for reading: its header checked, its data mapped.
///
/// The format: eight bytes with the header's length, the header in JSON, then the tensors' bytes without a
/// gap, all little-endian. Everything the header says is checked before a tensor can be reached.
public final class SafeTensorsFile: Sendable {
    public let path: String
    /// The tensors by name.
    public let tensors: [String: TensorInfo]
    /// The header's `__metadata__`; empty if it has none.
    public let metadata: [String: String]
    private let file: MappedFile

    /// One tensor of a file.
    public struct TensorInfo: Hashable, Sendable {
        public let dataType: DataType
        public let shape: [Int]
        /// Where its bytes lie, counted from the start of the file.
        public let byteRange: Range<Int>
    }

    /// Opens and checks a file.
    /// - Throws: `SafeTensorsError` when the file cannot be read or is malformed.
    public init(path: String) throws(SafeTensorsError) {
        let file = try MappedFile(path: path)
        let header = try SafeTensorsHeader(file.bytes, path: path)
        self.path = path
        self.file = file
        tensors = header.tensors
        metadata = header.metadata
    }

    /// - Throws: `SafeTensorsError.missingTensor`
    public func info(_ name: String) throws(SafeTensorsError) -> TensorInfo {
        guard let info = tensors[name] else { throw .missingTensor(name: name, path: path) }
        return info
    }

    /// Gives the body a tensor's bytes as they lie in the file, valid until it returns.
    /// - Throws: `SafeTensorsError.missingTensor`, or what the body throws.
    public func withBytes<Result>(
        of name: String, _ body: (UnsafeRawBufferPointer) throws -> Result
    ) throws -> Result {
        let info = try info(name)
        return try withExtendedLifetime(file) { try body(bytes(info)) }
    }

    /// A tensor's elements, in place if they are aligned for the type and copied if not.
    /// - Throws: `SafeTensorsError.missingTensor`, or `.wrongDataType` when the file holds another type.
    public func elements<Element: SafeTensorsScalar>(
        of name: String, as type: Element.Type = Element.self
    ) throws(SafeTensorsError) -> TensorElements<Element> {
        let info = try info(name)
        guard info.dataType == Element.dataType else {
            throw .wrongDataType(name: name, expected: Element.dataType.rawValue, got: info.dataType)
        }
        return TensorElements(bytes(info), owner: file)
    }

    private func bytes(_ info: TensorInfo) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: file.bytes[info.byteRange])
    }
}

/// The elements of one tensor of a file. They live as long as this object, which keeps the file mapped.
public final class TensorElements<Element: SafeTensorsScalar>: Sendable {
    // Safe to share: nobody writes to the memory after `init`.
    nonisolated(unsafe) public let buffer: UnsafeBufferPointer<Element>
    /// Whether the elements lie in the file, rather than in a copy.
    public let isMapped: Bool
    private let owner: MappedFile

    init(_ bytes: UnsafeRawBufferPointer, owner: MappedFile) {
        let count = bytes.count / MemoryLayout<Element>.stride
        let address = UInt(bitPattern: bytes.baseAddress)
        isMapped = address % UInt(MemoryLayout<Element>.alignment) == 0
        self.owner = owner
        if isMapped {
            buffer = UnsafeBufferPointer(
                start: bytes.baseAddress?.assumingMemoryBound(to: Element.self), count: count)
        } else {
            let copy = UnsafeMutableBufferPointer<Element>.allocate(capacity: count)
            UnsafeMutableRawBufferPointer(copy).copyMemory(from: bytes)
            buffer = UnsafeBufferPointer(copy)
        }
    }

    deinit {
        if !isMapped { buffer.deallocate() }
    }
}
