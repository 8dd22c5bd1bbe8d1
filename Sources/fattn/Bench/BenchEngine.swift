import FlashAttention

/// What computes the cases of a problem: a plan on a device, with the operands where it needs them.
protocol BenchEngine<Element>: AnyObject {
    associatedtype Element: FileElement
    /// Runs the forward pass and gives its result on the host.
    func forward() throws -> AttentionOutput<Element>
    /// Runs the backward pass from the last forward pass and gives its result on the host.
    func backward() throws -> AttentionGradients<Element>
    /// Seconds of one run of a pass, whose results stay where they are.
    func time(_ pass: AttentionPass) throws -> Double
    /// Adds to a row what is to be said beside its times.
    func describe(_ row: inout BenchRow) throws
}

/// The CPU: operands in host memory, wall-clock time.
final class HostEngine<Element: FileElement>: BenchEngine {
    private let inputs: BenchInputs<Element>
    private let attention: Attention<Element>
    private let results: BenchResults<Element>

    init(_ attention: Attention<Element>, _ inputs: BenchInputs<Element>, _ results: BenchResults<Element>) {
        self.attention = attention
        self.inputs = inputs
        self.results = results
    }

    func forward() throws -> AttentionOutput<Element> {
        results.forward = try attention.forward(
            query: inputs.query, key: inputs.key, value: inputs.value, keyLengths: inputs.keyLengths)
        return results.forward
    }

    func backward() throws -> AttentionGradients<Element> {
        results.gradients = try attention.backward(
            query: inputs.query, key: inputs.key, value: inputs.value, forward: results.forward,
            outputGradient: inputs.outputGradient, keyLengths: inputs.keyLengths)
        return results.gradients
    }

    func time(_ pass: AttentionPass) throws -> Double {
        let clock = ContinuousClock()
        let start = clock.now
        switch pass {
        case .forward:
            try attention.forward(
                query: inputs.query, key: inputs.key, value: inputs.value, into: &results.forward,
                keyLengths: inputs.keyLengths)
        case .backward:
            try attention.backward(
                query: inputs.query, key: inputs.key, value: inputs.value, forward: results.forward,
                outputGradient: inputs.outputGradient, into: &results.gradients,
                keyLengths: inputs.keyLengths)
        }
        return (clock.now - start) / .seconds(1)
    }

    func describe(_ row: inout BenchRow) throws {}
}
