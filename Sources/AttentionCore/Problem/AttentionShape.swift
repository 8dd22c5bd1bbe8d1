/// The sizes of one attention problem.
///
/// `query` is `[B, H, Nq, D]`, `key` `[B, Hkv, Nk, D]`, `value` `[B, Hkv, Nk, Dv]`, `output`
/// `[B, H, Nq, Dv]`. Query head h attends to key/value head `h / (H / Hkv)`: H = Hkv is multi-head
/// attention, Hkv = 1 multi-query, anything between grouped-query. B, H and the lengths may be 0.
public struct AttentionShape: Hashable, Sendable {
    /// B
    public var batch: Int
    /// H, the query heads.
    public var heads: Int
    /// Hkv, the key and value heads.
    public var keyValueHeads: Int
    /// Nq
    public var queryLength: Int
    /// Nk
    public var keyLength: Int
    /// D
    public var headSize: Int
    /// Dv
    public var valueHeadSize: Int

    /// - Parameters:
    ///   - keyValueHeads: the same as `heads` unless given.
    ///   - keyLength: the same as `queryLength` unless given.
    ///   - valueHeadSize: the same as `headSize` unless given.
    public init(
        batch: Int, heads: Int, keyValueHeads: Int? = nil, queryLength: Int, keyLength: Int? = nil,
        headSize: Int, valueHeadSize: Int? = nil
    ) {
        self.batch = batch
        self.heads = heads
        self.keyValueHeads = keyValueHeads ?? heads
        self.queryLength = queryLength
        self.keyLength = keyLength ?? queryLength
        self.headSize = headSize
        self.valueHeadSize = valueHeadSize ?? headSize
    }

    /// Query heads that share one key/value head.
    public var groupSize: Int { keyValueHeads == 0 ? 1 : heads / keyValueHeads }

    /// `[B, H, Nq, D]`
    public var queryExtents: TensorExtents { .init(batch, heads, queryLength, headSize) }
    /// `[B, Hkv, Nk, D]`
    public var keyExtents: TensorExtents { .init(batch, keyValueHeads, keyLength, headSize) }
    /// `[B, Hkv, Nk, Dv]`
    public var valueExtents: TensorExtents { .init(batch, keyValueHeads, keyLength, valueHeadSize) }
    /// `[B, H, Nq, Dv]`
    public var outputExtents: TensorExtents { .init(batch, heads, queryLength, valueHeadSize) }
    /// B · H · Nq, the length of the log-sum-exp.
    public var rowCount: Int { batch * heads * queryLength }

    /// Checks what every algorithm relies on.
    /// - Throws: `AttentionError.invalidShape` for a negative size, a head size of 0, H not a multiple of
    ///   Hkv, or a tensor larger than what a process can address.
    public func validate() throws(AttentionError) {
        for (name, size, least) in [
            ("batch", batch, 0), ("heads", heads, 0), ("keyValueHeads", keyValueHeads, 0),
            ("queryLength", queryLength, 0), ("keyLength", keyLength, 0), ("headSize", headSize, 1),
            ("valueHeadSize", valueHeadSize, 1),
        ] where size < least {
            throw .invalidShape("\(name) must be at least \(least), got \(size)")
        }
        guard keyValueHeads == 0 ? heads == 0 : heads % keyValueHeads == 0 else {
            throw .invalidShape(
                "heads must be a multiple of keyValueHeads, got H = \(heads) and Hkv = \(keyValueHeads)")
        }
        for extents in [queryExtents, keyExtents, valueExtents, outputExtents] {
            try extents.validate()
        }
    }
}
