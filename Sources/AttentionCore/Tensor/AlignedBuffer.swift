#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Memory of our own, aligned to a cache line, or in large pages where it is large; freed with its owner.
package struct AlignedBuffer: ~Copyable {
    package static let alignment = 64
    package let base: UnsafeMutableRawPointer
    package let byteCount: Int

    /// - Throws: `AttentionError.outOfMemory`. The contents are undefined.
    package init(byteCount: Int) throws(AttentionError) {
        let alignment = byteCount < LargePages.leastBytes ? Self.alignment : LargePages.size
        var memory: UnsafeMutableRawPointer?
        guard posix_memalign(&memory, alignment, max(byteCount, 1)) == 0, let memory else {
            throw .outOfMemory(bytes: byteCount)
        }
        LargePages.request(for: UnsafeMutableRawBufferPointer(start: memory, count: byteCount))
        base = memory
        self.byteCount = byteCount
    }

    deinit { free(base) }
}
