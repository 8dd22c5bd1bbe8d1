import AttentionCore
import TileKernelTable

/// The steps on one tile over pairs of BF16, for processors that multiply a pair at a time.
///
/// A product needs its operands in pairs along the dimension that it sums over. Rows of Q, K, dO and V are
/// pairs along D as they lie in memory, unless D or a stride is odd. What is summed over keys or queries is
/// paired down the columns, in a copy. Products, scores and sums are Float.
struct PairSteps {
    let kernels: PairKernelTable
    /// The steps that work on scores and sums.
    let float: TileSteps<Float>
    private let scratch: UnsafeMutablePointer<Float>
    /// Room for the pairs of some rows: `[⌈max(Br, Bc) / 2⌉][max(D, Dv)]`.
    private let visiblePairs: MutableBlock<UInt32>

    /// Rows of an operand and the same paired down the columns.
    struct Paired {
        let rows: Block<BFloat16>
        let pairs: Block<UInt32>
    }

    /// Rows packed for `multiply(_:transposed:)`.
    struct Panels {
        let memory: UnsafePointer<UInt32>
        /// ⌈D / 2⌉
        let depth: Int
        /// Rows in a panel.
        let width: Int

        /// Some of the rows: from the start of a panel, or within one.
        func rows(from row: Int) -> Panels {
            Panels(memory: memory + row / width * width * depth + row % width, depth: depth, width: width)
        }
    }

    init(_ c: CPUContext, _ arena: inout Arena) {
        guard let kernels = c.pairs else { preconditionFailure("planned without kernels over pairs") }
        self.kernels = kernels
        scratch = arena.take(c.gemmScratch, of: Float.self)
        float = TileSteps(c, scratch: scratch)
        let widest = max(c.shape.headSize, c.shape.valueHeadSize)
        visiblePairs = arena.block(PairSteps.count(max(c.tileRows, c.tileKeys)), widest, stride: widest)
    }

    /// Pairs that hold n numbers.
    static func count(_ n: Int) -> Int { n / 2 + n % 2 }

    // MARK: Loading

    /// Rows as pairs along D: where they lie, or copied where they cannot be read as pairs.
    func load(_ block: Block<BFloat16>, into copy: MutableBlock<UInt32>) -> Block<UInt32> {
        let pairs = Self.count(block.columns)
        if block.columns % 2 == 0, block.stride % 2 == 0, UInt(bitPattern: block.memory) % 4 == 0 {
            return Block(
                memory: UnsafeRawPointer(block.memory).assumingMemoryBound(to: UInt32.self), rows: block.rows,
                columns: pairs, stride: block.stride / 2)
        }
        for r in 0..<block.rows {
            let row = copy.memory + r * copy.stride
            if block.columns % 2 == 1 { row[pairs - 1] = 0 }
            UnsafeMutableRawPointer(row).copyMemory(
                from: block.memory + r * block.stride, byteCount: 2 * block.columns)
        }
        return copy.corner(block.rows, pairs).readOnly
    }

    /// Rows with the same paired down the columns.
    func pair(_ rows: Block<BFloat16>, into scratch: MutableBlock<UInt32>) -> Paired {
        let pairs = scratch.corner(Self.count(rows.rows), rows.columns)
        kernels.pairRows(rows.rows, rows.columns, rows.memory, rows.stride, pairs.memory, pairs.stride)
        return Paired(rows: rows, pairs: pairs.readOnly)
    }

    /// P or dS, rounded and paired down the columns.
    func pair(rounding P: MutableBlock<Float>, into scratch: MutableBlock<UInt32>) -> Block<UInt32> {
        let pairs = scratch.corner(Self.count(P.rows), P.columns)
        kernels.roundPairs(P.rows, P.columns, P.memory, P.stride, pairs.memory, pairs.stride)
        return pairs.readOnly
    }

    /// P = exp(scale · S − lse) in place, 0 where it is hidden; returned rounded and paired down the columns.
    func probabilities(
        _ S: MutableBlock<Float>, _ lse: RowOffsets<Float>, _ tile: TilePlan.Tile, _ plan: TilePlan,
        into scratch: MutableBlock<UInt32>
    ) -> Block<UInt32> {
        let pairs = scratch.corner(Self.count(S.rows), S.columns)
        kernels.probabilityPairs(
            S.rows, S.columns, S.memory, S.stride, float.exponentFactor, lse.high, lse.low, pairs.memory,
            pairs.stride)
        guard tile.zone == .masked else { return pairs.readOnly }
        float.clearHidden(S, tile, plan)
        return pair(rounding: S, into: scratch)
    }

    /// dS = P ∘ (dP − delta) · scale, 0 where it is hidden; rounded, paired down the columns and along the
    /// rows. Of an odd last pair the other half is 0.
    func scoreGradient(
        _ P: MutableBlock<Float>, _ dP: MutableBlock<Float>, scaledDelta: UnsafePointer<Float>,
        _ tile: TilePlan.Tile, _ plan: TilePlan, into scratch: MutableBlock<UInt32>,
        _ dS: MutableBlock<BFloat16>
    ) -> (columns: Block<UInt32>, rows: Block<UInt32>) {
        let dS = dS.corner(P.rows, P.columns)
        var pairs = scratch.corner(Self.count(P.rows), P.columns).readOnly
        if tile.zone == .masked {
            float.scoreGradient(P, dP, scaledDelta: scaledDelta)
            float.clearHidden(dP, tile, plan)
            pairs = pair(rounding: dP, into: scratch)
            float.store(dP, to: dS)
        } else {
            kernels.scoreGradientPairs(
                P.rows, P.columns, P.memory, P.stride, dP.memory, dP.stride, float.scale, scaledDelta,
                scratch.memory, scratch.stride, dS.memory, dS.stride)
        }
        return (pairs, pairsOfRows(dS))
    }

    /// P rounded, in pairs along its rows.
    ///
    /// - Parameters:
    ///   - rounded: in rows of an even stride.
    func round(_ P: MutableBlock<Float>, into rounded: MutableBlock<BFloat16>) -> Block<UInt32> {
        let rounded = rounded.corner(P.rows, P.columns)
        float.store(P, to: rounded)
        return pairsOfRows(rounded)
    }

    /// Rows of our own as pairs; of an odd last pair the other half becomes 0.
    private func pairsOfRows(_ block: MutableBlock<BFloat16>) -> Block<UInt32> {
        if block.columns % 2 == 1 {
            for r in 0..<block.rows { block.memory[r * block.stride + block.columns] = .zero }
        }
        return Block(
            memory: UnsafeRawPointer(block.memory).assumingMemoryBound(to: UInt32.self), rows: block.rows,
            columns: Self.count(block.columns), stride: block.stride / 2)
    }

    /// Makes the rows of an operand that stays for many tiles ready for `scores`.
    func pack(_ rows: Block<UInt32>, panels: UnsafeMutablePointer<UInt32>) -> Panels {
        kernels.packTransposed(rows.rows, rows.columns, rows.memory, rows.stride, panels)
        return Panels(
            memory: UnsafePointer(panels), depth: rows.columns, width: float.kernels.panelWidth)
    }

    // MARK: Products

    /// S = Q Kᵀ, without the scale but with its sign; likewise Sᵀ = K Qᵀ.
    func scores(_ Q: Block<UInt32>, _ K: Panels, into S: MutableBlock<Float>) {
        multiply(Q, transposed: K, into: S)
        if float.scale < 0 { S.negate() }
    }

    /// The same for few rows of Q, with K that passes by.
    func scores(_ Q: Block<UInt32>, passing K: Block<UInt32>, into S: MutableBlock<Float>, next: Upcoming) {
        kernels.passing.gemmNT(
            S.rows, S.columns, Q.columns, Q.memory, Q.stride, K.memory, K.stride, S.memory, S.stride,
            next.memory, next.stride, next.width)
        if float.scale < 0 { S.negate() }
    }

    /// Sᵀ = K Qᵀ with K that passes by.
    func scores(passing K: Block<UInt32>, _ Q: Panels, into St: MutableBlock<Float>, next: Upcoming) {
        kernels.passing.gemmPacked(
            St.rows, St.columns, K.columns, K.memory, K.stride, Q.memory, St.memory, St.stride, scratch,
            next.memory, next.stride, next.width)
        if float.scale < 0 { St.negate() }
    }

    /// dP = dO Vᵀ.
    func multiply(_ A: Block<UInt32>, transposed B: Panels, into C: MutableBlock<Float>) {
        kernels.gemmPacked(A.rows, C.columns, A.columns, A.memory, A.stride, B.memory, C.memory, C.stride)
    }

    /// Pᵀ = exp(scale · (Sᵀ − offset)) as pairs of keys, in place, and the row sums of P.
    func exponentiate(
        _ St: MutableBlock<Float>, offset: UnsafePointer<Float>, sum: UnsafeMutablePointer<Float>
    ) -> Block<UInt32> {
        kernels.exponentiatePairs(
            St.rows, St.columns, St.memory, St.stride, float.exponentFactor, offset, sum)
        return St.corner(Self.count(St.rows), St.columns).assumingElements(UInt32.self).readOnly
    }

    /// C = keep C + Pᵀ B: O += P V of a transposed tile, dV += Pᵀ dO or dK += dSᵀ Q.
    ///
    /// - Parameters:
    ///   - P: pairs of the dimension that is summed over, `[pairs][C.rows]`; 0 where the mask hides it.
    ///   - count: of that dimension; B may have more rows.
    ///   - isMasked: whether P hides something. As 0 · NaN is NaN, B is then looked at, and if anything in it
    ///     is not finite, each row of C takes of it only what `visible` says.
    func accumulate(
        transposed P: Block<UInt32>, _ B: Paired, count: Int, into C: MutableBlock<Float>,
        keep: BlockGEMM<Float>.Keep, isMasked: Bool, visible: (Int) -> Range<Int>
    ) {
        if isSafe(B, count, isMasked) { return multiply(transposed: P, B.pairs, into: C, keep: keep) }
        for r in 0..<C.rows {
            let (pairs, range) = pair(B.rows, visible(r))
            multiply(
                transposed: P.rows(range).columns(r..<r + 1), pairs, into: C.rows(r..<r + 1),
                keep: keep.row(r))
        }
    }

    /// C = keep C + P B with P in pairs along its rows: O += P V or dQ += dS K; otherwise as above.
    func accumulate(
        _ P: Block<UInt32>, _ B: Paired, count: Int, into C: MutableBlock<Float>,
        keep: BlockGEMM<Float>.Keep, isMasked: Bool, visible: (Int) -> Range<Int>
    ) {
        if isSafe(B, count, isMasked) { return multiply(P, B.pairs, into: C, keep: keep) }
        for r in 0..<C.rows {
            let (pairs, range) = pair(B.rows, visible(r))
            multiply(
                P.rows(r..<r + 1).columns(range), pairs, into: C.rows(r..<r + 1), keep: keep.row(r))
        }
    }

    /// The same for few rows of P, which hides nothing, with an even number of rows of V that pass by; P is
    /// in pairs along its rows, or transposed.
    func accumulate(
        _ P: Block<UInt32>, isTransposed: Bool = false, passing V: Block<BFloat16>,
        into O: MutableBlock<Float>, keep factors: UnsafePointer<Float>, next: Upcoming
    ) {
        (isTransposed ? kernels.passing.gemmTN : kernels.passing.gemmNN)(
            O.rows, O.columns, V.rows / 2, P.memory, P.stride, V.memory, V.stride, O.memory, O.stride,
            factors, scratch, next.memory, next.stride, next.width)
    }

    /// Whether P · B is right for the rows of P that are 0, among them the other half of an odd last pair.
    private func isSafe(_ B: Paired, _ count: Int, _ isMasked: Bool) -> Bool {
        let touched = min(2 * Self.count(count), B.rows.rows)
        return !isMasked && touched == count
            || kernels.allFinite(touched, B.rows.columns, B.rows.memory, B.rows.stride)
    }

    /// The pairs of some rows alone, with 0 in place of the others, and which pairs they are.
    private func pair(_ rows: Block<BFloat16>, _ seen: Range<Int>) -> (Block<UInt32>, Range<Int>) {
        let range = seen.isEmpty ? 0..<0 : seen.lowerBound / 2..<Self.count(seen.upperBound)
        let pairs = visiblePairs.corner(range.count, rows.columns)
        var (next, to) = (seen.lowerBound, pairs.memory)
        if next % 2 == 1, !seen.isEmpty {
            for c in 0..<rows.columns {
                to[c] = UInt32(rows.memory[next * rows.stride + c].bitPattern) << 16
            }
            next += 1
            to += pairs.stride
        }
        kernels.pairRows(
            seen.upperBound - next, rows.columns, rows.memory + next * rows.stride, rows.stride, to,
            pairs.stride)
        return (pairs.readOnly, range)
    }

    private func multiply(
        transposed A: Block<UInt32>, _ B: Block<UInt32>, into C: MutableBlock<Float>,
        keep: BlockGEMM<Float>.Keep
    ) {
        let (rowScale, accumulate) = keep.forKernels
        kernels.gemmTN(
            C.rows, C.columns, A.rows, A.memory, A.stride, B.memory, B.stride, C.memory, C.stride, rowScale,
            accumulate, scratch)
    }

    private func multiply(
        _ A: Block<UInt32>, _ B: Block<UInt32>, into C: MutableBlock<Float>, keep: BlockGEMM<Float>.Keep
    ) {
        let (rowScale, accumulate) = keep.forKernels
        kernels.gemmNN(
            C.rows, C.columns, A.columns, A.memory, A.stride, B.memory, B.stride, C.memory, C.stride,
            rowScale, accumulate, scratch)
    }
}
