import SafeTensors
import Testing

/// A file that must be refused, and what its message must say.
struct BadFile: Sendable, CustomTestStringConvertible {
    let name: String
    let bytes: [UInt8]
    let message: String
    var testDescription: String { name }

    init(_ name: String, _ bytes: [UInt8], _ message: String) {
        (self.name, self.bytes, self.message) = (name, bytes, message)
    }

    init(_ name: String, header: String, dataCount: Int = 8, _ message: String) {
        self.init(name, fileBytes(header: header, dataCount: dataCount), message)
    }

    /// One tensor `t` with this entry.
    init(_ name: String, entry: String, _ message: String) {
        self.init(name, header: "{\"t\":\(entry)}", message)
    }
}

private func entry(
    _ dtype: String = "\"F32\"", _ shape: String = "[2]", _ offsets: String = "[0,8]"
) -> String {
    "{\"dtype\":\(dtype),\"shape\":\(shape),\"data_offsets\":\(offsets)}"
}

private func length(_ value: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

let badFrames = [
    BadFile("empty", [], "at least 8 bytes"),
    BadFile("seven bytes", [1, 0, 0, 0, 0, 0, 0], "at least 8 bytes"),
    BadFile("only a length", length(2), "a header of 2 bytes"),
    BadFile("length beyond the file", length(1000) + Array("{}".utf8), "a header of 1000 bytes"),
    BadFile("length over the limit", length(100_000_001) + Array("{}".utf8), "at most 100000000 bytes"),
    BadFile("largest length", length(.max) + Array("{}".utf8), "at most 100000000 bytes"),
    BadFile(
        "truncated header", Array(fileBytes(header: "{\"t\":\(entry())}", dataCount: 0).dropLast(3)), "header"
    ),
    BadFile("header of no bytes", length(0), "starts with {"),
    BadFile("not UTF-8", length(4) + [0x7b, 0xff, 0xfe, 0x7d], "in UTF-8"),
    BadFile("not JSON", header: "{\"t\":", "expected a header in JSON, got other text"),
    BadFile("text after the JSON", header: "{} {}", dataCount: 0, "in JSON"),
    BadFile("an array", header: "[]", "starts with {"),
    BadFile("deeply nested", header: "{\"t\":" + String(repeating: "[", count: 100_000), "expected"),
    BadFile("a name twice", header: "{\"t\":\(entry()),\"t\":\(entry())}", "each name once, got t twice"),
    BadFile("a name twice, escaped", header: "{\"t\":\(entry()),\"\\u0074\":\(entry())}", "got t twice"),
    BadFile(
        "a key of the metadata twice", header: "{\"__metadata__\":{\"a\":\"1\",\"b\":\"\",\"a\":\"2\"}}",
        dataCount: 0, "tensor __metadata__: expected each key once, got a twice"),
    BadFile(
        "metadata not strings", header: "{\"__metadata__\":{\"a\":1}}", dataCount: 0, "an object of strings"),
]

let badEntries = [
    BadFile("not an object", entry: "3", "tensor t: expected an object"),
    BadFile("no dtype", entry: "{\"shape\":[2],\"data_offsets\":[0,8]}", "no dtype"),
    BadFile("no shape", entry: "{\"dtype\":\"F32\",\"data_offsets\":[0,8]}", "no shape"),
    BadFile("no offsets", entry: "{\"dtype\":\"F32\",\"shape\":[2]}", "no data_offsets"),
    BadFile(
        "two shapes", entry: "{\"shape\":[2],\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}",
        "tensor t: expected each key once, got shape twice"),
    BadFile(
        "two dtypes, one escaped",
        entry: "{\"dtype\":\"F32\",\"\\u0064type\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}",
        "tensor t: expected each key once, got dtype twice"),
    BadFile(
        "a key twice within one that the format does not have",
        header: "{\"a\":\(entry("\"F32\"", "[0]", "[0,0]")),\"t\":{\"x\":[{\"y\":1},{\"y\":1,\"y\":2}],"
            + entry().dropFirst() + "}",
        "tensor t: expected each key once, got y twice"),
    BadFile("unknown dtype", entry: entry("\"F31\""), "a dtype of the format, got \"F31\""),
    BadFile("dtype not text", entry: entry("32"), "dtype"),
    BadFile("negative shape", entry: entry("\"F32\"", "[-2]"), "got [-2]"),
    BadFile("shape that overflows", entry: entry("\"F32\"", "[4611686018427387904,4]"), "fit in memory"),
    BadFile(
        "shape beyond Int", entry: entry("\"F32\"", "[18446744073709551616]"),
        "tensor t: expected an object"),
    BadFile(
        "a wrong escape", entry: entry("\"F\\a32\""),
        "data_offsets [begin, end], got text or a number that cannot be read"),
    BadFile("shape with a fraction", entry: entry("\"F32\"", "[1.5]"), "tensor t: expected an object"),
    BadFile("shape of half bytes", entry: entry("\"F4\"", "[3]", "[0,1]"), "whole bytes"),
    BadFile("one offset", entry: entry("\"F32\"", "[2]", "[0]"), "[begin, end]"),
    BadFile("three offsets", entry: entry("\"F32\"", "[2]", "[0,8,8]"), "[begin, end]"),
    BadFile("negative offset", entry: entry("\"F32\"", "[2]", "[-8,0]"), "0 <= begin"),
    BadFile("offsets reversed", entry: entry("\"F32\"", "[2]", "[8,0]"), "begin <= end"),
    BadFile("offsets beyond the file", entry: entry("\"F32\"", "[3]", "[0,12]"), "within the file's 8 bytes"),
    BadFile(
        "largest offsets", entry: entry("\"F32\"", "[2]", "[9223372036854775799,9223372036854775807]"),
        "within"),
    BadFile("too few bytes", entry: entry("\"F64\"", "[2]"), "16 bytes for F64 of shape [2], got 8"),
    BadFile("a hole in front", entry: entry("\"F32\"", "[1]", "[4,8]"), "data from 0"),
    BadFile("a hole at the end", entry: entry("\"F32\"", "[1]", "[0,4]"), "4 bytes of data, all in tensors"),
    BadFile(
        "overlap", header: "{\"a\":\(entry()),\"b\":\(entry("\"F32\"", "[1]", "[4,8]"))}",
        "tensor b: expected data from 8"),
    BadFile(
        "same bytes", header: "{\"a\":\(entry()),\"b\":\(entry())}", "tensor b: expected data from 8"),
    BadFile(
        "a name with line breaks", header: "{\"a\\nb\\u2028c\":\(entry("\"X\""))}",
        "tensor a\\nb\\u{2028}c:"),
]

@Suite struct SafeTensorsHeaderTests {
    @Test(arguments: badFrames + badEntries)
    func malformedFile_isRefusedInOneLine(_ file: BadFile) throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write(file.bytes)
        let error = try #require(throws: SafeTensorsError.self) { try SafeTensorsFile(path: path) }
        #expect(error.description.contains(file.message), "\(error)")
        #expect(!error.description.contains { $0.isNewline })
        #expect(!error.isSystemError)
    }

    @Test func emptyObject_isAFileOfNoTensors() throws {
        let directory = try TemporaryDirectory()
        let file = try SafeTensorsFile(path: directory.write(fileBytes(header: "{}   ", dataCount: 0)))
        #expect(file.tensors.isEmpty && file.metadata.isEmpty)
    }

    /// The same key in different objects, and strings that look like keys.
    @Test func equalKeysOfDifferentObjects_areRead() throws {
        let directory = try TemporaryDirectory()
        let header = """
            {"a":\(entry("\"F32\"", "[1]", "[0,4]")),"b":\(entry("\"F32\"", "[1]", "[4,8]")),\
            "__metadata__":{"a":"a","b":"a","\\"a\\"":"},{\\"a","dtype":","}}
            """
        let file = try SafeTensorsFile(path: directory.write(fileBytes(header: header, dataCount: 8)))
        #expect(file.tensors.keys.sorted() == ["a", "b"])
        #expect(file.metadata == ["a": "a", "b": "a", "\"a\"": "},{\"a", "dtype": ","])
    }

    @Test func emptyTensorsAndScalars_areRead() throws {
        let directory = try TemporaryDirectory()
        let header = """
            {"a":\(entry("\"F32\"", "[0,5]", "[0,0]")),"b":\(entry("\"F64\"", "[]")),\
            "c":\(entry("\"BOOL\"", "[3,0]", "[8,8]")),"__metadata__":{"k":"v"}}
            """
        let file = try SafeTensorsFile(path: directory.write(fileBytes(header: header, dataCount: 8)))
        #expect(file.tensors.count == 3)
        #expect(file.metadata == ["k": "v"])
        #expect(try file.elements(of: "a", as: Float.self).buffer.isEmpty)
        #expect(try file.elements(of: "b", as: Double.self).buffer.count == 1)
    }

    /// Any bytes either open or throw; and what opens keeps within the file.
    @Test func mutatedFile_neverCrashes() throws {
        let directory = try TemporaryDirectory()
        let header = """
            {"__metadata__":{"m":"x"},"q":\(entry("\"F32\"", "[2,3]", "[0,24]")),\
            "lengths":\(entry("\"I32\"", "[2]", "[24,32]"))}
            """
        let seed = fileBytes(header: header, dataCount: 32)
        let tokens = [
            "-", "e9", "[", "]", "{", "}", "\"", "\\", ",", ":", "null", "99999999999999999999", "0",
        ]
        var random = SplitMix64(state: 7)
        var opened = 0
        for _ in 0..<1500 {
            var bytes = seed
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<max(bytes.count, 1), using: &random)
                guard at < bytes.count else { continue }
                switch Int.random(in: 0..<5, using: &random) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 2: bytes.removeSubrange(at...)
                case 3: bytes.remove(at: at)
                default: bytes.insert(contentsOf: Array(tokens.randomElement(using: &random)!.utf8), at: at)
                }
            }
            let path = try directory.write(bytes)
            guard let file = try? SafeTensorsFile(path: path) else { continue }
            opened += 1
            for (name, info) in file.tensors {
                #expect(info.byteRange.lowerBound >= 8 && info.byteRange.upperBound <= bytes.count)
                let sum = try file.withBytes(of: name) { $0.reduce(0) { $0 &+ Int($1) } }
                #expect(sum >= 0)
            }
        }
        #expect(opened > 30)
    }
}

/// A small generator with a seed, so that a failure can be had again.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
