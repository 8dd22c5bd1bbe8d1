#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// The first key that an object holds twice, at the outermost level; nil if each is there once.
///
/// The JSON decoder keeps one of two equal keys and says nothing, and readers differ in which: a file with
/// one could mean one tensor here and another there.
/// - Parameters:
///   - json: an object that has been decoded already, so its syntax is known to be right.
func firstDuplicateKey(inJSONObject json: UnsafeRawBufferPointer) -> String? {
    var seen: Set<String> = []
    var depth = 0
    var expectsKey = false
    var index = 0
    while index < json.count {
        switch json[index] {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            depth += 1
            expectsKey = depth == 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            depth -= 1
        case UInt8(ascii: ","):
            expectsKey = depth == 1
        case UInt8(ascii: "\""):
            let end = endOfString(json, from: index)
            if expectsKey {
                expectsKey = false
                let text = Data(json[index..<min(end + 1, json.count)])
                // Two spellings of one key, with escapes and without, are the same key.
                if let key = try? JSONDecoder().decode(String.self, from: text),
                    !seen.insert(key).inserted
                {
                    return key
                }
            }
            index = end
        default: break
        }
        index += 1
    }
    return nil
}

/// The index of the quotation mark that ends the string which starts at `start`.
private func endOfString(_ json: UnsafeRawBufferPointer, from start: Int) -> Int {
    var index = start + 1
    while index < json.count, json[index] != UInt8(ascii: "\"") {
        index += json[index] == UInt8(ascii: "\\") ? 2 : 1
    }
    return min(index, json.count)
}
