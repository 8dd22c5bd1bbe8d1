import AttentionVerification
import FlashAttention
import SafeTensors

/// The types of the contract.
enum BenchType: String, CaseIterable {
    case f32, f64, f16, bf16

    init(_ type: DataType) {
        self =
            switch type {
            case .f64: .f64
            case .f16: .f16
            case .bf16: .bf16
            default: .f32
            }
    }
}

enum BenchMask: String, CaseIterable {
    case full, causal

    var mask: AttentionMask { self == .full ? .full : .causal }
}

/// A shape and a type to be timed, and where the operands come from.
struct BenchProblem {
    let shape: AttentionShape
    let type: BenchType
    /// Random operands if nil.
    let file: SafeTensorsFile?
    let keyLengths: [Int]?

    init(shape: AttentionShape, type: BenchType, file: SafeTensorsFile?) {
        self.shape = shape
        self.type = type
        self.file = file
        keyLengths = nil
    }

    /// The problem of a file's tensors.
    init<Element: FileElement>(_ file: SafeTensorsFile, _ element: Element.Type) throws {
        let problem = try InputProblem<Element>(file, layout: .bhnd, needsGradient: false)
        shape = problem.shape
        type = BenchType(Element.dataType)
        self.file = file
        keyLengths = problem.keyLengths.map { lengths in
            withExtendedLifetime(lengths) { lengths.buffer.map { Int($0) } }
        }
    }
}

extension BenchProblem {
    /// - Throws: `CommandError.unavailable` for more than the machine's memory holds.
    func requireMemory() throws {
        let elementSize =
            switch type {
            case .f64: 8
            case .f32: 4
            case .f16, .bf16: 2
            }
        try Processor.requireMemory(toCheck: shape, elementSize: elementSize)
    }
}

/// The operands of a problem, in the layout `[B,H,N,D]`.
struct BenchInputs<Element: FileElement> {
    let query, key, value, outputGradient: Tensor<Element>
    let keyLengths: [Int]?

    /// The file's q, k and v, with a random dO; or all four from N(0, 1).
    init(_ problem: BenchProblem) throws {
        keyLengths = problem.keyLengths
        guard let file = problem.file else {
            let oracle = Oracle(shape: problem.shape, keyLengths: problem.keyLengths)
            let random = GeneratedInputs<Element>(.normal, for: oracle)
            (query, key, value) = (random.query, random.key, random.value)
            outputGradient = random.outputGradient
            return
        }
        // Not with the rest, which would take long for many keys and be thrown away.
        outputGradient = .normal(problem.shape.outputExtents)
        func tensor(_ name: String, _ extents: TensorExtents) throws -> Tensor<Element> {
            let elements: TensorElements<Element> = try file.elements(of: name)
            // Into a tensor's own memory, which the library allocates as it does for everybody.
            var tensor = Tensor<Element>(extents)
            withExtendedLifetime(elements) {
                tensor.withMutableView { _ = $0.memory.update(from: elements.buffer) }
            }
            return tensor
        }
        query = try tensor("q", problem.shape.queryExtents)
        key = try tensor("k", problem.shape.keyExtents)
        value = try tensor("v", problem.shape.valueExtents)
    }
}
