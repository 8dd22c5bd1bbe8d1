import AttentionCore
import AttentionCPU
import Synchronization
import TileKernelTable

/// The limits of one core for a kernel table, measured with the table's own loops: the best seen so far.
package final class KernelMachine: Sendable {
    private let table: TileKernelTable
    private let multiplyAddLoop: TileKernelTable.MultiplyAddLoop
    /// Multiply-adds per second, and bytes per second by how many are read.
    private let best = Mutex<(multiplyAdds: Double, reads: [Int: Double])>((0, [:]))

    /// - Parameters:
    ///   - multiplyAddLoop: in place of the table's own, for kernels of another instruction.
    package init(_ table: TileKernelTable, multiplyAddLoop: TileKernelTable.MultiplyAddLoop? = nil) {
        self.table = table
        self.multiplyAddLoop = multiplyAddLoop ?? table.multiplyAddLoop
    }

    /// Measured again at every call: on a machine with other work to do, one that was taken in a slow spell
    /// would flatter a kernel that runs in a fast one.
    package func limit(_ work: KernelWork) throws(AttentionError) -> Double {
        let adding = fastest { [multiplyAddLoop] in
            var seed = 0.0
            _ = multiplyAddLoop(Self.rounds, &seed)
        }
        var seed = 0.0
        let multiplyAdds = Double(multiplyAddLoop(1, &seed)) / 2 * Double(Self.rounds) / adding
        let reading = work.bytes > 0 ? try readingRate(work.bytes) : nil
        return best.withLock { best in
            best.multiplyAdds = max(best.multiplyAdds, multiplyAdds)
            var limit = Double(work.multiplyAdds) / best.multiplyAdds
            if let reading {
                let rate = max(best.reads[work.bytes] ?? 0, reading)
                best.reads[work.bytes] = rate
                limit = max(limit, Double(work.bytes) / rate)
            }
            return limit
        }
    }

    private static let rounds = 100_000

    /// Bytes per second where so many are read again and again, from the cache that holds them.
    private func readingRate(_ bytes: Int) throws(AttentionError) -> Double {
        // Whole steps of the loop, of 8 vectors each.
        let step = 8 * table.lanes
        let count = max(bytes / table.scalarSize / step, 1) * step
        let buffer = try AlignedBuffer(byteCount: count * table.scalarSize)
        buffer.base.initializeMemory(as: UInt8.self, repeating: 0, count: buffer.byteCount)
        let repeats = max(1, 1 << 20 / count)
        let memory = buffer.base
        let seconds = fastest { [table] in
            var sum = 0.0
            for _ in 0..<repeats { table.readStream(count, memory, &sum) }
        }
        withExtendedLifetime(buffer) {}
        return Double(repeats * count * table.scalarSize) / seconds
    }

    private func fastest(_ run: () -> Void) -> Double {
        let clock = ContinuousClock()
        var fastest = Duration.seconds(3600)
        for _ in 0..<5 { fastest = min(fastest, clock.measure(run)) }
        return fastest / .seconds(1)
    }
}
