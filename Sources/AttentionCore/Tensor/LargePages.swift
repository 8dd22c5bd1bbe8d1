#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Large pages for the memory that this library allocates.
///
/// Linux gives most programs pages of 4 kB, a processor's own prefetching ends with a page, and a stream
/// through memory finds the page's address anew 512 times where a page of 2 MB has it once. A system that is
/// set to give large pages on request (`madvise`, as most are) does so for memory that it is asked for before
/// it is first touched. Elsewhere nothing is asked for. What it is worth: `Docs/Performance.md`.
package enum LargePages {
    /// Bytes of a large page.
    package static let size = 2 << 20
    /// The least that is worth them: of less, what does not fill a page would be a good part.
    package static let leastBytes = 4 << 20

    /// Asks for large pages under memory that has just been allocated; refused or not, the memory is as
    /// before.
    package static func request(for memory: UnsafeMutableRawBufferPointer) {
        #if os(Linux)
        guard memory.count >= leastBytes, let start = memory.baseAddress else { return }
        // Whole small pages, which is what the call takes.
        let first = UInt(bitPattern: start) & ~UInt(sysconf(Int32(_SC_PAGESIZE)) - 1)
        let end = UInt(bitPattern: start) + UInt(memory.count)
        madvise(UnsafeMutableRawPointer(bitPattern: first), Int(end - first), MADV_HUGEPAGE)
        #endif
    }
}
