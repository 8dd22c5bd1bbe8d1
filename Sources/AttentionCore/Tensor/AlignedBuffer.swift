#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Memory of our own, aligned to a cache line, freed with its owner.
package struct AlignedBuffer: ~Copyable {
    package static let alignment = 64
    package let base: UnsafeMutableRawPointer
    package let byteCount: Int

    /// - Throws: `AttentionError.outOfMemory`. The contents are undefined.
    package init(byteCount: Int) throws(AttentionError) {
        var memory: UnsafeMutableRawPointer?
        guard posix_memalign(&memory, Self.alignment, max(byteCount, 1)) == 0, let memory else {
            throw .outOfMemory(bytes: byteCount)
        }
        base = memory
        self.byteCount = byteCount
    }

    deinit { free(base) }
}
