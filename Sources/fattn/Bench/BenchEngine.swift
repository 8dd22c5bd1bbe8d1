import FlashAttention

/// What computes the cases of a problem: a plan on a device, with the operands where it needs them.
protocol BenchEngine<Element>: AnyObject {
    associatedtype Element: FileElement
    var configuration: AttentionConfiguration { get }
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
    private var output: AttentionOutput<Element>
    private var gradients: AttentionGradients<Element>

    init(_ attention: Attention<Element>, _ inputs: BenchInputs<Element>) {
        self.attention = attention
        self.inputs = inputs
        let none = Tensor<Element>(TensorExtents(0, 0, 0, 0))
        output = AttentionOutput(output: none, logSumExp: [])
        gradients = AttentionGradients(query: none, key: none, value: none)
    }

    var configuration: AttentionConfiguration { attention.configuration }

    func forward() throws -> AttentionOutput<Element> {
        output = try attention.forward(
            query: inputs.query, key: inputs.key, value: inputs.value, keyLengths: inputs.keyLengths)
        return output
    }

    func backward() throws -> AttentionGradients<Element> {
        gradients = try attention.backward(
            query: inputs.query, key: inputs.key, value: inputs.value, forward: output,
            outputGradient: inputs.outputGradient, keyLengths: inputs.keyLengths)
        return gradients
    }

    func time(_ pass: AttentionPass) throws -> Double {
        let clock = ContinuousClock()
        let start = clock.now
        switch pass {
        case .forward:
            try attention.forward(
                query: inputs.query, key: inputs.key, value: inputs.value, into: &output,
                keyLengths: inputs.keyLengths)
        case .backward:
            try attention.backward(
                query: inputs.query, key: inputs.key, value: inputs.value, forward: output,
                outputGradient: inputs.outputGradient, into: &gradients, keyLengths: inputs.keyLengths)
        }
        return (clock.now - start) / .seconds(1)
    }

    func describe(_ row: inout BenchRow) throws {}
}
