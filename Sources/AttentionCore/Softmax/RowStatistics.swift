/// The running maximum m and sum l of some rows of scores, and the one owner of the rule for empty rows.
///
/// m is a maximum of raw scores, without the scale: s − m is then free of rounding where it counts, and the
/// scale and the factor log2 e enter as one factor on the difference. The lse is a Double: rounded to Float
/// it has an error of 8e-6 at logits of ±100, which goes straight into P in the backward pass and made the
/// error of gradients there 2 to 4 times that of the naive algorithm. A row that has seen no key has m = −∞
/// and l = 0; its output is 0 and its lse −∞.
///
/// The methods are specialised here, because callers in other modules would get them through witness
/// tables, at 150 ns a row and tile.
///
/// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867,
/// Algorithm 3, and for `finish` Dao, "FlashAttention-2", arXiv 2307.08691, Algorithm 1.
package struct RowStatistics<Scalar: AttentionScalar> {
    /// The factor on scores, greater than 0.
    package let scale: Scalar
    /// m: `[rows]`.
    package let maximum: UnsafeMutablePointer<Scalar>
    /// l: `[rows]`.
    package let sum: UnsafeMutablePointer<Scalar>

    /// - Parameters:
    ///   - scale: the factor on scores, greater than 0.
    ///   - maximum, sum: `[rows]`, contents undefined until `reset`.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package init(
        scale: Scalar, maximum: UnsafeMutablePointer<Scalar>, sum: UnsafeMutablePointer<Scalar>
    ) {
        self.scale = scale
        self.maximum = maximum
        self.sum = sum
    }

    /// Forgets every key.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package func reset(_ rows: Int) {
        maximum.update(repeating: -.infinity, count: rows)
        sum.update(repeating: 0, count: rows)
    }

    /// Takes a tile's row maxima in: m becomes the new maximum, l is corrected to it.
    ///
    /// - Parameters:
    ///   - tileMaximum: maxima of the raw scores, `[rows]`; becomes what is to be subtracted from them, which
    ///     is m, or 0 in a row that has seen no key (−∞ − −∞ would be NaN).
    ///   - correction: receives exp(scale · (m_old − m_new)), the factor on what was summed so far, `[rows]`.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package func update(
        _ rows: Int, tileMaximum: UnsafeMutablePointer<Scalar>,
        correction: UnsafeMutablePointer<Scalar>
    ) {
        for r in 0..<rows {
            let old = maximum[r]
            let new = tileMaximum[r] > old ? tileMaximum[r] : old
            maximum[r] = new
            tileMaximum[r] = Self.subtrahend(new)
            correction[r] = Self.correction(from: old, to: new, scale: scale)
            sum[r] *= correction[r]
        }
    }

    /// Adds a tile's row sums.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package func add(_ rows: Int, tileSum: UnsafePointer<Scalar>) {
        for r in 0..<rows { sum[r] += tileSum[r] }
    }

    /// Merges in the statistics of other keys, m̃ and l̃, and gives the factors that merge the outputs:
    /// `O = oldFactor · O + newFactor · Õ` for a normalised O and an unnormalised Õ is normalised again.
    ///
    /// - Parameters:
    ///   - tileMaximum, tileSum: m̃ and l̃, `[rows]`.
    ///   - oldFactor, newFactor: receive l exp(scale · (m − m_new)) / l_new and exp(scale · (m̃ − m_new)) /
    ///     l_new, 0 in rows that have seen no key, `[rows]`.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package func merge(
        _ rows: Int, tileMaximum: UnsafePointer<Scalar>, tileSum: UnsafePointer<Scalar>,
        oldFactor: UnsafeMutablePointer<Scalar>, newFactor: UnsafeMutablePointer<Scalar>
    ) {
        for r in 0..<rows {
            let new = tileMaximum[r] > maximum[r] ? tileMaximum[r] : maximum[r]
            let subtrahend = Self.subtrahend(new)
            let old = sum[r] * Scalar.exp(scale * (maximum[r] - subtrahend))
            let factor = Scalar.exp(scale * (tileMaximum[r] - subtrahend))
            maximum[r] = new
            sum[r] = old + factor * tileSum[r]
            oldFactor[r] = sum[r] == 0 ? 0 : old / sum[r]
            newFactor[r] = sum[r] == 0 ? 0 : factor / sum[r]
        }
    }

    /// What is to be subtracted from scores for a maximum: itself, or 0 for the −∞ of a row without keys.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package static func subtrahends(
        _ rows: Int, of maximum: UnsafePointer<Scalar>, into offset: UnsafeMutablePointer<Scalar>
    ) {
        for r in 0..<rows { offset[r] = subtrahend(maximum[r]) }
    }

    /// The statistics of the rows from `row` on.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package func rows(from row: Int) -> RowStatistics {
        RowStatistics(scale: scale, maximum: maximum + row, sum: sum + row)
    }

    /// 1/l, 0 for an empty row: what normalises P where it is kept, `[rows]`.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package func reciprocals(_ rows: Int, into inverse: UnsafeMutablePointer<Scalar>) {
        for r in 0..<rows { inverse[r] = sum[r] == 0 ? 0 : 1 / sum[r] }
    }

    /// lse = scale · m + ln l. What is left to the caller is to divide the output by l, where that is not 0.
    ///
    /// - Parameters:
    ///   - logSumExp: receives the natural logarithm, −∞ for an empty row, `[rows]`.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package func finish(_ rows: Int, logSumExp: UnsafeMutablePointer<Double>) {
        for r in 0..<rows {
            let l = sum[r]
            logSumExp[r] = l == 0 ? -.infinity : Double(scale) * Double(maximum[r]) + Double.log(Double(l))
        }
    }

    /// What the backward pass subtracts from raw scores to get P: lse / scale in two parts, whose sum has the
    /// digits that one Scalar has no room for. For an empty row +∞, so that P = exp(scale · (s − ∞)) = 0.
    @_specialize(where Scalar == Float)
    @_specialize(where Scalar == Double)
    package static func backwardOffset(_ logSumExp: Double, scale: Scalar) -> (high: Scalar, low: Scalar) {
        guard logSumExp.isFinite else { return (logSumExp == -.infinity ? .infinity : Scalar(logSumExp), 0) }
        let offset = logSumExp / Double(scale)
        let high = Scalar(offset)
        return (high, Scalar(offset - Double(high)))
    }

    /// exp(scale · (old − new)), without the call where the result is known: a tile that comes first, or one
    /// that does not raise the maximum.
    private static func correction(from old: Scalar, to new: Scalar, scale: Scalar) -> Scalar {
        if old == -.infinity { return 0 }
        return old == new && old.isFinite ? 1 : Scalar.exp(scale * (old - subtrahend(new)))
    }

    private static func subtrahend(_ maximum: Scalar) -> Scalar { maximum == -.infinity ? 0 : maximum }
}
