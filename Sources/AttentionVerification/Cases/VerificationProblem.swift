import FlashAttention

/// A problem of the grid, with how its operands lie in memory and how it is cut up.
struct VerificationProblem {
    var problem: VerificationCase.Problem
    var layout: TensorLayout = .bhnd
    var padding = 0
    var threads = 2
    var tiles: TileSizes?

    /// - Parameters:
    ///   - sizes: B, H, Hkv, Nq, Nk, D, Dv.
    init(
        _ sizes: (Int, Int, Int, Int, Int, Int, Int), _ mask: AttentionMask = .full, lengths: [Int]? = nil,
        scale: Double? = nil, inputs: InputKind = .normal, tiles: (Int, Int)? = nil,
        layout: TensorLayout = .bhnd, padding: Int = 0, threads: Int = 2
    ) {
        problem = VerificationCase.Problem(
            AttentionShape(
                batch: sizes.0, heads: sizes.1, keyValueHeads: sizes.2, queryLength: sizes.3,
                keyLength: sizes.4, headSize: sizes.5, valueHeadSize: sizes.6))
        problem.mask = mask
        problem.keyLengths = lengths
        problem.softmaxScale = scale
        problem.inputs = inputs
        self.tiles = tiles.map { TileSizes(queries: $0.0, keys: $0.1) }
        self.layout = layout
        self.padding = padding
        self.threads = threads
    }

    func make(
        _ pass: AttentionPass, _ element: VerificationCase.ElementType,
        _ algorithm: AttentionAlgorithm, _ gemm: GEMMProvider, _ kernels: KernelSet
    ) -> VerificationCase {
        var made = VerificationCase(
            pass: pass, element: element, algorithm: algorithm, gemm: gemm, kernels: kernels,
            problem: problem)
        made.layout = layout
        made.padding = padding
        made.threads = threads
        made.tileSizes = tiles
        return made
    }
}

private let masks: [AttentionMask] = [.full, .causal(.bottomRight), .causal(.topLeft)]

extension VerificationGrid {
    /// Few problems, for every way of computing them.
    static let crossed: [VerificationProblem] = [
        VerificationProblem((1, 2, 2, 33, 33, 32, 32), .causal, tiles: (16, 16)),
        VerificationProblem((2, 4, 2, 65, 47, 64, 80), lengths: [47, 20], layout: .bnhd, padding: 3),
        VerificationProblem((1, 3, 1, 40, 70, 80, 64), .causal, tiles: (16, 32), threads: 3),
        VerificationProblem((2, 2, 1, 70, 40, 3, 32), .causal, lengths: [40, 0], inputs: .hidden),
        VerificationProblem((1, 2, 2, 129, 127, 128, 128), .causal(.topLeft), tiles: (64, 64)),
        VerificationProblem((1, 2, 2, 64, 96, 64, 64), inputs: .large, tiles: (32, 48)),
    ]

    /// Many problems, each for every algorithm and both passes.
    static let rotated: [VerificationProblem] =
        squares + headSizes + rectangles + groups + decoding + lengths + scales + memory + magnitudes
        + nonFinite + empty + medium

    /// More heads than a GPU has multiprocessors, for the kernels that it takes when there is enough to do.
    static let manyHeads: [VerificationProblem] =
        [32, 64, 96, 128, 192, 256].enumerated().flatMap { index, size in
            [
                VerificationProblem((2, 68, 34, 70, 140, size, size), masks[index % 3]),
                VerificationProblem((1, 140, 140, 140, 70, size - 5, size - 2), masks[(index + 1) % 3]),
            ]
        } + [
            VerificationProblem(
                (3, 92, 46, 40, 100, 80, 48), .causal, lengths: [100, 37, 0], inputs: .hidden),
            VerificationProblem((2, 70, 70, 33, 47, 64, 64), inputs: .infinityValue),
        ]

    /// Few queries over so many keys that a GPU splits them: in each of its head sizes; ranges that the mask
    /// or a length leaves without keys; more heads than it has multiprocessors.
    static let manyKeys: [VerificationProblem] =
        [32, 64, 96, 128, 192, 256].enumerated().flatMap { index, size in
            [
                VerificationProblem((1, 8, 2, 1, 1000, size, size)),
                VerificationProblem((2, 8, 2, 4, 2100, size, size), .causal, lengths: [2100, 130]),
                VerificationProblem(
                    (2, 6, 2, 5, 777, size - 5, size - 3), masks[(index + 1) % 3], lengths: [777, 0],
                    layout: .bnhd, padding: 3),
            ]
        }
        + InputKind.allCases.map { VerificationProblem((1, 4, 2, 6, 530, 32, 48), .causal, inputs: $0) }
        + [
            VerificationProblem((3, 6, 2, 5, 600, 80, 48), .causal, lengths: [600, 37, 0], inputs: .hidden),
            VerificationProblem((2, 3, 1, 4, 560, 64, 64), .causal(.topLeft), inputs: .hidden),
            VerificationProblem((1, 16, 1, 1, 2100, 64, 64), inputs: .infinityValue),
            VerificationProblem((1, 8, 2, 2, 1100, 128, 128), scale: -0.5, inputs: .large),
            VerificationProblem((2, 70, 70, 1, 530, 64, 64)),
            VerificationProblem((3, 46, 46, 2, 515, 40, 24), .causal),
        ]

    /// 1, primes, and one less and one more than a tile.
    private static let squares: [VerificationProblem] =
        [1, 2, 3, 7, 13, 15, 16, 17, 31, 32, 33, 61, 63, 64, 65, 97, 127, 128, 129].enumerated().map {
            index, n in
            VerificationProblem(
                (1, 2, 2, n, n, 64, 64), masks[index % 2],
                tiles: [(16, 32), nil, (64, 16), (32, 32)][index % 4])
        }

    /// Every head size with itself, and with another for V.
    private static let headSizes: [VerificationProblem] = {
        let sizes = [1, 3, 32, 64, 80, 128, 199, 256]
        return sizes.enumerated().flatMap { index, d in
            [
                VerificationProblem((1, 1, 1, 37, 51, d, d), masks[index % 3], tiles: (16, 16)),
                VerificationProblem((1, 2, 1, 51, 37, d, sizes[(index + 3) % 8]), masks[(index + 1) % 3]),
            ]
        }
    }()

    /// Nq ≠ Nk under every mask; rows that see no key where Nq > Nk.
    private static let rectangles: [VerificationProblem] = {
        let lengths = [(1, 128), (128, 1), (17, 64), (64, 17), (5, 200), (200, 5), (33, 100), (100, 33)]
        return lengths.flatMap { nq, nk in
            masks.map { VerificationProblem((1, 1, 1, nq, nk, 32, 32), $0, tiles: (32, 32)) }
        }
    }()

    private static let groups: [VerificationProblem] = [
        VerificationProblem((1, 4, 2, 31, 31, 32, 32)),
        VerificationProblem((2, 6, 3, 19, 40, 64, 32), .causal),
        VerificationProblem((1, 8, 1, 33, 33, 64, 64), .causal),
        VerificationProblem((2, 3, 1, 24, 17, 80, 80), .causal(.topLeft)),
        VerificationProblem((1, 6, 2, 1, 65, 128, 128), tiles: (16, 32)),
    ]

    private static let lengths: [VerificationProblem] = masks.flatMap { mask in
        [
            VerificationProblem((3, 2, 2, 33, 33, 32, 32), mask, lengths: [33, 16, 0], tiles: (16, 16)),
            VerificationProblem((4, 2, 1, 20, 50, 64, 64), mask, lengths: [1, 50, 31, 20], layout: .bnhd),
            VerificationProblem((2, 1, 1, 1, 70, 64, 64), mask, lengths: [69, 0]),
        ]
    }

    /// Few queries, for which the keys are split: one split, several, a ragged last one, some of no keys, and
    /// more rows of a group than a tile takes.
    private static let decoding: [VerificationProblem] = [
        VerificationProblem((1, 8, 2, 1, 257, 128, 128), tiles: (16, 16)),
        VerificationProblem((1, 8, 2, 4, 130, 64, 64), .causal, tiles: (64, 16), threads: 3),
        VerificationProblem((1, 8, 2, 5, 97, 80, 48), .causal, tiles: (7, 5), layout: .bnhd, padding: 3),
        VerificationProblem((2, 3, 1, 16, 150, 33, 17), .causal(.topLeft), tiles: (16, 8), threads: 5),
        VerificationProblem((4, 4, 1, 3, 200, 32, 64), .causal, lengths: [200, 64, 2, 0], tiles: (32, 8)),
        VerificationProblem((3, 4, 2, 2, 300, 64, 64), lengths: [300, 129, 1], tiles: (8, 16), layout: .bnhd),
        VerificationProblem((1, 2, 2, 15, 9, 16, 16), .causal, tiles: (4, 1)),
        VerificationProblem((1, 16, 1, 13, 120, 24, 40), .causal, tiles: (64, 8), threads: 16),
        VerificationProblem((2, 2, 2, 1, 1000, 128, 128), threads: 3),
        VerificationProblem((1, 8, 2, 7, 700, 64, 64), .causal),
        VerificationProblem((1, 4, 4, 16, 600, 128, 128), .causal),
        VerificationProblem((1, 4, 2, 3, 90, 32, 32), .causal, scale: -0.5, tiles: (16, 8)),
        VerificationProblem((1, 8, 2, 16, 80, 64, 64), .causal, inputs: .large, tiles: (16, 8)),
        VerificationProblem(
            (2, 4, 2, 8, 70, 64, 32), .causal, lengths: [70, 5], inputs: .hidden, tiles: (8, 4)),
        VerificationProblem((1, 4, 2, 8, 70, 32, 32), .causal(.topLeft), inputs: .hidden, tiles: (12, 4)),
    ]

    private static let scales: [VerificationProblem] = [
        VerificationProblem((1, 2, 2, 33, 48, 32, 32), .causal, scale: 1),
        VerificationProblem((1, 2, 2, 33, 48, 32, 32), scale: 0, tiles: (16, 16)),
        VerificationProblem((1, 2, 2, 33, 48, 32, 32), .causal, scale: -0.5, tiles: (16, 16)),
    ]

    /// Layouts, gaps between rows, threads, and tiles of odd sizes.
    private static let memory: [VerificationProblem] = [
        VerificationProblem((2, 3, 3, 29, 29, 64, 64), .causal, layout: .bnhd),
        VerificationProblem((2, 4, 2, 40, 33, 32, 80), padding: 1, threads: 1),
        VerificationProblem((2, 4, 2, 40, 33, 33, 17), .causal, tiles: (7, 5), layout: .bnhd, padding: 5),
        VerificationProblem((1, 2, 2, 70, 70, 64, 64), .causal, tiles: (1, 1)),
        VerificationProblem((1, 2, 2, 70, 70, 64, 64), .causal, tiles: (1, 64), threads: 5),
        VerificationProblem((1, 2, 2, 70, 70, 64, 64), .causal, tiles: (64, 1), threads: 5),
        VerificationProblem((1, 2, 2, 70, 70, 64, 64), .causal, tiles: (1000, 1000), threads: 16),
        VerificationProblem((1, 1, 1, 100, 110, 48, 24), .causal, tiles: (13, 29), padding: 16),
        // The last key tile begins so late that its last vector reaches beyond whole panels.
        VerificationProblem((1, 2, 1, 33, 64, 32, 32), tiles: (16, 7), threads: 3),
        VerificationProblem((1, 1, 1, 64, 64, 32, 32), tiles: (64, 5)),
    ]

    private static let magnitudes: [VerificationProblem] = [InputKind.large, .outlier].flatMap { inputs in
        [
            VerificationProblem((1, 2, 2, 65, 65, 64, 64), .causal, inputs: inputs, tiles: (16, 32)),
            VerificationProblem((1, 2, 2, 128, 128, 128, 128), inputs: inputs),
            VerificationProblem((1, 2, 1, 33, 100, 80, 80), .causal, inputs: inputs, tiles: (32, 16)),
            VerificationProblem((1, 1, 1, 64, 64, 256, 256), inputs: inputs),
        ]
    }

    private static let nonFinite: [VerificationProblem] = {
        let hidden = masks.flatMap { mask in
            [
                VerificationProblem((1, 2, 2, 45, 20, 32, 32), mask, inputs: .hidden, tiles: (16, 16)),
                VerificationProblem((1, 2, 1, 20, 45, 64, 64), mask, inputs: .hidden, tiles: (8, 16)),
                VerificationProblem(
                    (3, 2, 2, 40, 40, 32, 48), mask, lengths: [33, 7, 0], inputs: .hidden, tiles: (16, 16)),
            ]
        }
        let visible = InputKind.allCases.filter(\.isVisiblyNonFinite)
        return hidden
            + visible.flatMap { inputs in
                [
                    VerificationProblem((1, 2, 1, 48, 48, 32, 32), .causal, inputs: inputs, tiles: (16, 16)),
                    VerificationProblem((1, 1, 1, 33, 40, 48, 24), .causal(.topLeft), inputs: inputs),
                    VerificationProblem((2, 2, 2, 20, 24, 32, 32), inputs: inputs, tiles: (8, 8)),
                    VerificationProblem((1, 4, 2, 6, 60, 32, 32), .causal, inputs: inputs, tiles: (8, 4)),
                ]
            }
    }()

    private static let empty: [VerificationProblem] = [
        VerificationProblem((0, 2, 2, 8, 8, 16, 16), .causal),
        VerificationProblem((2, 0, 0, 8, 8, 16, 16)),
        VerificationProblem((2, 2, 1, 0, 8, 16, 16), .causal),
        VerificationProblem((2, 2, 1, 8, 0, 16, 16), .causal),
        VerificationProblem((2, 2, 1, 0, 0, 16, 16)),
    ]

    /// As many tiles as the library's own choice of sizes makes of a real problem.
    private static let medium: [VerificationProblem] = [
        VerificationProblem((1, 1, 1, 600, 600, 64, 64), .causal),
        VerificationProblem((1, 2, 1, 300, 700, 128, 128)),
    ]
}
