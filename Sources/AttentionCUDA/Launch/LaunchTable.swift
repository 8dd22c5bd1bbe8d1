import AttentionCore
import CTileABI

/// The formats that the kernels compute in, as their names have them.
package enum KernelFormat: String, Hashable, Sendable {
    case bf16, f16, f32

    package var byteCount: Int { self == .f32 ? 4 : 2 }

    /// The format of an element type; nil if the kernels have none.
    package init?(_ element: any AttentionElement.Type) {
        switch element {
        case is Float.Type: self = .f32
        case is BFloat16.Type: self = .bf16
        default:
            #if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
            guard element is Float16.Type else { return nil }
            self = .f16
            #else
            return nil
            #endif
        }
    }
}

/// One attention problem on a device: what selects its kernels.
package struct LaunchProblem: Hashable, Sendable {
    package var shape: AttentionShape
    package var mask: AttentionMask
    package var softmaxScale: Double
    package var algorithm: AttentionAlgorithm
    package var format: KernelFormat
    /// dQ without atomics.
    package var deterministic: Bool
    /// Ranges that the keys are split into when decoding: one kernel's work, which has them even if there is
    /// but one. Nil for any other kernel.
    package var splits: Int?
    let multiprocessorCount: Int

    /// - Parameters:
    ///   - multiprocessorCount: of the device, which decides how far keys are split and which problems are
    ///     small.
    package init(
        shape: AttentionShape, mask: AttentionMask, softmaxScale: Double, algorithm: AttentionAlgorithm,
        format: KernelFormat, deterministic: Bool, multiprocessorCount: Int
    ) {
        self.shape = shape
        self.mask = mask
        self.softmaxScale = softmaxScale
        self.algorithm = algorithm
        self.format = format
        self.deterministic = deterministic
        self.multiprocessorCount = multiprocessorCount
        splits = Self.splits(shape, algorithm, multiprocessorCount)
    }

    /// Keys are split when a group's query rows fit one tile and the keys make two ranges of 256. A block
    /// takes a range and most of a processor's shared memory: the fewest ranges with which at most a
    /// sixteenth of the processors is idle, over all rounds of blocks; with no such number, the one with
    /// which the fewest are.
    private static func splits(
        _ shape: AttentionShape, _ algorithm: AttentionAlgorithm, _ processors: Int
    ) -> Int? {
        let rows = shape.queryLength * shape.groupSize
        let heads = shape.batch * shape.keyValueHeads
        guard algorithm == .flashAttention2, rows <= 16, heads > 0, shape.keyLength >= 512 else { return nil }
        func busy(_ splits: Int) -> Double {
            let blocks = heads * splits
            return Double(blocks) / Double(blocks.roundedUp(toMultipleOf: processors))
        }
        let counts = 1...min(shape.keyLength / 256, processors)
        return counts.first { busy($0) >= 15.0 / 16 } ?? counts.max { busy($0) < busy($1) }
    }

    /// Whether large tiles would leave processors idle, so that small ones are quicker: FlashAttention-2 in
    /// F32 has both. At 4 heads of 1024, D 64: forward 52 in place of 102 µs, backward 84 in place of 125.
    package func isSmall(_ pass: AttentionPass) -> Bool {
        guard algorithm == .flashAttention2, format == .f32 else { return false }
        let s = shape
        func blocks(_ length: Int, _ heads: Int, _ tile: Int) -> Int {
            TilePlan.tiles(length, of: tile) * heads * s.batch
        }
        return switch pass {
        case .forward: blocks(s.queryLength, s.heads, 128) <= multiprocessorCount
        case .backward: 2 * blocks(s.keyLength, s.keyValueHeads, 64) <= multiprocessorCount
        }
    }

    /// The smallest head size with a kernel of its own that holds both D and Dv; nil above 256.
    package var bucket: Int? {
        let size = max(shape.headSize, shape.valueHeadSize)
        let buckets = algorithm == .flashAttention1 ? [64, 128, 256] : [32, 64, 96, 128, 192, 256]
        return buckets.first { $0 >= size }
    }

    /// Query rows of the working memory: Nq rounded up.
    package var paddedRows: Int { shape.queryLength.roundedUp(toMultipleOf: Int(TileRowPadding)) }

    /// What the device does not compute, by name; nil if it does.
    package var refusal: String? {
        if bucket == nil {
            return "cuda: expected head sizes up to 256, "
                + "got D = \(shape.headSize) and Dv = \(shape.valueHeadSize)"
        }
        let heads = max(shape.batch * shape.heads, shape.batch, shape.heads, shape.keyValueHeads)
        let length = max(shape.queryLength, shape.keyLength)
        // A grid's second and third dimensions end at 65 535, and rows are counted in 32 bits.
        if heads > 65_535 { return "cuda: expected B · H up to 65535, got \(heads)" }
        if length > 1 << 24 { return "cuda: expected lengths up to \(1 << 24), got \(length)" }
        if algorithm == .naive, shape.rowCount > (1 << 48) / max(shape.keyLength, 1) {
            return "cuda: expected at most 2^48 scores of naive attention, "
                + "got \(shape.rowCount) rows of \(shape.keyLength)"
        }
        return nil
    }
}

/// One kernel of a pass.
package struct LaunchStep: Hashable, Sendable {
    package var name: String
    package var module: KernelModule
    /// The blocks, once the kernel's tile sizes are known.
    package var grid: GridRule
    /// Heads whose blocks share their keys (or queries): sets pairsAtOnce.
    package var pairs: Int
    package var pairBytes: Int
}

/// How a launch's blocks follow from its kernel's tiles.
package enum GridRule: Hashable, Sendable {
    /// One block a tile of so many query rows, times heads, in one dimension.
    case queryTiles(rows: Int, heads: Int)
    /// One block a tile of so many keys, times heads, in one dimension.
    case keyTiles(keys: Int, heads: Int)
    /// Query tiles by heads.
    case rows(Int, heads: Int)
    /// Key tiles by query tiles by heads; columns instead of keys for a product's tiles of 64.
    case tiles(Int, Int, heads: Int)
    case fixed(Grid)

    package func grid(_ geometry: TileKernelGeometry) -> Grid {
        switch self {
        case .queryTiles(let rows, let heads): Grid(count(rows, geometry.queryTile) * heads)
        case .keyTiles(let keys, let heads): Grid(count(keys, geometry.keyTile) * heads)
        case .rows(let rows, let heads): Grid(count(rows, geometry.queryTile), heads)
        case .tiles(let columns, let rows, let heads):
            Grid(count(columns, geometry.keyTile), count(rows, geometry.queryTile), heads)
        case .fixed(let grid): grid
        }
    }

    private func count(_ length: Int, _ tile: Int32) -> Int { TilePlan.tiles(length, of: Int(tile)) }
}
