#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A file's bytes, mapped read-only, unmapped with the last reference.
///
/// Pages are read when they are first touched, so opening a large file costs nothing. A file that somebody
/// else cuts short while it is mapped ends the process, as with every mapped file; files that are replaced
/// by renaming, as ours are, do not.
final class MappedFile: Sendable {
    /// The file's bytes, at the start of a page. Safe to share: the pages are never written.
    nonisolated(unsafe) let bytes: UnsafeRawBufferPointer

    /// - Throws: `SafeTensorsError.system` when the file cannot be opened or mapped, or is no regular file.
    init(path: String) throws(SafeTensorsError) {
        // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .system(path: path, operation: "open", reason: systemReason()) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw .system(path: path, operation: "read", reason: systemReason())
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .system(path: path, operation: "read", reason: "not a regular file")
        }
        let count = Int(status.st_size)
        guard count > 0 else {
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        guard let memory = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), memory != MAP_FAILED
        else { throw .system(path: path, operation: "map", reason: systemReason()) }
        bytes = UnsafeRawBufferPointer(start: memory, count: count)
    }

    deinit {
        if let start = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: start), bytes.count) }
    }
}

/// What the operating system says about the call that has just failed.
func systemReason() -> String {
    String(cString: strerror(errno))
}
