import FlashAttention

/// Attention in Double, straight from its definition: what everything else is checked against.
///
/// One row of scores at a time, one rounding an operation, no tiles, no running maximum. It shares no code
/// with what it checks: the sizes and the mask are the only types it takes from the library, and it asks
/// its own predicate whether a query sees a key. An entry that the mask or a key length hides is never
/// read, so a NaN there shows in the result of the library and not here.
///
/// Operands are dense `[B, H, N, D]` arrays of Double (``OracleInputs``).
public struct Oracle: Sendable {
    public let shape: AttentionShape
    public let mask: AttentionMask
    public let softmaxScale: Double
    public let keyLengths: [Int]?

    /// - Parameters:
    ///   - shape: a valid one.
    ///   - softmaxScale: 1/√D if nil.
    ///   - keyLengths: `[B]`, each from 0 to Nk; all keys if nil.
    public init(
        shape: AttentionShape, mask: AttentionMask = .full, softmaxScale: Double? = nil,
        keyLengths: [Int]? = nil
    ) {
        precondition(keyLengths.map { $0.count == shape.batch } ?? true, "one key length a batch entry")
        self.shape = shape
        self.mask = mask
        self.softmaxScale = softmaxScale ?? 1 / Double(shape.headSize).squareRoot()
        self.keyLengths = keyLengths
    }

    /// Whether query i sees key j.
    ///
    /// - Parameters:
    ///   - length: the keys that this batch entry has.
    public func sees(query i: Int, key j: Int, length: Int) -> Bool {
        if j >= length { return false }
        switch mask {
        case .full: return true
        case .causal(.topLeft): return j <= i
        case .causal(.bottomRight): return j - i <= length - shape.queryLength
        }
    }

    /// The keys that batch entry b has.
    public func keyLength(_ b: Int) -> Int { keyLengths?[b] ?? shape.keyLength }

    /// Every row of Q.
    public var allRows: [OracleRow] { rows(heads: shape.heads, length: shape.queryLength) }

    /// Every row of K and V.
    public var allKeys: [OracleRow] { rows(heads: shape.keyValueHeads, length: shape.keyLength) }

    private func rows(heads: Int, length: Int) -> [OracleRow] {
        var rows: [OracleRow] = []
        rows.reserveCapacity(shape.batch * heads * length)
        for b in 0..<shape.batch {
            for h in 0..<heads {
                for n in 0..<length { rows.append(OracleRow(batch: b, head: h, row: n)) }
            }
        }
        return rows
    }
}

/// One row of an operand.
public struct OracleRow: Hashable, Sendable {
    public var batch: Int
    /// A query head for rows of Q, a key/value head for rows of K and V.
    public var head: Int
    public var row: Int

    public init(batch: Int, head: Int, row: Int) {
        self.batch = batch
        self.head = head
        self.row = row
    }
}

/// The operands of a problem in Double, dense, `[B, H, N, D]`.
public struct OracleInputs: Sendable {
    /// `[B, H, Nq, D]`
    public var query: [Double]
    /// `[B, Hkv, Nk, D]`
    public var key: [Double]
    /// `[B, Hkv, Nk, Dv]`
    public var value: [Double]
    /// dO, `[B, H, Nq, Dv]`; may be empty where no gradient is asked for.
    public var outputGradient: [Double]

    public init(query: [Double], key: [Double], value: [Double], outputGradient: [Double] = []) {
        self.query = query
        self.key = key
        self.value = value
        self.outputGradient = outputGradient
    }

    /// The operands that the library was given, in whatever layout.
    public init<Element: AttentionElement>(
        query: Tensor<Element>, key: Tensor<Element>, value: Tensor<Element>,
        outputGradient: Tensor<Element>? = nil
    ) {
        self.init(
            query: query.denseDoubles(), key: key.denseDoubles(), value: value.denseDoubles(),
            outputGradient: outputGradient?.denseDoubles() ?? [])
    }
}

extension Tensor {
    /// The elements as Double, in the order `[B, H, N, D]`.
    public func denseDoubles() -> [Double] {
        withView { $0.denseDoubles() }
    }
}

extension TensorView {
    /// The elements as Double, in the order `[B, H, N, D]`. The extents and strides fit the memory.
    ///
    /// Specialised, for most of the time of a check of large tensors would go here.
    @_specialize(where Element == Float)
    @_specialize(where Element == Double)
    @_specialize(where Element == BFloat16)
    public func denseDoubles() -> [Double] {
        guard extents.count > 0 else { return [] }
        return [Double](unsafeUninitializedCapacity: extents.count) { dense, count in
            for b in 0..<extents.batch {
                for h in 0..<extents.heads {
                    for n in 0..<extents.length {
                        let start = b * strides.batch + h * strides.head + n * strides.row
                        for d in 0..<extents.size {
                            dense.initializeElement(at: count + d, to: Double(memory[start + d].widened))
                        }
                        count += extents.size
                    }
                }
            }
        }
    }
}
