import AttentionCore

/// An algorithm and pass on the CPU. The layouts are run twice: with a counting arena when the problem is
/// planned, and over the memory when it runs.
protocol CPUAlgorithm {
    /// What the operands hold.
    associatedtype Element: CPUElement
    associatedtype Operands
    /// Memory that the workers share, by name.
    associatedtype Shared
    /// A worker's own memory, by name.
    associatedtype Scratch

    static func shared(_ context: CPUContext, _ arena: inout Arena) -> Shared
    static func scratch(_ context: CPUContext, _ arena: inout Arena) -> Scratch
    static func run(_ context: CPUContext, _ operands: Operands, _ memory: WorkMemory)
}

extension CPUAlgorithm where Shared == Void {
    static func shared(_ context: CPUContext, _ arena: inout Arena) {}
}

// What runs in parallel, and in which order it starts.

extension CPUAlgorithm {
    /// Runs the body for every query tile: batch entry, query head and tile, last tiles first, for under a
    /// causal mask they are the longest.
    static func forEachQueryTile(
        _ c: CPUContext, _ memory: WorkMemory, _ body: (_ b: Int, _ h: Int, _ i: Int, Scratch) -> Void
    ) {
        forEach(c, memory, heads: c.shape.heads, tiles: c.queryTileCount) { b, h, position, scratch in
            body(b, h, c.queryTileCount - 1 - position, scratch)
        }
    }

    /// Runs the body for every key tile: batch entry, key/value head and tile. A batch entry with fewer keys
    /// has fewer tiles than there are calls.
    ///
    /// Tiles of one head follow each other, and threads at work on them share what they read; but they wait
    /// for each other's turns at dQ. Under a causal mask the waits are uneven, so there as many heads as
    /// there are threads go side by side, each in ascending order, as long as a head is small: B1 H8 N512 D64
    /// 4.6 to 3.7 ms, N2048 55.7 to 52.4, with D 128 111 to 107; but N4096 D128 210 to 217, and without a
    /// mask always a loss.
    static func forEachKeyTile(
        _ c: CPUContext, _ memory: WorkMemory, _ body: (_ b: Int, _ hkv: Int, _ j: Int, Scratch) -> Void
    ) {
        let heads = c.shape.batch * c.shape.keyValueHeads
        let rowBytes = (2 * c.shape.headSize + c.shape.valueHeadSize) * c.kernels.scalarSize
        let isSmall = c.shape.groupSize * c.shape.queryLength * rowBytes <= 4 << 20
        let abreast = c.mask != .full && isSmall ? c.threads : 1
        forEach(c, memory, count: heads * c.keyTileCount) { task, scratch in
            let first = task / (abreast * c.keyTileCount) * abreast
            let together = min(abreast, heads - first)
            let place = task - first * c.keyTileCount
            let head = first + place % together
            body(head / c.shape.keyValueHeads, head % c.shape.keyValueHeads, place / together, scratch)
        }
    }

    /// Runs the body for every one of so many heads of every batch entry.
    static func forEachHead(
        _ c: CPUContext, _ memory: WorkMemory, of heads: Int, _ body: (_ b: Int, _ h: Int, Scratch) -> Void
    ) {
        forEach(c, memory, heads: heads, tiles: 1) { b, h, _, scratch in body(b, h, scratch) }
    }

    /// Runs the body for every split of the keys: batch entry, key/value head, tile of the group's rows and
    /// split. The row tiles of a split follow each other, so that its keys are still in a cache.
    static func forEachSplit(
        _ c: CPUContext, _ memory: WorkMemory,
        _ body: (_ b: Int, _ hkv: Int, _ i: Int, _ s: Int, Scratch) -> Void
    ) {
        let (heads, rowTiles) = (c.shape.keyValueHeads, c.queryTileCount)
        forEach(c, memory, heads: heads, tiles: rowTiles * c.splitCount) { b, hkv, t, scratch in
            body(b, hkv, t % rowTiles, t / rowTiles, scratch)
        }
    }

    private static func forEach(
        _ c: CPUContext, _ memory: WorkMemory, heads: Int, tiles: Int,
        _ body: (Int, Int, Int, Scratch) -> Void
    ) {
        forEach(c, memory, count: c.shape.batch * heads * tiles) { task, scratch in
            body(task / (heads * tiles), task / tiles % heads, task % tiles, scratch)
        }
    }

    private static func forEach(
        _ c: CPUContext, _ memory: WorkMemory, count: Int, _ body: (_ task: Int, Scratch) -> Void
    ) {
        parallelTiles(
            count, threads: c.threads, team: c.team, scratch: { memory.worker($0) { Self.scratch(c, &$0) } }
        ) { task, scratch in body(task, scratch) }
    }
}
