import FlashAttention

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Attention by plain loops in Float, with every tensor on the way rounded to the element type, as it is
/// where each step is an operation of its own: the ordinary computation in the type, against whose error that
/// of the library's naive algorithm is measured, and in F16 and BF16 that of every algorithm.
struct PlainAttention<Element: AttentionElement> {
    private let oracle: Oracle
    private let query: [Float]
    private let key: [Float]
    private let value: [Float]
    private let outputGradient: [Float]

    init(_ oracle: Oracle, _ inputs: OracleInputs) {
        self.oracle = oracle
        query = inputs.query.map { Float($0) }
        key = inputs.key.map { Float($0) }
        value = inputs.value.map { Float($0) }
        outputGradient = inputs.outputGradient.map { Float($0) }
    }

    /// O and lse, or dQ, dK and dV.
    func tensors(_ pass: AttentionPass) -> [[Double]] {
        let shape = oracle.shape
        var output = [Float](repeating: 0, count: shape.outputExtents.count)
        var lse = [Float](repeating: -.infinity, count: shape.rowCount)
        var dQ = [Float](repeating: 0, count: query.count)
        var dK = [Float](repeating: 0, count: key.count)
        var dV = [Float](repeating: 0, count: value.count)
        for row in oracle.allRows {
            let (keys, P, logSum) = probabilities(row)
            let i = oracle.queryRow(row)
            lse[i] = Self.rounded(logSum)
            for (j, p) in zip(keys, P) { Self.add(p, value, j, shape.valueHeadSize, to: &output, i) }
            for d in i * shape.valueHeadSize..<(i + 1) * shape.valueHeadSize {
                output[d] = Self.rounded(output[d])
            }
            if pass == .forward { continue }
            let delta = Self.rounded(Self.dot(outputGradient, i, output, i, shape.valueHeadSize))
            for (j, p) in zip(keys, P) {
                let dP = Self.rounded(Self.dot(outputGradient, i, value, j, shape.valueHeadSize))
                let dS = Self.rounded(Float(oracle.softmaxScale) * p * (dP - delta))
                Self.add(p, outputGradient, i, shape.valueHeadSize, to: &dV, j)
                Self.add(dS, key, j, shape.headSize, to: &dQ, i)
                Self.add(dS, query, i, shape.headSize, to: &dK, j)
            }
        }
        let tensors = pass == .forward ? [output, lse] : [dQ, dK, dV]
        return tensors.map { $0.map { Double(Self.rounded($0)) } }
    }

    /// The rows of K that a query row sees, P over them, and the lse.
    private func probabilities(_ row: OracleRow) -> (keys: [Int], P: [Float], lse: Float) {
        let length = oracle.keyLength(row.batch)
        let keys = (0..<oracle.shape.keyLength)
            .filter { oracle.sees(query: row.row, key: $0, length: length) }
            .map { oracle.keyRow(row, $0) }
        let i = oracle.queryRow(row)
        let scores = keys.map {
            Self.rounded(Float(oracle.softmaxScale) * Self.dot(query, i, key, $0, oracle.shape.headSize))
        }
        let maximum = scores.reduce(-Float.infinity) { $1 > $0 ? $1 : $0 }
        if maximum == -.infinity, !scores.contains(where: \.isNaN) { return ([], [], -.infinity) }
        let weights = scores.map { expf($0 - (maximum == -.infinity ? 0 : maximum)) }
        let sum = weights.reduce(0, +)
        return (keys, weights.map { Self.rounded($0 / sum) }, maximum + logf(sum))
    }

    private static func rounded(_ x: Float) -> Float { Float(Element.rounding(Double(x)).widened) }

    private static func dot(_ a: [Float], _ r: Int, _ b: [Float], _ s: Int, _ n: Int) -> Float {
        var sum: Float = 0
        for d in 0..<n { sum += a[r * n + d] * b[s * n + d] }
        return sum
    }

    private static func add(_ x: Float, _ a: [Float], _ r: Int, _ n: Int, to c: inout [Float], _ s: Int) {
        for d in 0..<n { c[s * n + d] += x * a[r * n + d] }
    }
}
