/// The running maximum m and sum l of some rows of scores, and the one owner of the rule for empty rows.
///
/// Scores are held in units of log2: m is the maximum of `scaleLog2 · s`, so that exp becomes exp2 with the
/// scale folded into one multiply-add. A row that has seen no key has m = −∞ and l = 0; its output is 0
/// and its lse −∞.
///
/// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867,
/// Algorithm 3, and for `finish` Dao, "FlashAttention-2", arXiv 2307.08691, Algorithm 1.
package struct RowStatistics<Scalar: AttentionElement> {
    /// m, or rather its stand-in for rows without a key: `[rows]`.
    package let maximum: UnsafeMutablePointer<Scalar>
    /// l: `[rows]`.
    package let sum: UnsafeMutablePointer<Scalar>

    /// - Parameters:
    ///   - maximum, sum: `[rows]`, contents undefined until `reset`.
    package init(maximum: UnsafeMutablePointer<Scalar>, sum: UnsafeMutablePointer<Scalar>) {
        self.maximum = maximum
        self.sum = sum
    }

    /// Forgets every key.
    package func reset(_ rows: Int) {
        maximum.update(repeating: -.infinity, count: rows)
        sum.update(repeating: 0, count: rows)
    }

    /// Takes a tile's row maxima in: m becomes the new maximum, l is corrected to it.
    ///
    /// - Parameters:
    ///   - tileMaximum: maxima of the raw scores, `[rows]`; becomes what `exp2` has to subtract, which is m,
    ///     or 0 in a row that has seen no key (−∞ − −∞ would be NaN).
    ///   - correction: receives exp2(m_old − m_new), the factor on what was summed so far, `[rows]`.
    package func update(
        _ rows: Int, tileMaximum: UnsafeMutablePointer<Scalar>, scaleLog2: Scalar,
        correction: UnsafeMutablePointer<Scalar>
    ) {
        for r in 0..<rows {
            let old = maximum[r]
            let candidate = tileMaximum[r] * scaleLog2
            let new = candidate > old ? candidate : old
            maximum[r] = new
            tileMaximum[r] = Self.subtrahend(new)
            correction[r] = old == new && old.isFinite ? 1 : Scalar.exp2(old - Self.subtrahend(new))
            sum[r] *= correction[r]
        }
    }

    /// Adds a tile's row sums.
    package func add(_ rows: Int, tileSum: UnsafePointer<Scalar>) {
        for r in 0..<rows { sum[r] += tileSum[r] }
    }

    /// lse = m + ln l, and the factor 1/l that normalises the output.
    ///
    /// - Parameters:
    ///   - inverse: receives 1/l, 0 for an empty row, `[rows]`. May be `sum` itself.
    ///   - logSumExp: receives the natural logarithm, −∞ for an empty row, `[rows]`.
    package func finish(
        _ rows: Int, inverse: UnsafeMutablePointer<Scalar>, logSumExp: UnsafeMutablePointer<Scalar>
    ) {
        for r in 0..<rows {
            let l = sum[r]
            logSumExp[r] = l == 0 ? -.infinity : Self.natural(maximum[r], l)
            inverse[r] = l == 0 ? 0 : 1 / l
        }
    }

    /// What the backward pass subtracts to get P from S: the lse in units of log2. For an empty row +∞,
    /// so that P = exp2(s − ∞) = 0.
    package static func backwardOffset(_ logSumExp: Scalar) -> Scalar {
        logSumExp == -.infinity ? .infinity : logSumExp * Scalar(log2E)
    }

    /// log2 e, the factor from natural units to units of log2.
    package static var log2E: Double { 1.4426950408889634 }

    private static func subtrahend(_ maximum: Scalar) -> Scalar { maximum == -.infinity ? 0 : maximum }

    private static func natural(_ maximum: Scalar, _ sum: Scalar) -> Scalar {
        Scalar((Double(maximum) + Double.log2(Double(sum))) * 0.6931471805599453)
    }
}
