/// The contract between the portable algorithms and the micro-kernels of one instruction set.
///
/// The fields are function values over raw memory, so that a call crosses the module boundary without
/// being inlined: code compiled for AVX-512 can never end up in a baseline function. (Not `@convention(c)`:
/// its thunks are weak symbols, which a linker may merge across instruction sets.) One table serves one
/// scalar type; every pointer argument points to scalars of that type, and every stride counts scalars.
/// The cost of the call is paid once a tile.
///
/// Tiles are row-major. `m` and `n` may be anything from 0: edges are handled inside the kernels. The
/// contract of each entry, with the extents it reads and writes, is in `Docs/KernelContracts.md`.
public struct TileKernelTable: Sendable {
    /// `C = keep ∘ C + A B`, where row r of `C` is kept with the factor `rowScale[r]` if that is given,
    /// with the factor 1 if not and `accumulate` is set, and dropped otherwise.
    ///
    /// Arguments: m, n, k; A and its row stride; B and its row stride; C and its row stride; rowScale;
    /// accumulate; scratch for `gemmScratch(n, k)` scalars.
    public typealias GEMM = @Sendable (
        Int, Int, Int,
        UnsafeRawPointer, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int,
        UnsafeRawPointer?, Bool, UnsafeMutableRawPointer
    ) -> Void

    /// `C = A Bᵀ`, with A and its row stride, and the rows of B, or the panels made of them.
    ///
    /// Arguments: m, n, k; A and its row stride; B and its row stride; C and its row stride.
    public typealias ScoreGEMM = @Sendable (
        Int, Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int
    ) -> Void

    /// `C = A Bᵀ` with the panels that `packTransposed` made of B. Rows of C have room for whole vectors.
    ///
    /// Arguments: m, n, k; A and its row stride; the panels; C and its row stride.
    public typealias PackedGEMM = @Sendable (
        Int, Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, UnsafeMutableRawPointer, Int
    ) -> Void

    /// `dst` panels `[⌈n / panelWidth⌉][k][panelWidth]` = transpose of `src` `[n][k]`, zero-padded.
    ///
    /// Arguments: n, k, src, its row stride, dst.
    public typealias PackTransposed = @Sendable (
        Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer
    ) -> Void

    /// `out[r] = max over S[r]`, −∞ for n = 0; NaN entries are passed over.
    ///
    /// Arguments: m, n, S, its row stride, out.
    public typealias RowMaximum = @Sendable (
        Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer
    ) -> Void

    /// `S[r] = 2^(factor · (S[r] − offset[r]))` in place, and `sum[r]` is the row's sum.
    ///
    /// Arguments: m, n, S, its row stride, factor, offset, sum.
    public typealias Exponentiate = @Sendable (
        Int, Int, UnsafeMutableRawPointer, Int, Double, UnsafeRawPointer, UnsafeMutableRawPointer
    ) -> Void

    /// `out[c] = max over column c of S`, −∞ for m = 0; NaN entries are passed over. All operands have
    /// room for whole vectors in place of n, and what the last vector holds beyond n means nothing.
    ///
    /// Arguments: m, n, S, its row stride, out.
    public typealias ColumnMaximum = RowMaximum

    /// `S[·][c] = 2^(factor · (S[·][c] − offset[c]))` in place, and `sum[c]` is the column's sum. All
    /// operands have room for whole vectors in place of n, and what the last vector holds beyond n means
    /// nothing.
    ///
    /// Arguments: m, n, S, its row stride, factor, offset, sum.
    public typealias ExponentiateColumns = Exponentiate

    /// `S[r] = 2^(factor · (S[r] − high[r] − low[r]))` in place, for an offset in two parts.
    ///
    /// Arguments: m, n, S, its row stride, factor, high, low.
    public typealias Probabilities = @Sendable (
        Int, Int, UnsafeMutableRawPointer, Int, Double, UnsafeRawPointer, UnsafeRawPointer
    ) -> Void

    /// `dP[r] = P[r] ∘ (scale · dP[r] − offset[r])` in place, which is dS for `offset = scale · delta`.
    ///
    /// Arguments: m, n, P, its row stride, dP, its row stride, scale, offset.
    public typealias ScoreGradient = @Sendable (
        Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int, Double, UnsafeRawPointer
    ) -> Void

    /// `C[r] = rowScale[r] · C[r]`, with zero where `rowScale[r]` is zero, whatever `C` holds there.
    ///
    /// Arguments: m, n, C, its row stride, rowScale.
    public typealias ScaleRows = @Sendable (
        Int, Int, UnsafeMutableRawPointer, Int, UnsafeRawPointer
    ) -> Void

    /// `C[r] = A[r] / divisor[r]`, with zero where `divisor[r]` is zero, whatever `A` holds there. `C` may be
    /// `A`.
    ///
    /// Arguments: m, n, A, its row stride, divisor, C, its row stride.
    public typealias DivideRows = @Sendable (
        Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, UnsafeMutableRawPointer, Int
    ) -> Void

    /// `out[r] = Σ A[r] ∘ B[r]`, summed in order, as the GEMMs sum over k.
    ///
    /// Arguments: m, n, A, its row stride, B, its row stride, out.
    public typealias RowDot = @Sendable (
        Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer
    ) -> Void

    /// Whether every entry of `A` `[m][n]` is finite. Arguments: m, n, A, its row stride.
    public typealias AllFinite = @Sendable (Int, Int, UnsafeRawPointer, Int) -> Bool

    /// Runs `rounds` rounds of independent multiply-adds in registers; returns their count in FLOPs.
    ///
    /// Arguments: rounds, one scalar that takes the result, so that the work cannot be left out.
    public typealias MultiplyAddLoop = @Sendable (Int, UnsafeMutableRawPointer) -> Int

    /// Sums `n` scalars as fast as memory delivers them. Arguments: n, src, one scalar for the sum.
    public typealias ReadStream = @Sendable (Int, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void

    /// "generic", "avx2", "avx512" or "neon".
    public var name: StaticString
    /// Bytes of the scalar type.
    public var scalarSize: Int
    /// Scalars in one vector register.
    public var lanes: Int
    /// Rows of the register tile of the GEMMs.
    public var registerRows: Int
    /// Columns of the register tile, and of a packed panel.
    public var panelWidth: Int

    /// S = Q Kᵀ over packed panels.
    public var gemmPacked: PackedGEMM
    /// S = Q Kᵀ for few rows, with B = K `[n][k]` as it lies in memory.
    public var gemmNT: ScoreGEMM
    /// O += P V.
    public var gemmNN: GEMM
    /// dV += Pᵀ dO: A is stored `[k][m]`.
    public var gemmTN: GEMM
    /// The products of decoding.
    public var passing: PassingProducts
    /// Q, K or V into the panels of `gemmPacked`.
    public var packTransposed: PackTransposed
    /// rowmax S.
    public var rowMaximum: RowMaximum
    /// P and its row sums, from S and the maximum.
    public var exponentiate: Exponentiate
    /// rowmax S of a tile that is held transposed.
    public var columnMaximum: ColumnMaximum
    /// P and its row sums for a tile that is held transposed.
    public var exponentiateColumns: ExponentiateColumns
    /// P again in the backward pass, from S and the lse.
    public var probabilities: Probabilities
    /// dS, from P, dP and delta.
    public var scoreGradient: ScoreGradient
    /// P̃ brought to another maximum, or normalised.
    public var scaleRows: ScaleRows
    /// O normalised.
    public var divideRows: DivideRows
    /// delta = rowsum(dO ∘ O).
    public var rowDot: RowDot
    /// Whether a masked tile may be multiplied whole.
    public var allFinite: AllFinite
    /// The ceiling of all speeds.
    public var multiplyAddLoop: MultiplyAddLoop
    /// The speed of memory.
    public var readStream: ReadStream

    /// A table with every entry.
    public init(
        name: StaticString, scalarSize: Int, lanes: Int, registerRows: Int, panelWidth: Int,
        gemmPacked: @escaping PackedGEMM, gemmNT: @escaping ScoreGEMM, gemmNN: @escaping GEMM,
        gemmTN: @escaping GEMM, passing: PassingProducts, packTransposed: @escaping PackTransposed,
        rowMaximum: @escaping RowMaximum, exponentiate: @escaping Exponentiate,
        columnMaximum: @escaping ColumnMaximum, exponentiateColumns: @escaping ExponentiateColumns,
        probabilities: @escaping Probabilities,
        scoreGradient: @escaping ScoreGradient, scaleRows: @escaping ScaleRows,
        divideRows: @escaping DivideRows, rowDot: @escaping RowDot, allFinite: @escaping AllFinite,
        multiplyAddLoop: @escaping MultiplyAddLoop, readStream: @escaping ReadStream
    ) {
        self.name = name
        self.scalarSize = scalarSize
        self.lanes = lanes
        self.registerRows = registerRows
        self.panelWidth = panelWidth
        self.gemmPacked = gemmPacked
        self.gemmNT = gemmNT
        self.gemmNN = gemmNN
        self.gemmTN = gemmTN
        self.passing = passing
        self.packTransposed = packTransposed
        self.rowMaximum = rowMaximum
        self.exponentiate = exponentiate
        self.columnMaximum = columnMaximum
        self.exponentiateColumns = exponentiateColumns
        self.probabilities = probabilities
        self.scoreGradient = scoreGradient
        self.scaleRows = scaleRows
        self.divideRows = divideRows
        self.rowDot = rowDot
        self.allFinite = allFinite
        self.multiplyAddLoop = multiplyAddLoop
        self.readStream = readStream
    }

    /// Scalars of scratch that a GEMM with inner length `k` needs: one packed panel and one register tile.
    public func gemmScratch(depth k: Int) -> Int { (k + registerRows) * panelWidth }

    /// Scalars that `packTransposed` writes for `n` rows of length `k`.
    public func packedCount(rows n: Int, depth k: Int) -> Int {
        (n + panelWidth - 1) / panelWidth * panelWidth * k
    }
}
