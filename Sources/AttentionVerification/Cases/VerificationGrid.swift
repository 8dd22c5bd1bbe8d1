import FlashAttention

/// The cases of `fattn verify`, sorted by problem.
public enum VerificationGrid {
    /// - Parameters:
    ///   - quick: a sample that takes a few seconds.
    ///   - machine: what there is to be checked.
    public static func cases(
        quick: Bool = false, machine: VerificationMachine = .current
    ) -> [VerificationCase] {
        var cases: [VerificationCase] = []
        for (index, entry) in crossed.enumerated() where !quick || index < 2 {
            cases += product(
                entry, machine, elements: quick ? [.f32, .bf16] : VerificationCase.ElementType.allCases)
        }
        for (index, entry) in rotated.enumerated() where !quick || index % 4 == 1 {
            cases += rotation(entry, machine, turn: index, quick: quick)
        }
        return cases
    }

    /// The same problems on another device: every algorithm and pass, in the types that it computes in;
    /// FlashAttention-2's gradients in its deterministic mode as well. In the whole grid also problems for
    /// which a GPU has other kernels for FlashAttention-2: many heads in F32, few queries over many keys
    /// forward.
    public static func cases(quick: Bool = false, device: AttentionDevice) -> [VerificationCase] {
        guard device != .cpu else { return cases(quick: quick) }
        let machine = VerificationMachine(kernelSets: [.generic], providers: [.simd])
        var entries = cases(quick: quick, machine: machine)
        if !quick {
            entries += manyHeads.flatMap { product($0, machine, elements: [.f32]) }
                .filter { $0.algorithm == .flashAttention2 }
            entries += manyKeys.flatMap { product($0, machine, elements: [.f32, .f16, .bf16]) }
                .filter { $0.algorithm == .flashAttention2 && $0.pass == .forward }
        }
        var seen: Set<VerificationCase> = []
        return entries.flatMap { entry -> [VerificationCase] in
            var entry = entry
            entry.device = device
            entry.threads = 2
            entry.tileSizes = nil
            let size = max(entry.problem.shape.headSize, entry.problem.shape.valueHeadSize)
            guard entry.element != .f64, size <= 256, seen.insert(entry).inserted else { return [] }
            var deterministic = entry
            deterministic.deterministic = true
            let hasModes = entry.pass == .backward && entry.algorithm == .flashAttention2
            return hasModes ? [entry, deterministic] : [entry]
        }
    }

    /// How many cases of the whole grid this machine leaves out for want of a GEMM library.
    public static func skipped(quick: Bool = false, machine: VerificationMachine = .current) -> Int {
        var whole = machine
        whole.providers = GEMMProvider.allCases
        return cases(quick: quick, machine: whole).count - cases(quick: quick, machine: machine).count
    }

    /// Every combination of algorithm, provider, micro-kernels and pass.
    private static func product(
        _ entry: VerificationProblem, _ machine: VerificationMachine,
        elements: [VerificationCase.ElementType]
    ) -> [VerificationCase] {
        var cases: [VerificationCase] = []
        for element in elements {
            for kernels in machine.kernelSets {
                for gemm in machine.providers {
                    for algorithm in AttentionAlgorithm.allCases {
                        for pass in AttentionPass.allCases {
                            cases.append(entry.make(pass, element, algorithm, gemm, kernels))
                        }
                    }
                }
            }
        }
        return cases
    }

    /// Every algorithm and pass, with the providers and micro-kernels taking turns. One provider after the
    /// other where there are two, so that a machine without a GEMM library has half the cases.
    private static func rotation(
        _ entry: VerificationProblem, _ machine: VerificationMachine, turn: Int, quick: Bool
    ) -> [VerificationCase] {
        guard !machine.kernelSets.isEmpty else { return [] }
        var cases: [VerificationCase] = []
        var turn = turn
        let elements: [VerificationCase.ElementType] =
            quick ? [[.f64, .f32, .f16, .bf16][turn / 4 % 4]] : VerificationCase.ElementType.allCases
        for element in elements {
            for gemm in machine.providers where !quick || gemm == machine.providers.first {
                for algorithm in AttentionAlgorithm.allCases {
                    for pass in AttentionPass.allCases {
                        let kernels = machine.kernelSets[turn % machine.kernelSets.count]
                        cases.append(entry.make(pass, element, algorithm, gemm, kernels))
                    }
                    turn += 1
                }
            }
        }
        return cases
    }
}
