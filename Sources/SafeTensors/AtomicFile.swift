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
    private let path: String
    private let temporaryPath: String
    private var descriptor: Int32

    /// Creates the temporary file.
    /// - Throws: `SafeTensorsError.system` when the target could not be replaced: its directory is missing or
    ///   not writable, or it is there and is not a regular file that may be written.
    public init(path: String) throws(SafeTensorsError) {
        let target = try Self.target(path)
        self.path = target
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

    /// Whether two paths lead to the same file, which need not be there yet: so that one of two results does
    /// not replace the other.
    /// - Throws: `SafeTensorsError.system` for a path to nowhere.
    public static func areSame(_ path: String, _ other: String) throws(SafeTensorsError) -> Bool {
        try fullPath(path) == fullPath(other)
    }

    /// Where a file is or will be, without symbolic links on the way.
    private static func fullPath(_ path: String) throws(SafeTensorsError) -> String {
        let (directory, name) = split(try target(path))
        guard let resolved = realpath(directory, nil) else { throw failure(path) }
        defer { free(resolved) }
        return String(cString: resolved) + "/" + name
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
        guard closed == 0, rename(temporaryPath, path) == 0 else {
            let failure = Self.failure(path)
            unlink(temporaryPath)
            throw failure
        }
        // The rename itself is durable once the directory is; a directory that cannot be synced is no reason
        // to report a file that stands there whole as missing.
        let directory = open(Self.split(path).directory, O_RDONLY | O_CLOEXEC)
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
        var status = stat()
        guard stat(path, &status) == 0 else {
            guard errno == ENOENT, !path.isEmpty, !path.hasSuffix("/") else { throw failure(path) }
            return path
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .system(path: path, operation: "write", reason: "not a regular file")
        }
        // A rename needs no right to write the old file; whoever took that right away meant it to stay.
        guard access(path, W_OK) == 0, let resolved = realpath(path, nil) else { throw failure(path) }
        defer { free(resolved) }
        return String(cString: resolved)
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
