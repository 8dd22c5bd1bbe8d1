#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A file that appears whole or not at all.
///
/// What is written goes to a temporary file beside the target; `commit` makes it durable and renames it over
/// the target. Without a commit the temporary file is removed with this object, and the target is as it was.
public final class AtomicFile {
    /// As it was given, for messages; and where that leads.
    private let path, target: String
    private let temporaryPath: String
    private var descriptor: Int32

    /// Creates the temporary file.
    /// - Throws: `SafeTensorsError.system` when the target could not be replaced: its directory is missing or
    ///   not writable, or it is there and is not a regular file that may be written.
    public init(path: String) throws(SafeTensorsError) {
        self.path = path
        target = try Self.target(path)
        let (directory, name) = Self.split(target)
        let tag = String(UInt64.random(in: .min ... .max), radix: 36)
        temporaryPath = "\(directory).\(name.prefix(64)).\(tag).tmp"
        descriptor = open(temporaryPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw Self.failure(path) }
        var status = stat()
        if stat(target, &status) == 0 { _ = fchmod(descriptor, status.st_mode & 0o777) }
    }

    deinit { discard() }

    /// Checks, without leaving a trace, that a file of this name could be written now: so that long work
    /// need not come first.
    /// - Throws: `SafeTensorsError.system`
    public static func checkWritable(_ path: String) throws(SafeTensorsError) {
        _ = try AtomicFile(path: path)
    }

    /// Whether two paths lead to the same file, which need not be there yet: so that what is written to one
    /// does not replace what stands at the other. False for a path to nowhere.
    public static func areSame(_ path: String, _ other: String) -> Bool {
        guard let place = place(path) else { return false }
        return place == Self.place(other)
    }


    /// Appends bytes.
    /// - Throws: `SafeTensorsError.system`; then the object is of no more use.
    public func write(_ bytes: UnsafeRawBufferPointer) throws(SafeTensorsError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            // One call writes at most 2 GiB on Linux and fails on Darwin for more.
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
            #if canImport(Darwin)
            let count = Darwin.write(descriptor, piece.baseAddress, piece.count)
            #elseif canImport(Glibc)
            let count = Glibc.write(descriptor, piece.baseAddress, piece.count)
            #else
            let count = Musl.write(descriptor, piece.baseAddress, piece.count)
            #endif
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw Self.failure(path) }
            rest = rest.dropFirst(count)
        }
    }

    /// Appends text in UTF-8.
    /// - Throws: `SafeTensorsError.system`
    public func write(_ text: String) throws(SafeTensorsError) {
        try Array(text.utf8).withBytes { bytes throws(SafeTensorsError) in try write(bytes) }
    }

    /// Puts the file in the target's place.
    /// - Throws: `SafeTensorsError.system`; then the target is as it was.
    public func commit() throws(SafeTensorsError) {
        guard fsync(descriptor) == 0 else { throw Self.failure(path) }
        let closed = close(descriptor)
        descriptor = -1
        guard closed == 0, rename(temporaryPath, target) == 0 else {
            let failure = Self.failure(path)
            unlink(temporaryPath)
            throw failure
        }
        // The rename itself is durable once the directory is; a directory that cannot be synced is no reason
        // to report a file that stands there whole as missing.
        let directory = open(Self.split(target).directory, O_RDONLY | O_CLOEXEC)
        if directory >= 0 {
            fsync(directory)
            close(directory)
        }
    }

    private func discard() {
        guard descriptor >= 0 else { return }
        close(descriptor)
        unlink(temporaryPath)
    }

    /// The file that a path leads to through symbolic links, which stay.
    private static func target(_ path: String) throws(SafeTensorsError) -> String {
        guard let target = place(path) else { throw failure(path) }
        var status = stat()
        guard stat(target, &status) == 0 else {
            guard errno == ENOENT else { throw failure(path) }
            return target
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .system(path: path, operation: "write", reason: "not a regular file")
        }
        // A rename needs no right to write the old file; whoever took that right away meant it to stay.
        guard access(target, W_OK) == 0 else { throw failure(path) }
        return target
    }

    /// Where a file is or will be, without symbolic links on the way; nil, and the reason in `errno`, for a
    /// path to nowhere.
    ///
    /// - Parameters:
    ///   - links: how many links to nothing may follow one another.
    private static func place(_ path: String, links: Int = 40) -> String? {
        if let place = realPath(path) { return place }
        let (directory, name) = split(path)
        guard errno == ENOENT, !name.isEmpty, let directory = realPath(directory) else { return nil }
        let place = directory + "/" + name
        guard links > 0, let destination = linkDestination(place) else { return place }
        let next = destination.hasPrefix("/") ? destination : directory + "/" + destination
        return Self.place(next, links: links - 1)
    }

    /// A path of what is there, without symbolic links; nil if nothing is.
    private static func realPath(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// What a symbolic link says; nil if there is none of this name.
    private static func linkDestination(_ path: String) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX) + 1) { text in
            guard let start = text.baseAddress else { return nil }
            let count = readlink(path, start, Int(PATH_MAX))
            guard count >= 0 else { return nil }
            start[count] = 0
            return String(cString: start)
        }
    }

    private static func split(_ path: String) -> (directory: String, name: Substring) {
        guard let slash = path.lastIndex(of: "/") else { return ("./", path[...]) }
        return (String(path[...slash]), path[path.index(after: slash)...])
    }

    private static func failure(_ path: String) -> SafeTensorsError {
        .system(path: path, operation: "write", reason: systemReason())
    }
}

extension Array where Element == UInt8 {
    /// `withUnsafeBytes` with a typed error.
    func withBytes(
        _ body: (UnsafeRawBufferPointer) throws(SafeTensorsError) -> Void
    ) throws(SafeTensorsError) {
        var failure: SafeTensorsError?
        withUnsafeBytes { bytes in
            do throws(SafeTensorsError) { try body(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}
