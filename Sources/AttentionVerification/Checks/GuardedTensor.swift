import FlashAttention

/// A tensor with a margin around it and gaps between its rows, all filled with NaNs of one bit pattern: what
/// is read from there shows in the result, and what is written there shows in `isUntouched`.
final class GuardedTensor<Element: AttentionElement> {
    let extents: TensorExtents
    let strides: TensorStrides
    /// Margins, gaps and elements.
    let memory: UnsafeMutableBufferPointer<Element>
    private let reach: Int
    /// No multiple of a vector, so that no row starts on its boundary; even, so that 16-bit elements lie in
    /// pairs.
    static var margin: Int { 66 }

    /// - Parameters:
    ///   - padding: elements between the end of a row and the next.
    init(_ extents: TensorExtents, layout: TensorLayout = .bhnd, padding: Int = 0) {
        self.extents = extents
        // As if the gaps were elements.
        var wide = extents
        wide.size += padding
        strides = layout.strides(wide)
        reach = extents.count == 0 ? 0 : wide.count - padding
        memory = .allocate(capacity: reach + 2 * Self.margin)
        memory.initialize(repeating: Self.guardValue)
    }

    /// A copy of a dense tensor.
    convenience init(_ tensor: Tensor<Element>, layout: TensorLayout, padding: Int) {
        self.init(tensor.extents, layout: layout, padding: padding)
        forEachRow { start, b, h, n in
            for d in 0..<extents.size { memory[start + d] = tensor[b, h, n, d] }
        }
    }

    deinit { memory.deallocate() }

    /// As long as the tensor's own elements reach, and not an element longer.
    var elements: UnsafeMutableBufferPointer<Element> {
        UnsafeMutableBufferPointer(rebasing: memory[Self.margin..<Self.margin + reach])
    }

    var mutableView: MutableTensorView<Element> {
        MutableTensorView(elements, extents: extents, strides: strides)
    }

    var view: TensorView<Element> { mutableView.readOnly }

    /// Margins, gaps and elements, bit by bit.
    var bytes: [UInt8] { [UInt8](UnsafeRawBufferPointer(memory)) }

    /// The elements in the order `[B, H, N, D]`.
    func dense() -> [Double] { view.denseDoubles() }

    /// Whether margins and gaps hold the very bits that were put there.
    var isUntouched: Bool {
        var own = [Bool](repeating: false, count: memory.count)
        forEachRow { start, _, _, _ in
            for d in 0..<extents.size { own[start + d] = true }
        }
        return memory.indices.allSatisfy { own[$0] || Self.isGuard(memory[$0]) }
    }

    private func forEachRow(_ body: (_ start: Int, _ b: Int, _ h: Int, _ n: Int) -> Void) {
        guard extents.count > 0 else { return }
        for b in 0..<extents.batch {
            for h in 0..<extents.heads {
                for n in 0..<extents.length {
                    body(Self.margin + b * strides.batch + h * strides.head + n * strides.row, b, h, n)
                }
            }
        }
    }

    private static func isGuard(_ x: Element) -> Bool {
        withUnsafeBytes(of: x) { $0.elementsEqual(guardBytes.prefix($0.count)) }
    }

    private static var guardValue: Element {
        guardBytes.withUnsafeBytes { $0.loadUnaligned(as: Element.self) }
    }
}

/// A quiet NaN with a payload in every element type, F16 and BF16 as well as the wider ones: each pair of
/// bytes is 0x7FFD.
private let guardBytes: [UInt8] = [0xFD, 0x7F, 0xFD, 0x7F, 0xFD, 0x7F, 0xFD, 0x7F]
