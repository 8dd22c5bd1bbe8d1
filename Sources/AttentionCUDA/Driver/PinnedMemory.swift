import AttentionCore
import CCUDADriver
import Synchronization

/// Page-locked host memory, which the device copies from and to without a detour.
///
/// It is kept for another use when nobody holds it any more and the streams that copy from or to it have
/// passed: taking such memory from the system costs more than the copy.
package final class PinnedMemory: Sendable {
    package nonisolated(unsafe) let bytes: UnsafeMutableRawBufferPointer
    package let device: CUDADevice
    private let block: PinnedBlocks.Block
    private let users = Mutex<[CUDAStream]>([])

    /// - Throws: `AttentionError.outOfMemory` when the system has not so much left.
    package init(byteCount: Int, for device: CUDADevice) throws(AttentionError) {
        self.device = device
        block = try device.pinnedBlocks.take(byteCount, device)
        bytes = UnsafeMutableRawBufferPointer(start: block.address, count: byteCount)
    }

    /// Says that work which is queued on the stream next copies from or to the memory.
    package func use(on stream: CUDAStream) {
        users.withLock { users in
            if !users.contains(where: { $0 === stream }) { users.append(stream) }
        }
    }

    deinit {
        var marks: [CUDAEvent] = []
        for stream in users.withLock({ $0 }) {
            do throws(AttentionError) {
                let mark = try CUDAEvent(stream.device, timed: false)
                try mark.record(on: stream)
                marks.append(mark)
            } catch {
                try? stream.synchronize()
            }
        }
        device.pinnedBlocks.giveBack(block, after: marks, device.driver)
    }
}

/// The page-locked memory of a device that nobody holds.
final class PinnedBlocks: Sendable {
    struct Block: Sendable {
        nonisolated(unsafe) let address: UnsafeMutableRawPointer
        let byteCount: Int
    }

    private struct Resting {
        var block: Block
        /// The block may be used again when these have passed.
        var marks: [CUDAEvent]

        var hasPassed: Bool { marks.allSatisfy(\.isOver) }

        func free(_ driver: CUDADriver) {
            for mark in marks { try? mark.synchronize() }
            _ = driver.functions.hostFree(block.address)
        }
    }

    private let resting = Mutex<[Resting]>([])
    /// What is kept at most, in bytes.
    private static let limit = 1 << 30

    /// The smallest block that is large enough and not too large; a new one if there is none.
    func take(_ byteCount: Int, _ device: CUDADevice) throws(AttentionError) -> Block {
        let size = Self.rounded(byteCount)
        let found: Block? = resting.withLock { resting in
            let fitting = resting.indices.filter {
                resting[$0].block.byteCount >= size && resting[$0].block.byteCount <= 2 * size
                    && resting[$0].hasPassed
            }
            let best = fitting.min { resting[$0].block.byteCount < resting[$1].block.byteCount }
            return best.map { resting.remove(at: $0).block }
        }
        if let found { return found }
        try device.makeCurrent()
        if let new = Self.allocate(size, device.driver) { return new }
        removeAll(device.driver)
        guard let new = Self.allocate(size, device.driver) else { throw .outOfMemory(bytes: byteCount) }
        return new
    }

    func giveBack(_ block: Block, after marks: [CUDAEvent], _ driver: CUDADriver) {
        // Only marks that are still to come are kept: each holds on to the device.
        let ahead = marks.filter { !$0.isOver }
        let excess: [Resting] = resting.withLock { resting in
            resting.append(Resting(block: block, marks: ahead))
            var excess: [Resting] = []
            var total = resting.reduce(0) { $0 + $1.block.byteCount }
            while total > Self.limit, !resting.isEmpty {
                let oldest = resting.removeFirst()
                total -= oldest.block.byteCount
                excess.append(oldest)
            }
            return excess
        }
        for block in excess { block.free(driver) }
    }

    /// Frees every block that nobody holds.
    func removeAll(_ driver: CUDADriver) {
        let blocks = resting.withLock { resting in
            defer { resting.removeAll() }
            return resting
        }
        for block in blocks { block.free(driver) }
    }

    private static func allocate(_ byteCount: Int, _ driver: CUDADriver) -> Block? {
        var address: UnsafeMutableRawPointer?
        guard driver.functions.hostAllocate(&address, byteCount, UInt32(CUDAHostPortable)) == 0, let address
        else { return nil }
        return Block(address: address, byteCount: byteCount)
    }

    /// Sizes in steps of an eighth of their power of two, so that blocks fit more than one use.
    private static func rounded(_ byteCount: Int) -> Int {
        let least = max(byteCount, 4096)
        let step = 1 << (Int.bitWidth - 1 - least.leadingZeroBitCount - 3)
        return least.roundedUp(toMultipleOf: step)
    }
}

extension CUDAEvent {
    /// A mark that cannot be asked is one of a device that has failed, whose copies have ended.
    fileprivate var isOver: Bool { (try? hasPassed()) ?? true }
}
