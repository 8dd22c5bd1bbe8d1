import Dispatch
import FlashAttention

/// How the operands of a case are filled.
public enum InputKind: String, Hashable, Sendable, CaseIterable {
    /// Every entry from N(0, 1).
    case normal
    /// Q and K from N(0, 30), so that the logits are 30 times as large: the softmax is almost one-hot.
    case large
    /// N(0, 1) + N(0, 100) · Bernoulli(0.001), the outliers of Shah et al., "FlashAttention-3", arXiv
    /// 2407.08608, section 4.3.
    case outlier
    /// N(0, 1), and NaN and infinities wherever the mask or a key length hides them from every row.
    case hidden
    /// N(0, 1), with one NaN in a visible row of Q, K, V or dO.
    case nanQuery = "nan-q"
    case nanKey = "nan-k"
    case nanValue = "nan-v"
    case nanGradient = "nan-dout"
    /// N(0, 1), with one infinity in a visible row of Q, K, V or dO.
    case infinityQuery = "inf-q"
    case infinityKey = "inf-k"
    case infinityValue = "inf-v"
    case infinityGradient = "inf-dout"

    /// Whether the tolerance for inputs of ordinary size is enough, or the error has to be weighed against
    /// that of naive attention even where it is within it. Outliers count as ordinary: with them delta =
    /// rowsum(dO ∘ O) of the flash algorithms is rounded apart from dP, while the naive rowsum(P ∘ dP) shares
    /// dP's rounding, so that single gradients of a one-hot row differ by up to 5 times the naive error.
    public var isOrdinary: Bool { self != .large }

    /// Whether there is a NaN or an infinity that some row sees.
    public var isVisiblyNonFinite: Bool { rawValue.hasPrefix("nan") || rawValue.hasPrefix("inf") }
}

/// The operands of a problem as the library takes them, `[B, H, N, D]`, dense.
public struct GeneratedInputs<Element: AttentionElement>: Sendable {
    public var query: Tensor<Element>
    public var key: Tensor<Element>
    public var value: Tensor<Element>
    public var outputGradient: Tensor<Element>

    /// - Parameters:
    ///   - oracle: the problem; its mask and key lengths decide what is hidden.
    ///   - seed: the same seed gives the same entries, in every layout and element type (rounded to it).
    @_specialize(where Element == Float)
    @_specialize(where Element == Double)
    @_specialize(where Element == BFloat16)
    public init(_ kind: InputKind, for oracle: Oracle, seed: UInt64 = 1) {
        var random = SplitMix64(seed: seed)
        let shape = oracle.shape
        let spread = kind == .large ? 30.0.squareRoot() : 1
        // Where the next tensor's entries begin in the sequence of normal numbers.
        var first = 0
        func tensor(_ extents: TensorExtents, spread: Double = 1) -> Tensor<Element> {
            var tensor = Tensor<Element>(extents)
            if kind == .outlier {
                for index in tensor.elements.indices {
                    var x = random.normal() * spread
                    if random.uniform() <= 0.001 { x += 10 * random.normal() }
                    tensor.elements[index] = Element.rounding(x)
                }
            } else {
                tensor.fillNormal(seed: seed, from: first, spread: spread)
                first += extents.count
            }
            return tensor
        }
        query = tensor(shape.queryExtents, spread: spread)
        key = tensor(shape.keyExtents, spread: spread)
        value = tensor(shape.valueExtents)
        outputGradient = tensor(shape.outputExtents)
        place(kind, oracle)
    }

    private mutating func place(_ kind: InputKind, _ oracle: Oracle) {
        switch kind {
        case .normal, .large, .outlier: return
        case .hidden: hide(oracle)
        case .nanQuery: Self.set(.nan, in: &query, oracle.shape.queryLength / 3)
        case .nanKey: Self.set(.nan, in: &key, oracle.shape.keyLength / 3)
        case .nanValue: Self.set(.nan, in: &value, oracle.shape.keyLength / 3)
        case .nanGradient: Self.set(.nan, in: &outputGradient, oracle.shape.queryLength / 3)
        case .infinityQuery: Self.set(.infinity, in: &query, oracle.shape.queryLength / 3)
        case .infinityKey: Self.set(.infinity, in: &key, oracle.shape.keyLength / 3)
        case .infinityValue: Self.set(.infinity, in: &value, oracle.shape.keyLength / 3)
        case .infinityGradient: Self.set(.infinity, in: &outputGradient, oracle.shape.queryLength / 3)
        }
    }

    /// One entry of a row, in the last head of the last batch entry.
    private static func set(_ x: Double, in tensor: inout Tensor<Element>, _ row: Int) {
        let extents = tensor.extents
        guard extents.count > 0 else { return }
        tensor[extents.batch - 1, extents.heads - 1, row, extents.size / 2] = Element.rounding(x)
    }

    /// NaN and infinities in K and V where no query sees the key, in Q and dO where the row sees no key.
    private mutating func hide(_ oracle: Oracle) {
        let shape = oracle.shape
        let poison = [Double.nan, .infinity, -.infinity].map { Element.rounding($0) }
        for row in oracle.allKeys {
            let length = oracle.keyLength(row.batch)
            let seen = (0..<shape.queryLength).contains {
                oracle.sees(query: $0, key: row.row, length: length)
            }
            if seen { continue }
            for d in 0..<shape.headSize { key[row.batch, row.head, row.row, d] = poison[(row.row + d) % 3] }
            for d in 0..<shape.valueHeadSize {
                value[row.batch, row.head, row.row, d] = poison[(row.row + d) % 3]
            }
        }
        for row in oracle.allRows {
            let length = oracle.keyLength(row.batch)
            let seeing = (0..<shape.keyLength).contains {
                oracle.sees(query: row.row, key: $0, length: length)
            }
            if seeing { continue }
            for d in 0..<shape.headSize { query[row.batch, row.head, row.row, d] = poison[(row.row + d) % 3] }
            for d in 0..<shape.valueHeadSize {
                outputGradient[row.batch, row.head, row.row, d] = poison[(row.row + d) % 3]
            }
        }
    }
}

extension Tensor {
    /// A tensor of N(0, 1), dense `[B, H, N, D]`; the same seed gives the same entries.
    public static func normal(_ extents: TensorExtents, seed: UInt64 = 1) -> Tensor {
        var tensor = Tensor(extents)
        tensor.fillNormal(seed: seed, from: 0, spread: 1)
        return tensor
    }

    /// Sets the entries to numbers `first` and following of the generator's normal sequence, on all cores:
    /// the keys of a long decoding step are a quarter of a billion numbers.
    @_specialize(where Element == Float)
    @_specialize(where Element == Double)
    @_specialize(where Element == BFloat16)
    fileprivate mutating func fillNormal(seed: UInt64, from first: Int, spread: Double) {
        let piece = 1 << 16
        withMutableView { view in
            // The pieces are written by one thread each.
            nonisolated(unsafe) let memory = view.memory
            DispatchQueue.concurrentPerform(iterations: (memory.count + piece - 1) / piece) { number in
                let range = number * piece..<min((number + 1) * piece, memory.count)
                var random = SplitMix64(seed: seed)
                // Two normal numbers are made of two uniform ones.
                let start = first + range.lowerBound
                random.skip(start / 2 * 2)
                if start % 2 == 1 { _ = random.normal() }
                for index in range { memory[index] = .rounding(random.normal() * spread) }
            }
        }
    }
}
