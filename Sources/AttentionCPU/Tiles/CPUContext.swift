import AttentionCore
import TileKernelTable

/// What is the same for every tile of one pass of a planned problem.
package struct CPUContext: Sendable {
    let shape: AttentionShape
    let mask: AttentionMask
    let softmaxScale: Double
    let tiles: TileSizes
    /// How the keys are split among tasks; nil unless the algorithm does so.
    let keySplits: KeySplits?
    /// Whether S is made of dot products with K as it lies: with few rows, packing costs more than it saves.
    /// Both passes do the same, so that the backward pass finds the forward pass's scores to the last bit.
    let takesDots: Bool
    /// Workers, each with memory of its own.
    var threads: Int
    /// Who brings their threads.
    let team: ThreadTeam
    let kernels: TileKernelTable
    /// How blocks of the operands are loaded and stored; nil if they hold what is computed in.
    let conversion: ElementConversion?
    /// The kernels over pairs of BF16, if they multiply the blocks.
    var pairs: PairKernelTable?
    /// BLAS, if it multiplies the blocks.
    let blas: BLAS?

    /// The factor that turns scores into P: the scale's magnitude. A scale of 0 is replaced by a number so
    /// small that P is the same to the last digit: unlike 0 it keeps the −∞ of a masked score, and one can
    /// divide by it.
    func scoreScale<Scalar: AttentionScalar>() -> Scalar { max(Scalar(abs(softmaxScale)), 1e-30) }

    /// The heads whose rows share a tile: with split keys those of a group, which share K and V.
    private var headsOfTile: Int { keySplits == nil ? 1 : shape.groupSize }

    /// The plan of a batch entry.
    func plan(_ b: Int, _ keyLengths: UnsafeBufferPointer<Int32>?) -> TilePlan {
        TilePlan(
            queryLength: shape.queryLength, keyLength: keyLengths.map { Int($0[b]) } ?? shape.keyLength,
            mask: mask, sizes: tiles, groupSize: headsOfTile)
    }

    /// Tr, which is the same for all batch entries.
    var queryTileCount: Int { TilePlan.tiles(shape.queryLength * headsOfTile, of: tiles.queries) }

    /// Tc of a batch entry with all its keys: the most that any has.
    var keyTileCount: Int { TilePlan.tiles(shape.keyLength, of: tiles.keys) }

    /// The most splits of a batch entry.
    var splitCount: Int { keySplits?.count(keyTiles: keyTileCount) ?? 1 }

    /// The most tasks that any loop of an algorithm has.
    var taskCount: Int {
        shape.batch * max(shape.heads * queryTileCount, shape.keyValueHeads * keyTileCount)
    }

    /// Br, or the rows there are if they are fewer.
    var tileRows: Int { min(tiles.queries, shape.queryLength * headsOfTile) }

    /// Bc, or Nk if that is less.
    var tileKeys: Int { min(tiles.keys, shape.keyLength) }

    /// The row stride of a tile of our own with n columns: whole panels, as the micro-kernels write them.
    func paddedColumns(_ n: Int) -> Int { n.roundedUp(toMultipleOf: kernels.panelWidth) }

    /// The row stride of a matrix `[·][Nk]` that is written tile by tile: the last tile may begin anywhere,
    /// and the micro-kernels fill its last vector.
    var paddedScoreColumns: Int { paddedColumns(shape.keyLength + kernels.lanes - 1) }

    /// Memory to load blocks of the operands into; none where they are taken as they lie.
    func loaded<Scalar>(_ rows: Int, _ columns: Int, _ arena: inout Arena) -> MutableBlock<Scalar> {
        arena.block(conversion == nil ? 0 : rows, columns, stride: paddedColumns(columns))
    }

    /// Scratch that the GEMMs need for a pass over these tiles.
    var gemmScratch: Int {
        kernels.gemmScratch(depth: max(tileRows, tileKeys, splitCount, shape.headSize, shape.valueHeadSize))
    }
}

/// Memory for one call: a part that all workers share, and a part for each of them.
struct WorkMemory {
    let shared: UnsafeMutableRawPointer
    let workers: UnsafeMutableRawPointer
    let workerStride: Int

    /// Lays out the shared part.
    func shared<T>(_ layout: (inout Arena) -> T) -> T {
        var arena = Arena(shared)
        return layout(&arena)
    }

    /// Lays out a worker's part.
    func worker<T>(_ worker: Int, _ layout: (inout Arena) -> T) -> T {
        var arena = Arena(workers + worker * workerStride)
        return layout(&arena)
    }
}
