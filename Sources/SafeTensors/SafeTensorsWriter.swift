#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// Collects tensors and writes them to a file at once.
public struct SafeTensorsWriter {
    /// The header's `__metadata__`.
    public var metadata: [String: String] = [:]
    private var tensors: [Entry] = []

    private struct Entry {
        let name: String
        let dataType: DataType
        let shape: [Int]
        let bytes: UnsafeRawBufferPointer
    }

    public init() {}

    /// Adds a tensor, whose bytes the caller keeps alive until `write` has returned.
    /// - Throws: `SafeTensorsError.malformedTensor` when the name is taken or reserved, or the shape does not
    ///   have as many bytes.
    public mutating func add(
        _ name: String, _ dataType: DataType, shape: [Int], bytes: UnsafeRawBufferPointer
    ) throws(SafeTensorsError) {
        guard name != SafeTensorsHeader.metadataKey, !tensors.contains(where: { $0.name == name }) else {
            throw .malformedTensor(name: name, expected: "a name of its own", got: "one that is taken")
        }
        guard dataType.byteCount(shape: shape) == bytes.count else {
            throw .malformedTensor(
                name: name, expected: "bytes for \(dataType.rawValue) of shape \(shape)",
                got: "\(bytes.count)")
        }
        tensors.append(Entry(name: name, dataType: dataType, shape: shape, bytes: bytes))
    }

    /// Adds a tensor, whose elements the caller keeps alive until `write` has returned.
    /// - Throws: as above.
    public mutating func add<Element: SafeTensorsScalar>(
        _ name: String, shape: [Int], _ elements: UnsafeBufferPointer<Element>
    ) throws(SafeTensorsError) {
        try add(name, Element.dataType, shape: shape, bytes: UnsafeRawBufferPointer(elements))
    }

    /// Writes the file: whole, or not at all.
    ///
    /// The widest types come first, so that each tensor is aligned for its type; then by name, so that the
    /// same tensors always give the same bytes.
    /// - Throws: `SafeTensorsError.system`; then a file that was there before is as it was.
    public func write(to path: String) throws(SafeTensorsError) {
        let sorted = tensors.sorted {
            $0.dataType.bitCount == $1.dataType.bitCount
                ? $0.name < $1.name : $0.dataType.bitCount > $1.dataType.bitCount
        }
        let header = try encodedHeader(sorted, path: path)
        let file = try AtomicFile(path: path)
        try withUnsafeLittleEndian(UInt64(header.count)) { bytes throws(SafeTensorsError) in
            try file.write(bytes)
        }
        try header.withBytes { bytes throws(SafeTensorsError) in try file.write(bytes) }
        for tensor in sorted { try file.write(tensor.bytes) }
        try file.commit()
    }

    private func encodedHeader(_ tensors: [Entry], path: String) throws(SafeTensorsError) -> [UInt8] {
        var header = Header(metadata: metadata)
        var end = 0
        for tensor in tensors {
            let begin = end
            end += tensor.bytes.count
            header.entries[tensor.name] = .init(
                dtype: tensor.dataType.rawValue, shape: tensor.shape, data_offsets: [begin, end])
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(header) else {
            throw .malformedHeader(path: path, expected: "names that JSON can hold", got: "others")
        }
        // The data then starts on eight bytes, counted from the start of the file.
        return [UInt8](data) + [UInt8](repeating: UInt8(ascii: " "), count: (8 - data.count % 8) % 8)
    }

    private struct Header: Encodable {
        struct Entry: Encodable {
            let dtype: String
            let shape: [Int]
            // The format's own spelling.
            let data_offsets: [Int]
        }

        var entries: [String: Entry] = [:]
        let metadata: [String: String]

        init(metadata: [String: String]) { self.metadata = metadata }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: Key.self)
            for (name, entry) in entries { try container.encode(entry, forKey: Key(stringValue: name)) }
            if !metadata.isEmpty {
                try container.encode(metadata, forKey: Key(stringValue: SafeTensorsHeader.metadataKey))
            }
        }

        private struct Key: CodingKey {
            let stringValue: String
            var intValue: Int? { nil }
            init(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }
    }
}

private func withUnsafeLittleEndian(
    _ value: UInt64, _ body: (UnsafeRawBufferPointer) throws(SafeTensorsError) -> Void
) throws(SafeTensorsError) {
    try (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }.withBytes(body)
}
