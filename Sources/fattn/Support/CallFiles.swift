import SafeTensors

/// Checks the files of a call: what it writes takes the place neither of what it reads nor of what else it
/// writes.
///
/// - Parameters:
///   - read: paths by the options that name them; nil for an option that is not there. And so below.
/// - Throws: `CommandError.usage`
func checkFiles(read: KeyValuePairs<String, String?>, written: KeyValuePairs<String, String?>) throws {
    var known = read.compactMap { option, path in path.map { (option: option, path: $0) } }
    for case (let option, let path?) in written {
        if let other = known.first(where: { AtomicFile.areSame($0.path, path) }) {
            throw CommandError.usage(
                "\(option): expected another file than that of \(other.option), got '\(path)'")
        }
        known.append((option, path))
    }
}
