import FlashAttention

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// O and lse of some rows, in the order in which the rows were asked for.
public struct OracleForward: Sendable {
    /// `[rows, Dv]`
    public var output: [Double]
    /// `[rows]`, natural logarithm.
    public var logSumExp: [Double]

    public init(output: [Double], logSumExp: [Double]) {
        self.output = output
        self.logSumExp = logSumExp
    }
}

extension Oracle {
    /// O and lse of every row: `output` is then `[B, H, Nq, Dv]` and `logSumExp` `[B, H, Nq]`.
    public func forward(_ inputs: OracleInputs) -> OracleForward { forward(inputs, rows: allRows) }

    /// O and lse of the given rows, for problems that are too big to be checked whole.
    ///
    /// Work: 2·Nk·(D + Dv) FLOPs a row, over all cores.
    public func forward(_ inputs: OracleInputs, rows: [OracleRow]) -> OracleForward {
        let width = shape.valueHeadSize
        let output = RowWriter(rows: rows.count, width: width)
        let logSumExp = RowWriter(rows: rows.count, width: 1)
        inParallel(rows.count) { range in
            var scores = [Double](repeating: 0, count: shape.keyLength)
            for r in range {
                logSumExp[r][0] = softmaxRow(inputs, rows[r], &scores, output: output[r])
            }
        }
        return OracleForward(output: output.array(), logSumExp: logSumExp.array())
    }

    /// One row: s = scale · q Kᵀ over the keys it sees, P = exp(s − max s) / l, O = P V.
    ///
    /// - Parameters:
    ///   - scores: room for `[Nk]`.
    ///   - output: `[Dv]`, zeros; receives O.
    /// - Returns: lse = max s + ln l.
    func softmaxRow(
        _ inputs: OracleInputs, _ row: OracleRow, _ scores: inout [Double],
        output: UnsafeMutablePointer<Double>
    ) -> Double {
        let length = keyLength(row.batch)
        let visible = (0..<shape.keyLength).filter { sees(query: row.row, key: $0, length: length) }
        var maximum = -Double.infinity
        for j in visible {
            scores[j] = score(inputs, row, key: j)
            if scores[j] > maximum { maximum = scores[j] }
        }
        // A row that sees no key, or none with a score above −∞: O = 0, lse = −∞.
        let subtrahend = maximum == -.infinity ? 0 : maximum
        var sum = 0.0
        for j in visible {
            scores[j] = exp(scores[j] - subtrahend)
            sum += scores[j]
        }
        if sum == 0 { return -.infinity }
        for j in visible {
            add(scores[j] / sum, inputs.value, keyRow(row, j), shape.valueHeadSize, to: output)
        }
        return maximum + log(sum)
    }

    /// scale · q · k, of a query row and a key that it sees.
    func score(_ inputs: OracleInputs, _ row: OracleRow, key j: Int) -> Double {
        softmaxScale * dot(inputs.query, queryRow(row), inputs.key, keyRow(row, j), shape.headSize)
    }

    /// Where a query row stands in `[B, H, Nq]`.
    func queryRow(_ row: OracleRow) -> Int {
        (row.batch * shape.heads + row.head) * shape.queryLength + row.row
    }

    /// Where key j of the head that a query row attends to stands in `[B, Hkv, Nk]`.
    func keyRow(_ row: OracleRow, _ j: Int) -> Int {
        let head = row.head / (shape.heads / shape.keyValueHeads)
        return (row.batch * shape.keyValueHeads + head) * shape.keyLength + j
    }
}
