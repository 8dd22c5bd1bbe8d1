/// The products of decoding: few rows meet an operand that passes by once, from memory, and is taken as it
/// lies.
///
/// While such a product runs it asks, line by line and evenly, for the operand that comes next, so that
/// memory is at work all the time. There is a table for each way that K and V may lie, beside the others of
/// its instruction set and by the same rules.
public struct PassingProducts: Sendable {
    /// `C = A Bᵀ` where B passes by, `[n][k]`.
    ///
    /// Arguments: m, n, k; A and its row stride; B and its row stride; C and its row stride; what comes next:
    /// where it starts, the bytes from row to row and the bytes of a row.
    public typealias ScoreGEMM = @Sendable (
        Int, Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int,
        UnsafeRawPointer, Int, Int
    ) -> Void

    /// The same with panels of B, for A `[m][k]` that passes by. Rows of C have room for whole vectors.
    ///
    /// Arguments: m, n, k; A and its row stride; the panels; C and its row stride; scratch for
    /// `gemmScratch(depth: k)` scalars; what comes next, as above.
    public typealias PackedGEMM = @Sendable (
        Int, Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, UnsafeMutableRawPointer, Int,
        UnsafeMutableRawPointer, UnsafeRawPointer, Int, Int
    ) -> Void

    /// `C = keep ∘ C + A B` where B passes by, `[k][n]`.
    ///
    /// Arguments: m, n, k; A and its row stride; B and its row stride; C and its row stride; keep, a factor a
    /// row; scratch for `gemmScratch(depth: k)` scalars; what comes next, as above.
    public typealias GEMM = @Sendable (
        Int, Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int,
        UnsafeRawPointer, UnsafeMutableRawPointer, UnsafeRawPointer, Int, Int
    ) -> Void

    /// S = Q Kᵀ for few rows of Q: dot products.
    public var gemmNT: ScoreGEMM
    /// Sᵀ = K Qᵀ over packed panels of Q.
    public var gemmPacked: PackedGEMM
    /// O += P V.
    public var gemmNN: GEMM
    /// The same with P stored transposed, `[k][m]`.
    public var gemmTN: GEMM

    /// A table with every entry.
    public init(
        gemmNT: @escaping ScoreGEMM, gemmPacked: @escaping PackedGEMM, gemmNN: @escaping GEMM,
        gemmTN: @escaping GEMM
    ) {
        self.gemmNT = gemmNT
        self.gemmPacked = gemmPacked
        self.gemmNN = gemmNN
        self.gemmTN = gemmTN
    }
}
