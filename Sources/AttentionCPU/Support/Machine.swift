import AttentionCore
import CProcessor
import TileKernelTable

/// The machine's own limits.
package enum Machine {
    package static var processorCount: Int { Int(processor_count()) }

    package static func cacheBytes(_ level: Int) -> Int { Int(processor_cache_bytes(Int32(level))) }

    /// GFLOP/s of multiply-adds in registers, `threads` at once; a round is some nanoseconds.
    package static func multiplyAddPeak(
        threads: Int, _ loop: @escaping TileKernelTable.MultiplyAddLoop, rounds: Int = 2_000_000
    ) -> Double {
        best(of: 7) {
            parallelTiles(threads, threads: threads, scratch: { _ in Double.zero }) { _, seed in
                _ = loop(rounds, &seed)
            }
        } work: {
            var seed = 0.0
            return Double(threads * loop(rounds, &seed))
        }
    }

    /// GB/s read from memory, `threads` at once, in pieces that they take as they come: with a fixed part for
    /// each, the thread that started last or shares its core is what is measured.
    package static func memoryBandwidth(
        threads: Int, _ kernels: TileKernelTable
    ) throws(AttentionError) -> Double {
        // Eight times the last cache, within reason: a guest may report the cache of a whole host.
        let piece = 1 << 20
        let pieces = min(max(8 * cacheBytes(3), 128 << 20), 512 << 20) / piece
        let buffer = try AlignedBuffer(byteCount: pieces * piece)
        buffer.base.initializeMemory(as: UInt8.self, repeating: 0, count: buffer.byteCount)
        let memory = buffer.base
        let speed = best(of: 5) {
            parallelTiles(pieces, threads: threads, scratch: { _ in Double.zero }) { task, sum in
                kernels.readStream(piece / kernels.scalarSize, memory + task * piece, &sum)
            }
        } work: {
            Double(pieces * piece)
        }
        withExtendedLifetime(buffer) {}
        return speed
    }

    /// Work per nanosecond in the fastest of some runs.
    private static func best(of runs: Int, _ run: () -> Void, work: () -> Double) -> Double {
        let clock = ContinuousClock()
        var fastest = Duration.seconds(3600)
        for _ in 0..<runs { fastest = min(fastest, clock.measure(run)) }
        let (seconds, attoseconds) = fastest.components
        return work() / (Double(seconds) * 1e9 + Double(attoseconds) * 1e-9)
    }
}
