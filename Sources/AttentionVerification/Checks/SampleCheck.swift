import FlashAttention

/// Checks results of problems that are too big for the whole of ``Oracle``, on some rows and keys.
public struct SampleCheck<Element: AttentionElement>: Sendable {
    public let oracle: Oracle
    private let inputs: OracleInputs
    private let rows: [OracleRow]
    private let keys: [OracleRow]

    /// - Parameters:
    ///   - oracle: the problem.
    ///   - outputGradient: needed for `backward` alone.
    ///   - rows: how many rows of Q, and of K and V, to look at; all where there are no more.
    ///   - seed: which.
    public init(
        _ oracle: Oracle, query: Tensor<Element>, key: Tensor<Element>, value: Tensor<Element>,
        outputGradient: Tensor<Element>? = nil, rows: Int = 48, seed: UInt64 = 7
    ) {
        self.oracle = oracle
        inputs = OracleInputs(query: query, key: key, value: value, outputGradient: outputGradient)
        let shape = oracle.shape
        var random = SplitMix64(seed: seed)
        self.rows = Self.sample(
            rows, batch: shape.batch, heads: shape.heads, length: shape.queryLength, &random)
        keys = Self.sample(
            rows, batch: shape.batch, heads: shape.keyValueHeads, length: shape.keyLength, &random)
    }

    /// The errors of O and lse in the sampled rows.
    public func forward(_ result: AttentionOutput<Element>) -> [TensorError] {
        let reference = oracle.forward(inputs, rows: rows)
        let output = result.output.denseDoubles()
        let logSumExp = result.logSumExp
        return [
            measure(
                "output", output, oracle.shape.valueHeadSize, rows.map(oracle.queryRow), reference.output),
            measure("logSumExp", logSumExp, 1, rows.map(oracle.queryRow), reference.logSumExp),
        ]
    }

    /// The errors of dQ in the sampled rows and of dK and dV in the sampled keys.
    ///
    /// - Parameters:
    ///   - forward: the result that the backward pass started from. What it says of every row enters the
    ///     right answer for dK and dV, so check it first; the right dQ is computed from the inputs alone.
    public func backward(
        _ result: AttentionGradients<Element>, forward: AttentionOutput<Element>
    ) -> [TensorError] {
        let shape = oracle.shape
        let known = OracleForward(
            output: forward.output.denseDoubles(), logSumExp: forward.logSumExp)
        let dQ = oracle.queryGradient(inputs, rows: rows)
        let (dK, dV) = oracle.keyValueGradients(inputs, forward: known, keys: keys)
        let at = keys.map { ($0.batch * shape.keyValueHeads + $0.head) * shape.keyLength + $0.row }
        return [
            measure(
                "queryGradient", result.query.denseDoubles(), shape.headSize, rows.map(oracle.queryRow), dQ),
            measure("keyGradient", result.key.denseDoubles(), shape.headSize, at, dK),
            measure("valueGradient", result.value.denseDoubles(), shape.valueHeadSize, at, dV),
        ]
    }

    /// Whether an error is within the tolerance for unit-normal inputs.
    public static func isWithinTolerance(_ error: TensorError) -> Bool {
        error.excess <= 1 && error.nonFiniteMismatches == 0
    }

    private func measure(
        _ name: String, _ tensor: [Double], _ width: Int, _ rows: [Int], _ reference: [Double]
    ) -> TensorError {
        let sampled = rows.flatMap { tensor[$0 * width..<($0 + 1) * width] }
        return Judge(element: .init(Element.self), inputs: .normal).measure(name, sampled, reference)
    }

    /// Rows at random, the first and the last among them.
    private static func sample(
        _ count: Int, batch: Int, heads: Int, length: Int, _ random: inout SplitMix64
    ) -> [OracleRow] {
        let all = batch * heads * length
        guard all > 0 else { return [] }
        var chosen = all <= count ? Set(0..<all) : Set([0, all - 1])
        while chosen.count < min(count, all) { chosen.insert(Int(random.next() % UInt64(all))) }
        return chosen.sorted().map {
            OracleRow(batch: $0 / length / heads, head: $0 / length % heads, row: $0 % length)
        }
    }
}
