#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// The header of a safetensors file, checked whole.
struct SafeTensorsHeader {
    /// No real header comes near it; the reference implementation has the same limit.
    static let largestByteCount = 100_000_000
    static let metadataKey = "__metadata__"

    private(set) var tensors: [String: SafeTensorsFile.TensorInfo] = [:]
    private(set) var metadata: [String: String] = [:]

    /// - Parameters:
    ///   - file: the whole file.
    /// - Throws: `SafeTensorsError.malformedHeader` or `.malformedTensor`.
    init(_ file: UnsafeRawBufferPointer, path: String) throws(SafeTensorsError) {
        let headerRange = try Self.headerRange(file, path: path)
        let bytes = UnsafeRawBufferPointer(rebasing: file[headerRange])
        let data = try Self.decode(bytes, path: path)
        metadata = data.metadata
        var dataRanges: [(name: String, range: Range<Int>)] = []
        for (name, entry) in data.entries {
            let info = try Self.info(name, entry, dataRange: headerRange.upperBound..<file.count)
            tensors[name] = info
            dataRanges.append((name, info.byteRange))
        }
        try Self.checkCover(dataRanges, of: headerRange.upperBound..<file.count, path: path)
    }

    private static func headerRange(
        _ file: UnsafeRawBufferPointer, path: String
    ) throws(SafeTensorsError) -> Range<Int> {
        guard file.count >= 8 else {
            throw .malformedHeader(
                path: path, expected: "at least 8 bytes, the header's length", got: "\(file.count)")
        }
        let length = UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
        guard length <= UInt64(largestByteCount) else {
            throw .malformedHeader(
                path: path, expected: "a header of at most \(largestByteCount) bytes", got: "\(length)")
        }
        guard Int(length) <= file.count - 8 else {
            throw .malformedHeader(
                path: path, expected: "a header that ends within the file's \(file.count) bytes",
                got: "a header of \(length) bytes")
        }
        return 8..<8 + Int(length)
    }

    private static func decode(
        _ bytes: UnsafeRawBufferPointer, path: String
    ) throws(SafeTensorsError) -> HeaderEntries {
        guard bytes.first == UInt8(ascii: "{") else {
            let first = bytes.first.map { "a first byte of \($0)" } ?? "nothing"
            throw .malformedHeader(path: path, expected: "a header that starts with {", got: first)
        }
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw .malformedHeader(path: path, expected: "a header in UTF-8", got: "other bytes")
        }
        let entries: HeaderEntries
        do {
            entries = try JSONDecoder().decode(HeaderEntries.self, from: Data(bytes))
        } catch let error as SafeTensorsError {
            throw error
        } catch {
            throw .malformedHeader(path: path, expected: "a header in JSON", got: "other text")
        }
        if let keys = firstDuplicateKey(inJSON: bytes), let name = keys.first, let key = keys.last {
            guard keys.count > 1 else {
                throw .malformedHeader(path: path, expected: "each name once", got: "\(name) twice")
            }
            throw .malformedTensor(name: name, expected: "each key once", got: "\(key) twice")
        }
        return entries
    }

    /// Checks one entry and turns its offsets into a range of the file.
    private static func info(
        _ name: String, _ entry: HeaderEntry, dataRange: Range<Int>
    ) throws(SafeTensorsError) -> SafeTensorsFile.TensorInfo {
        guard let dataType = DataType(rawValue: entry.dtype) else {
            throw .malformedTensor(
                name: name, expected: "a dtype of the format", got: "\"\(entry.dtype)\"")
        }
        guard let byteCount = dataType.byteCount(shape: entry.shape) else {
            throw .malformedTensor(
                name: name, expected: "a shape of whole bytes that fit in memory", got: "\(entry.shape)")
        }
        let offsets = entry.data_offsets
        guard offsets.count == 2, 0 <= offsets[0], offsets[0] <= offsets[1] else {
            throw .malformedTensor(
                name: name, expected: "data_offsets [begin, end] with 0 <= begin <= end", got: "\(offsets)")
        }
        guard offsets[1] <= dataRange.count else {
            throw .malformedTensor(
                name: name, expected: "data_offsets within the file's \(dataRange.count) bytes of data",
                got: "\(offsets)")
        }
        guard offsets[1] - offsets[0] == byteCount else {
            throw .malformedTensor(
                name: name,
                expected: "\(byteCount) bytes for \(dataType.rawValue) of shape \(entry.shape)",
                got: "\(offsets[1] - offsets[0])")
        }
        let start = dataRange.lowerBound
        return .init(
            dataType: dataType, shape: entry.shape, byteRange: start + offsets[0]..<start + offsets[1])
    }

    /// The tensors' bytes must cover the data without overlap or hole, as the format demands: what hides in
    /// a hole is no tensor, and what overlaps is two.
    private static func checkCover(
        _ ranges: [(name: String, range: Range<Int>)], of dataRange: Range<Int>, path: String
    ) throws(SafeTensorsError) {
        var end = dataRange.lowerBound
        let sorted = ranges.sorted {
            ($0.range.lowerBound, $0.range.upperBound, $0.name)
                < ($1.range.lowerBound, $1.range.upperBound, $1.name)
        }
        for (name, range) in sorted {
            guard range.lowerBound == end else {
                throw .malformedTensor(
                    name: name,
                    expected: "data from \(end - dataRange.lowerBound), where the tensor before it ends",
                    got: "data from \(range.lowerBound - dataRange.lowerBound)")
            }
            end = range.upperBound
        }
        guard end == dataRange.upperBound else {
            throw .malformedHeader(
                path: path, expected: "\(end - dataRange.lowerBound) bytes of data, all in tensors",
                got: "\(dataRange.count)")
        }
    }
}

/// One tensor's entry in the header, as it stands there.
private struct HeaderEntry: Decodable {
    let dtype: String
    let shape: [Int]
    // The format's own spelling.
    let data_offsets: [Int]
}

/// The header as it stands in the file.
private struct HeaderEntries: Decodable {
    var entries: [String: HeaderEntry] = [:]
    var metadata: [String: String] = [:]

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        for key in container.allKeys {
            let name = key.stringValue
            do {
                if name == SafeTensorsHeader.metadataKey {
                    metadata = try container.decode([String: String].self, forKey: key)
                } else {
                    entries[name] = try container.decode(HeaderEntry.self, forKey: key)
                }
            } catch {
                throw SafeTensorsError.malformedTensor(
                    name: name, expected: Self.expectation(name), got: Self.fault(error))
            }
        }
    }

    private static func expectation(_ name: String) -> String {
        name == SafeTensorsHeader.metadataKey
            ? "an object of strings" : "an object with dtype, shape [sizes] and data_offsets [begin, end]"
    }

    private static func fault(_ error: any Error) -> String {
        switch error {
        case DecodingError.keyNotFound(let key, _): "no \(key.stringValue)"
        case DecodingError.dataCorrupted(let context), DecodingError.typeMismatch(_, let context),
            DecodingError.valueNotFound(_, let context):
            (context.codingPath.dropFirst().map(\.stringValue) + [context.debugDescription])
                .joined(separator: ": ")
        // Types of the decoder's own: for text with a wrong escape, or a number that is no Int.
        default: "text or a number that cannot be read"
        }
    }

    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}
