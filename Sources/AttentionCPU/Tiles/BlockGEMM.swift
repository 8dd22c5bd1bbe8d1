import AttentionCore
import TileKernelTable

/// The three products of blocks that attention is made of, by our micro-kernels or by BLAS.
struct BlockGEMM<Scalar: CPUScalar> {
    let kernels: TileKernelTable
    /// BLAS, if it multiplies.
    let blas: BLAS?
    /// One packed panel, for ragged edges.
    let scratch: UnsafeMutablePointer<Scalar>

    /// What becomes of the old contents of a product's destination.
    enum Keep {
        /// They are overwritten.
        case nothing
        /// They are added to.
        case everything
        /// Row r is multiplied by element r, then added to.
        case scaled(UnsafePointer<Scalar>)

        /// The same for row r alone.
        func row(_ r: Int) -> Keep {
            if case .scaled(let factors) = self { .scaled(factors + r) } else { self }
        }

        /// As the micro-kernels take it.
        var forKernels: (rowScale: UnsafePointer<Scalar>?, accumulate: Bool) {
            switch self {
            case .nothing: (nil, false)
            case .everything: (nil, true)
            case .scaled(let factors): (factors, true)
            }
        }
    }

    /// Rows of K (or Q, or V) that are to be multiplied transposed.
    struct Transposed {
        let rows: Block<Scalar>
        /// The same packed for the micro-kernels; nil when they are read where they lie.
        let panels: UnsafePointer<Scalar>?
        /// Rows in a panel.
        let panelWidth: Int

        /// The rows where they lie: for products with a single row, where packing costs more than it saves.
        /// Packed or not, the scores sum in another order; an algorithm does one or the other in both passes,
        /// so that the backward pass finds the forward pass's scores to the last bit.
        init(inPlace rows: Block<Scalar>) { self.init(rows: rows, panels: nil, panelWidth: 1) }

        fileprivate init(rows: Block<Scalar>, panels: UnsafePointer<Scalar>?, panelWidth: Int) {
            (self.rows, self.panels, self.panelWidth) = (rows, panels, panelWidth)
        }

        /// Some of the rows: from the start of a panel, or within one.
        func rows(_ range: Range<Int>) -> Transposed {
            let column = range.lowerBound % panelWidth
            let panel = (range.lowerBound - column) * rows.columns
            return Transposed(
                rows: rows.rows(range), panels: panels.map { $0 + panel + column }, panelWidth: panelWidth)
        }
    }

    /// Makes rows ready for `multiply(_:transposed:)`.
    /// - Parameters:
    ///   - panels: room for `kernels.packedCount` scalars.
    func pack(_ B: Block<Scalar>, panels: UnsafeMutablePointer<Scalar>) -> Transposed {
        guard blas == nil else { return Transposed(inPlace: B) }
        kernels.packTransposed(B.rows, B.columns, B.memory, B.stride, panels)
        return Transposed(rows: B, panels: UnsafePointer(panels), panelWidth: kernels.panelWidth)
    }

    /// `C = A Bᵀ`. Rows of C have room for whole panels.
    func multiply(_ A: Block<Scalar>, transposed B: Transposed, into C: MutableBlock<Scalar>) {
        if let panels = B.panels {
            kernels.gemmPacked(A.rows, C.columns, A.columns, A.memory, A.stride, panels, C.memory, C.stride)
        } else if let blas {
            call(
                blas, BLAS.noTranspose, BLAS.transpose, A.columns, A.memory, A.stride, B.rows.memory,
                B.rows.stride, C, accumulate: false)
        } else {
            kernels.gemmNT(
                A.rows, C.columns, A.columns, A.memory, A.stride, B.rows.memory, B.rows.stride, C.memory,
                C.stride)
        }
    }

    /// `C = keep C + A B`.
    func multiply(_ A: Block<Scalar>, _ B: Block<Scalar>, into C: MutableBlock<Scalar>, keep: Keep) {
        if let blas {
            let accumulate = keepForBLAS(keep, C)
            call(
                blas, BLAS.noTranspose, BLAS.noTranspose, A.columns, A.memory, A.stride, B.memory, B.stride,
                C, accumulate: accumulate)
        } else {
            let (rowScale, accumulate) = keep.forKernels
            kernels.gemmNN(
                C.rows, C.columns, A.columns, A.memory, A.stride, B.memory, B.stride, C.memory, C.stride,
                rowScale, accumulate, scratch)
        }
    }

    /// `C = keep C + Aᵀ B`.
    func multiply(transposed A: Block<Scalar>, _ B: Block<Scalar>, into C: MutableBlock<Scalar>, keep: Keep) {
        if let blas {
            let accumulate = keepForBLAS(keep, C)
            call(
                blas, BLAS.transpose, BLAS.noTranspose, A.rows, A.memory, A.stride, B.memory, B.stride, C,
                accumulate: accumulate)
        } else {
            let (rowScale, accumulate) = keep.forKernels
            kernels.gemmTN(
                C.rows, C.columns, A.rows, A.memory, A.stride, B.memory, B.stride, C.memory, C.stride,
                rowScale, accumulate, scratch)
        }
    }

    /// BLAS has one factor for all of C, so row factors take a pass of their own. (Not `scaleRows`: its
    /// factor of 0 would clear a NaN that came from a visible key.)
    private func keepForBLAS(_ keep: Keep, _ C: MutableBlock<Scalar>) -> Bool {
        switch keep {
        case .nothing: return false
        case .everything: return true
        case .scaled(let factors):
            for r in 0..<C.rows where factors[r] != 1 {
                let (row, factor) = (C.memory + r * C.stride, factors[r])
                for c in 0..<C.columns { row[c] *= factor }
            }
            return true
        }
    }

    private func call(
        _ blas: BLAS, _ transposeA: Int32, _ transposeB: Int32, _ k: Int, _ a: UnsafePointer<Scalar>,
        _ lda: Int, _ b: UnsafePointer<Scalar>, _ ldb: Int, _ C: MutableBlock<Scalar>, accumulate: Bool
    ) {
        Scalar.gemm(
            blas,
            BLASCall(
                transposeA: transposeA, transposeB: transposeB, m: Int32(C.rows), n: Int32(C.columns),
                k: Int32(k), a: a, lda: Int32(lda), b: b, ldb: Int32(ldb), c: C.memory,
                ldc: Int32(C.stride), accumulate: accumulate))
    }
}
