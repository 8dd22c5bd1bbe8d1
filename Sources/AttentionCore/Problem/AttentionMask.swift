/// Which keys a query may attend to.
public enum AttentionMask: Hashable, Sendable {
    /// Every key.
    case full
    /// Keys up to the query's own position.
    case causal(CausalAlignment)

    /// Causal, aligned bottom-right.
    public static var causal: AttentionMask { .causal(.bottomRight) }
}

/// Where the diagonal of a causal mask lies when Nq ≠ Nk.
public enum CausalAlignment: String, Hashable, Sendable, CaseIterable {
    /// The last query sees the last key: row i sees keys j ≤ i + Nk − Nq (FlashAttention, MLX).
    case bottomRight = "bottom-right"
    /// The first query sees the first key only: row i sees keys j ≤ i (PyTorch's `is_causal`).
    case topLeft = "top-left"
}
