import FlashAttention

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// dQ, dK and dV, dense.
public struct OracleGradients: Sendable {
    /// `[B, H, Nq, D]`
    public var query: [Double]
    /// `[B, Hkv, Nk, D]`
    public var key: [Double]
    /// `[B, Hkv, Nk, Dv]`
    public var value: [Double]
}

extension Oracle {
    /// All three gradients, from the inputs alone.
    public func backward(_ inputs: OracleInputs) -> OracleGradients {
        let forward = forward(inputs)
        let (key, value) = keyValueGradients(inputs, forward: forward, keys: allKeys)
        return OracleGradients(
            query: queryGradient(inputs, forward: forward, rows: allRows), key: key, value: value)
    }

    /// dQ of some rows, `[rows, D]`: dQ_i = scale · Σ_j P_ij (dO_i·V_j − delta_i) K_j.
    ///
    /// - Parameters:
    ///   - forward: O and lse of every row, or nil to compute those of the given rows here.
    public func queryGradient(
        _ inputs: OracleInputs, forward: OracleForward? = nil, rows: [OracleRow]
    ) -> [Double] {
        let result = RowWriter(rows: rows.count, width: shape.headSize)
        let own = forward == nil ? self.forward(inputs, rows: rows) : nil
        inParallel(rows.count) { range in
            for r in range {
                let row = rows[r]
                let at = own == nil ? queryRow(row) : r
                guard let known = own ?? forward, known.logSumExp[at] != -.infinity else { continue }
                let delta = delta(inputs, row, known, at: at)
                let length = keyLength(row.batch)
                for j in 0..<shape.keyLength where sees(query: row.row, key: j, length: length) {
                    let p = exp(score(inputs, row, key: j) - known.logSumExp[at])
                    let dP = outputDotValue(inputs, row, key: j)
                    add(
                        softmaxScale * p * (dP - delta), inputs.key, keyRow(row, j), shape.headSize,
                        to: result[r])
                }
            }
        }
        return result.array()
    }

    /// dK `[keys, D]` and dV `[keys, Dv]` of some keys: dV_j = Σ_i P_ij dO_i and
    /// dK_j = scale · Σ_i P_ij (dO_i·V_j − delta_i) Q_i, over the query heads of the key's group.
    ///
    /// - Parameters:
    ///   - forward: O and lse of every row: this oracle's, or, where that would take too long, the ones
    ///     under test, after some of their rows have been checked.
    public func keyValueGradients(
        _ inputs: OracleInputs, forward: OracleForward, keys: [OracleRow]
    ) -> (key: [Double], value: [Double]) {
        let dK = RowWriter(rows: keys.count, width: shape.headSize)
        let dV = RowWriter(rows: keys.count, width: shape.valueHeadSize)
        let group = shape.keyValueHeads == 0 ? 0 : shape.heads / shape.keyValueHeads
        inParallel(keys.count) { range in
            for r in range {
                let (b, head, j) = (keys[r].batch, keys[r].head, keys[r].row)
                for h in head * group..<(head + 1) * group {
                    for i in 0..<shape.queryLength where sees(query: i, key: j, length: keyLength(b)) {
                        let row = OracleRow(batch: b, head: h, row: i)
                        let at = queryRow(row)
                        let lse = forward.logSumExp[at]
                        if lse == -.infinity { continue }
                        let p = exp(score(inputs, row, key: j) - lse)
                        let dP = outputDotValue(inputs, row, key: j)
                        let dS = p * (dP - delta(inputs, row, forward, at: at))
                        add(p, inputs.outputGradient, at, shape.valueHeadSize, to: dV[r])
                        add(softmaxScale * dS, inputs.query, at, shape.headSize, to: dK[r])
                    }
                }
            }
        }
        return (dK.array(), dV.array())
    }

    /// delta_i = Σ_d dO_id O_id.
    private func delta(
        _ inputs: OracleInputs, _ row: OracleRow, _ forward: OracleForward, at: Int
    ) -> Double {
        let n = shape.valueHeadSize
        return inputs.outputGradient.withUnsafeBufferPointer { dO in
            forward.output.withUnsafeBufferPointer { o in
                var sum = 0.0
                for d in 0..<n { sum += dO[queryRow(row) * n + d] * o[at * n + d] }
                return sum
            }
        }
    }

    /// dP_ij = dO_i · V_j.
    private func outputDotValue(_ inputs: OracleInputs, _ row: OracleRow, key j: Int) -> Double {
        dot(inputs.outputGradient, queryRow(row), inputs.value, keyRow(row, j), shape.valueHeadSize)
    }
}
