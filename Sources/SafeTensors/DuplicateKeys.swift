#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// The way to the first key that an object, the outermost or one within, holds twice: `["q", "dtype"]` for a
/// second `dtype` in the object under `q`. Nil if each is there once.
///
/// The JSON decoder keeps one of two equal keys and says nothing, and readers differ in which: a file with
/// one could mean one tensor here and another there.
/// - Parameters:
///   - json: has been decoded already, so its syntax is known to be right.
func firstDuplicateKey(inJSON json: UnsafeRawBufferPointer) -> [String]? {
    var open: [JSONContainer] = []
    var index = 0
    while index < json.count {
        switch json[index] {
        case UInt8(ascii: "{"): open.append(JSONContainer(isObject: true))
        case UInt8(ascii: "["): open.append(JSONContainer(isObject: false))
        case UInt8(ascii: "}"), UInt8(ascii: "]"): _ = open.popLast()
        case UInt8(ascii: ","):
            if let last = open.indices.last { open[last].expectsKey = open[last].isObject }
        case UInt8(ascii: "\""):
            let end = endOfString(json, from: index)
            if let last = open.indices.last, open[last].expectsKey {
                open[last].key = key(json[index..<min(end + 1, json.count)])
                open[last].expectsKey = false
                if !open[last].seen.insert(open[last].key).inserted {
                    return open.filter(\.isObject).map(\.key)
                }
            }
            index = end
        default: break
        }
        index += 1
    }
    return nil
}

/// An object or array that has begun and not ended.
private struct JSONContainer {
    let isObject: Bool
    /// Whether the next string is a key.
    var expectsKey: Bool
    var key = ""
    var seen: Set<String> = []

    init(isObject: Bool) {
        self.isObject = isObject
        expectsKey = isObject
    }
}

/// What a string with its quotation marks says: with and without escapes, it may be the same key.
private func key(_ quoted: Slice<UnsafeRawBufferPointer>) -> String {
    guard quoted.contains(UInt8(ascii: "\\")),
        let key = try? JSONDecoder().decode(String.self, from: Data(quoted))
    else { return String(decoding: quoted.dropFirst().dropLast(), as: UTF8.self) }
    return key
}

/// The index of the quotation mark that ends the string which starts at `start`.
private func endOfString(_ json: UnsafeRawBufferPointer, from start: Int) -> Int {
    var index = start + 1
    while index < json.count, json[index] != UInt8(ascii: "\"") {
        index += json[index] == UInt8(ascii: "\\") ? 2 : 1
    }
    return min(index, json.count)
}
