import FlashAttention
import SafeTensors

/// A type that a file can hold and attention computes in.
protocol FileElement: AttentionElement, SafeTensorsScalar where Accumulator: SafeTensorsScalar {}
extension Float: FileElement {}
extension Double: FileElement {}
extension BFloat16: FileElement, SafeTensorsScalar {
    public static var dataType: DataType { .bf16 }
}
#if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
extension Float16: FileElement, SafeTensorsScalar {
    public static var dataType: DataType { .f16 }
}
#endif

/// The problem that a file's tensors pose, over the mapped file, without a copy.
struct InputProblem<Element: FileElement> {
    let layout: TensorLayout
    let shape: AttentionShape
    /// `[B,H,Nq,D]`, or as the layout says; and so below.
    let query: TensorElements<Element>
    /// `[B,Hkv,Nk,D]`
    let key: TensorElements<Element>
    /// `[B,Hkv,Nk,Dv]`
    let value: TensorElements<Element>
    /// `[B]`
    let keyLengths: TensorElements<Int32>?
    /// `[B,H,Nq,Dv]`
    let outputGradient: TensorElements<Element>?

    /// - Parameters:
    ///   - needsGradient: whether `dout` must be there; it is not looked at otherwise.
    /// - Throws: `SafeTensorsError`, or `CommandError.data` that names the tensor at fault.
    init(_ file: SafeTensorsFile, layout: TensorLayout, needsGradient: Bool) throws {
        try refuseLaterTensors(file)
        self.layout = layout
        let (q, k, v) = (
            try layout.extents(file, "q"), try layout.extents(file, "k"), try layout.extents(file, "v")
        )
        shape = AttentionShape(
            batch: q.batch, heads: q.heads, keyValueHeads: k.heads, queryLength: q.length,
            keyLength: k.length,
            headSize: q.size, valueHeadSize: v.size)
        query = try Self.elements(file, "q")
        key = try Self.elements(file, "k")
        value = try Self.elements(file, "v")
        try Self.check(q, k, v, layout)
        try shape.validate()
        keyLengths = file.tensors["seqused_k"] == nil ? nil : try Self.keyLengths(file, shape)
        outputGradient = needsGradient ? try Self.outputGradient(file, shape, layout) : nil
    }

    /// The element type of a file's problem.
    static func dataType(_ file: SafeTensorsFile) throws -> DataType { try file.info("q").dataType }

    private static func elements(_ file: SafeTensorsFile, _ name: String) throws -> TensorElements<Element> {
        let info = try file.info(name)
        guard info.dataType == Element.dataType else {
            throw CommandError.data(
                "tensor \(name): expected dtype \(Element.dataType.rawValue), that of q, "
                    + "got \(info.dataType.rawValue)")
        }
        return try file.elements(of: name)
    }

    private static func check(
        _ q: TensorExtents, _ k: TensorExtents, _ v: TensorExtents, _ layout: TensorLayout
    ) throws {
        func fail(_ name: String, _ expected: String, _ got: TensorExtents) -> CommandError {
            .data("tensor \(name): expected \(expected), got shape \(describe(layout.shape(got)))")
        }
        if q.size == 0 { throw fail("q", "a head size D of 1 or more", q) }
        if v.size == 0 { throw fail("v", "a value head size Dv of 1 or more", v) }
        if k.batch != q.batch { throw fail("k", "B = \(q.batch), that of q", k) }
        if k.size != q.size { throw fail("k", "D = \(q.size), that of q", k) }
        if k.heads == 0 ? q.heads != 0 : q.heads % k.heads != 0 {
            throw fail("k", "a number of heads that divides H = \(q.heads)", k)
        }
        if v.batch != q.batch { throw fail("v", "B = \(q.batch), that of q", v) }
        if v.heads != k.heads { throw fail("v", "Hkv = \(k.heads), that of k", v) }
        if v.length != k.length { throw fail("v", "Nk = \(k.length), that of k", v) }
    }

    private static func keyLengths(
        _ file: SafeTensorsFile, _ shape: AttentionShape
    ) throws -> TensorElements<Int32> {
        let lengths: TensorElements<Int32> = try file.elements(of: "seqused_k")
        let lengthsShape = try file.info("seqused_k").shape
        guard lengthsShape == [shape.batch] else {
            throw CommandError.data(
                "tensor seqused_k: expected shape [\(shape.batch)], got \(describe(lengthsShape))")
        }
        try withExtendedLifetime(lengths) {
            for length in lengths.buffer where length < 0 || Int(length) > shape.keyLength {
                throw CommandError.data(
                    "tensor seqused_k: expected lengths from 0 to Nk = \(shape.keyLength), got \(length)")
            }
        }
        return lengths
    }

    private static func outputGradient(
        _ file: SafeTensorsFile, _ shape: AttentionShape, _ layout: TensorLayout
    ) throws -> TensorElements<Element> {
        let extents = try layout.extents(file, "dout")
        guard extents == shape.outputExtents else {
            throw CommandError.data(
                "tensor dout: expected shape \(describe(layout.shape(shape.outputExtents))), that of out, "
                    + "got \(describe(layout.shape(extents)))")
        }
        return try elements(file, "dout")
    }
}

extension TensorLayout {
    /// The extents of a tensor with four axes in a file.
    fileprivate func extents(_ file: SafeTensorsFile, _ name: String) throws -> TensorExtents {
        let shape = try file.info(name).shape
        guard shape.count == 4 else {
            let axes = self == .bhnd ? "[B,H,N,D]" : "[B,N,H,D]"
            throw CommandError.data("tensor \(name): expected shape \(axes), got \(describe(shape))")
        }
        return switch self {
        case .bhnd: TensorExtents(shape[0], shape[1], shape[2], shape[3])
        case .bnhd: TensorExtents(shape[0], shape[2], shape[1], shape[3])
        }
    }

    /// The shape in a file of a tensor of these extents.
    func shape(_ extents: TensorExtents) -> [Int] {
        switch self {
        case .bhnd: [extents.batch, extents.heads, extents.length, extents.size]
        case .bnhd: [extents.batch, extents.length, extents.heads, extents.size]
        }
    }
}

/// Calls the generic body with the element type of a file's problem.
/// - Throws: `CommandError.data` for a type that attention does not take.
func withElementType(of file: SafeTensorsFile, _ body: (any FileElement.Type) throws -> Void) throws {
    switch try file.info("q").dataType {
    case .f32: try body(Float.self)
    case .f64: try body(Double.self)
    case .bf16: try body(BFloat16.self)
    #if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
    case .f16: try body(Float16.self)
    #endif
    case let other:
        throw CommandError.data("tensor q: expected dtype F64, F32, F16 or BF16, got \(other.rawValue)")
    }
}

/// A shape as messages show it. A file may give a tensor a million axes.
func describe(_ shape: [Int]) -> String {
    let sizes = shape.prefix(8).map(String.init) + (shape.count > 8 ? ["…"] : [])
    return "[" + sizes.joined(separator: ",") + "]"
}
