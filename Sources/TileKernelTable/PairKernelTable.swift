/// The micro-kernels of processors that multiply pairs of BF16 and add both products in one step.
///
/// They stand beside the `TileKernelTable` of Float, by the same rules. A pair is 32 bits, the first of its
/// two numbers in the lower half, and to the products it is what a scalar is to those of Float: matrices of
/// pairs have strides that count pairs, and k is a number of pairs. Results are Float.
public struct PairKernelTable: Sendable {
    /// Rows two by two: `dst[j][c]` is the pair of `src[2j][c]` and `src[2j + 1][c]`, with 0 for a row that
    /// is not there.
    ///
    /// Arguments: m, n; src `[m][n]` and its row stride; dst `[⌈m / 2⌉][n]` and its row stride.
    public typealias PairRows = @Sendable (
        Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int
    ) -> Void

    /// `S[r] = 2^(factor · (S[r] − high[r] − low[r]))` in place, and the same in pairs of rows. Both operands
    /// have room for whole vectors in place of n.
    ///
    /// Arguments: m, n; S and its row stride; factor; high; low; the pairs `[⌈m / 2⌉][n]` and their row
    /// stride.
    public typealias ProbabilityPairs = @Sendable (
        Int, Int, UnsafeMutableRawPointer, Int, Double, UnsafeRawPointer, UnsafeRawPointer,
        UnsafeMutableRawPointer, Int
    ) -> Void

    /// dS = `P[r] ∘ (scale · dP[r] − offset[r])`, rounded, in pairs of rows and in rows of BF16. All operands
    /// have room for whole vectors in place of n.
    ///
    /// Arguments: m, n; P and its row stride; dP and its row stride; scale; offset; the pairs `[⌈m / 2⌉][n]`
    /// and their row stride; the rows `[m][n]` and their stride in numbers.
    public typealias ScoreGradientPairs = @Sendable (
        Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, Int, Double, UnsafeRawPointer,
        UnsafeMutableRawPointer, Int, UnsafeMutableRawPointer, Int
    ) -> Void

    /// C = A Bᵀ over panels of pairs along the rows of both.
    public var gemmPacked: TileKernelTable.PackedGEMM
    /// C = keep C + A B: pairs along the rows of A and down the columns of B.
    public var gemmNN: TileKernelTable.GEMM
    /// C = keep C + Aᵀ B: pairs down the columns of both.
    public var gemmTN: TileKernelTable.GEMM
    /// The products of decoding: K in pairs along its rows; V in rows of BF16, two for each pair of P.
    public var passing: PassingProducts
    /// Rows of pairs into the panels of `gemmPacked`.
    public var packTransposed: TileKernelTable.PackTransposed
    /// P and its row sums for a tile that is held transposed, as `exponentiateColumns`; of P what is written
    /// is pairs of rows, rounded, to the first ⌈m / 2⌉ rows of the tile.
    public var exponentiatePairs: TileKernelTable.ExponentiateColumns
    /// P again in the backward pass, in Float and in pairs.
    public var probabilityPairs: ProbabilityPairs
    /// dS in the two forms that its products take.
    public var scoreGradientPairs: ScoreGradientPairs
    /// Rows of BF16 to rows of pairs.
    public var pairRows: PairRows
    /// Rows of Float, rounded, to rows of pairs. Both operands have room for whole vectors in place of n.
    public var roundPairs: PairRows
    /// Whether every entry of a matrix of BF16 is finite.
    public var allFinite: TileKernelTable.AllFinite
    /// The ceiling of all speeds in BF16.
    public var multiplyAddLoop: TileKernelTable.MultiplyAddLoop

    /// A table with every entry.
    public init(
        gemmPacked: @escaping TileKernelTable.PackedGEMM, gemmNN: @escaping TileKernelTable.GEMM,
        gemmTN: @escaping TileKernelTable.GEMM,
        passing: PassingProducts, packTransposed: @escaping TileKernelTable.PackTransposed,
        exponentiatePairs: @escaping TileKernelTable.ExponentiateColumns,
        probabilityPairs: @escaping ProbabilityPairs, scoreGradientPairs: @escaping ScoreGradientPairs,
        pairRows: @escaping PairRows, roundPairs: @escaping PairRows,
        allFinite: @escaping TileKernelTable.AllFinite,
        multiplyAddLoop: @escaping TileKernelTable.MultiplyAddLoop
    ) {
        self.gemmPacked = gemmPacked
        self.gemmNN = gemmNN
        self.gemmTN = gemmTN
        self.passing = passing
        self.packTransposed = packTransposed
        self.exponentiatePairs = exponentiatePairs
        self.probabilityPairs = probabilityPairs
        self.scoreGradientPairs = scoreGradientPairs
        self.pairRows = pairRows
        self.roundPairs = roundPairs
        self.allFinite = allFinite
        self.multiplyAddLoop = multiplyAddLoop
    }
}
