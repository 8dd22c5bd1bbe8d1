import FlashAttention

/// A case's name, from which the same case can be made again:
/// `backward/f32/fa2/simd/avx512/1,4,2,65,64,32,48/causal/lengths=3,0/bnhd/padding=5`.
///
/// Five words, then B,H,Hkv,Nq,Nk,D,Dv, then what differs from the default, in any order.
extension VerificationCase: CustomStringConvertible, LosslessStringConvertible {
    public var description: String {
        let s = problem.shape
        var parts = [
            pass.rawValue, element.rawValue, algorithm.rawValue, gemm.rawValue, kernels.rawValue,
            list([
                s.batch, s.heads, s.keyValueHeads, s.queryLength, s.keyLength, s.headSize, s.valueHeadSize,
            ]),
        ]
        switch problem.mask {
        case .full: break
        case .causal(.bottomRight): parts.append("causal")
        case .causal(.topLeft): parts.append("causal-top-left")
        }
        if let scale = problem.softmaxScale { parts.append("scale=\(scale)") }
        if let lengths = problem.keyLengths { parts.append("lengths=" + list(lengths)) }
        if problem.inputs != .normal { parts.append("inputs=" + problem.inputs.rawValue) }
        if device != .cpu { parts.append(device.rawValue) }
        if layout != .bhnd { parts.append(layout.rawValue) }
        if padding != 0 { parts.append("padding=\(padding)") }
        if threads != 2 { parts.append("threads=\(threads)") }
        if let tileSizes { parts.append("tiles=" + list([tileSizes.queries, tileSizes.keys])) }
        if deterministic { parts.append("deterministic") }
        return parts.joined(separator: "/")
    }

    /// The case of this name, or nil if there is no such case.
    public init?(_ description: String) {
        let parts = description.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count >= 6, let pass = AttentionPass(rawValue: parts[0]),
            let element = ElementType(rawValue: parts[1]),
            let algorithm = AttentionAlgorithm(rawValue: parts[2]),
            let gemm = GEMMProvider(rawValue: parts[3]), let kernels = KernelSet(rawValue: parts[4]),
            let s = integers(parts[5]), s.count == 7
        else { return nil }
        let shape = AttentionShape(
            batch: s[0], heads: s[1], keyValueHeads: s[2], queryLength: s[3], keyLength: s[4],
            headSize: s[5], valueHeadSize: s[6])
        self.init(
            pass: pass, element: element, algorithm: algorithm, gemm: gemm, kernels: kernels,
            problem: Problem(shape))
        for part in parts.dropFirst(6) where !read(part) { return nil }
        guard isValid else { return nil }
    }

    /// Takes one word of a name in; false if it means nothing.
    private mutating func read(_ word: String) -> Bool {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            .map(String.init)
        let value = parts.count == 2 ? parts[1] : ""
        switch parts[0] {
        case "causal" where parts.count == 1: problem.mask = .causal(.bottomRight)
        case "causal-top-left" where parts.count == 1: problem.mask = .causal(.topLeft)
        case "cuda" where parts.count == 1: device = .cuda
        case "deterministic" where parts.count == 1: deterministic = true
        case "scale":
            guard let scale = Double(value) else { return false }
            problem.softmaxScale = scale
        case "lengths":
            guard let lengths = integers(value) else { return false }
            problem.keyLengths = lengths
        case "inputs":
            guard let inputs = InputKind(rawValue: value) else { return false }
            problem.inputs = inputs
        case "padding":
            guard let padding = Int(value) else { return false }
            self.padding = padding
        case "threads":
            guard let threads = Int(value) else { return false }
            self.threads = threads
        case "tiles":
            guard let sizes = integers(value), sizes.count == 2 else { return false }
            tileSizes = TileSizes(queries: sizes[0], keys: sizes[1])
        default:
            guard parts.count == 1, let layout = TensorLayout(rawValue: word) else { return false }
            self.layout = layout
        }
        return true
    }

    /// Whether the case can be computed at all.
    private var isValid: Bool {
        let shape = problem.shape
        let lengthsFit =
            problem.keyLengths.map { lengths in
                lengths.count == shape.batch && lengths.allSatisfy { (0...shape.keyLength).contains($0) }
            } ?? true
        return (try? shape.validate()) != nil && (try? options.validate()) != nil && lengthsFit
            && (0...1024).contains(padding)
    }
}

private func list(_ numbers: [Int]) -> String { numbers.map(String.init).joined(separator: ",") }

private func integers(_ text: String) -> [Int]? {
    let words = text.split(separator: ",", omittingEmptySubsequences: false)
    let numbers = words.compactMap { Int($0) }
    return text.isEmpty ? [] : numbers.count == words.count ? numbers : nil
}
