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

    /// Runs the body for every key tile: batch entry, key/value head and tile, in ascending order. A batch
    /// entry with fewer keys has fewer tiles than there are calls.
    static func forEachKeyTile(
        _ c: CPUContext, _ memory: WorkMemory, _ body: (_ b: Int, _ hkv: Int, _ j: Int, Scratch) -> Void
    ) {
        forEach(c, memory, heads: c.shape.keyValueHeads, tiles: c.keyTileCount, body)
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
        let rowTiles = c.queryTileCount
        forEach(c, memory, heads: c.shape.keyValueHeads, tiles: rowTiles * c.splitCount) { b, hkv, t, scratch in
            body(b, hkv, t % rowTiles, t / rowTiles, scratch)
        }
    }

    private static func forEach(
        _ c: CPUContext, _ memory: WorkMemory, heads: Int, tiles: Int,
        _ body: (Int, Int, Int, Scratch) -> Void
    ) {
        parallelTiles(
            c.shape.batch * heads * tiles, threads: c.threads, team: c.team,
            scratch: { memory.worker($0) { Self.scratch(c, &$0) } }
        ) { task, scratch in
            body(task / (heads * tiles), task / tiles % heads, task % tiles, scratch)
        }
    }
}
