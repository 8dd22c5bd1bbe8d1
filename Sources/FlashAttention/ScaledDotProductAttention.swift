/// Computes `softmax(scale · Q Kᵀ + mask) V` in one call.
///
/// Plans the problem and runs it once. For the same sizes again and again, or for gradients, make an
/// ``Attention`` and keep it.
///
/// - Parameters:
///   - query: `[B, H, Nq, D]`
///   - key: `[B, Hkv, Nk, D]`, H a multiple of Hkv.
///   - value: `[B, Hkv, Nk, Dv]`
///   - mask: which keys a query sees; that of the options if nil.
///   - scale: the factor on Q Kᵀ; that of the options if nil, and 1/√D if they have none.
///   - keyLengths: `[B]`: only the first so many keys of a batch entry exist. All if nil.
///   - options: everything else.
/// - Returns: `output` `[B, H, Nq, Dv]` in the query's layout, and `logSumExp` `[B, H, Nq]`.
/// - Throws: `AttentionError` that names the operand or option at fault.
public func scaledDotProductAttention<Element: AttentionElement>(
    query: Tensor<Element>, key: Tensor<Element>, value: Tensor<Element>, mask: AttentionMask? = nil,
    scale: Double? = nil, keyLengths: [Int]? = nil, options: AttentionOptions = .init()
) throws(AttentionError) -> AttentionOutput<Element> {
    var options = options
    options.mask = mask ?? options.mask
    options.softmaxScale = scale ?? options.softmaxScale
    let shape = AttentionShape(
        batch: query.extents.batch, heads: query.extents.heads, keyValueHeads: key.extents.heads,
        queryLength: query.extents.length, keyLength: key.extents.length, headSize: query.extents.size,
        valueHeadSize: value.extents.size)
    return try Attention<Element>(shape: shape, options: options)
        .forward(query: query, key: key, value: value, keyLengths: keyLengths)
}
