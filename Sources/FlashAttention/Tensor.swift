/// A dense tensor `[B, H, N, D]` in memory of its own.
///
/// A large one that is made of zeros asks the system for large pages, through which it is read faster;
/// elements that are brought along stay where they are. Copies share their elements until one of them
/// changes.
public struct Tensor<Element: AttentionElement>: Sendable {
    /// The sizes.
    public let extents: TensorExtents
    /// The order of the axes in `elements`.
    public let layout: TensorLayout
    /// The elements in the order of the layout.
    public var elements: [Element]

    /// A tensor of zeros. The extents must be ones that memory can hold.
    public init(_ extents: TensorExtents, layout: TensorLayout = .bhnd) {
        self.extents = extents
        self.layout = layout
        let count = extents.count
        elements = Array(unsafeUninitializedCapacity: count) { memory, initialized in
            LargePages.request(for: UnsafeMutableRawBufferPointer(memory))
            memory.initialize(repeating: .zero)
            initialized = count
        }
    }

    /// A tensor of the given elements, in the order of the layout.
    /// - Throws: `AttentionError.shapeMismatch` unless there are as many elements as the extents ask for;
    ///   `AttentionError.invalidShape` for a size below 0 or one that no memory holds.
    public init(
        _ extents: TensorExtents, layout: TensorLayout = .bhnd, elements: [Element]
    ) throws(AttentionError) {
        try extents.validate()
        guard elements.count == extents.count else {
            throw .shapeMismatch(
                operand: "elements", expected: "\(extents), \(extents.count) elements",
                got: "\(elements.count)")
        }
        self.extents = extents
        self.layout = layout
        self.elements = elements
    }

    /// Element (b, h, n, d).
    public subscript(b: Int, h: Int, n: Int, d: Int) -> Element {
        get { elements[offset(b, h, n, d)] }
        set { elements[offset(b, h, n, d)] = newValue }
    }

    /// Gives the body a view of the elements, valid until it returns.
    public func withView<Result, Failure: Error>(
        _ body: (TensorView<Element>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try elements.withUnsafeBufferPointer { memory throws(Failure) in
            try body(TensorView(memory, extents: extents, layout: layout))
        }
    }

    /// Gives the body a view through which it may write the elements, valid until it returns.
    public mutating func withMutableView<Result, Failure: Error>(
        _ body: (MutableTensorView<Element>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let (extents, layout) = (extents, layout)
        return try elements.withUnsafeMutableBufferPointer { memory throws(Failure) in
            try body(MutableTensorView(memory, extents: extents, layout: layout))
        }
    }

    private func offset(_ b: Int, _ h: Int, _ n: Int, _ d: Int) -> Int {
        precondition(
            0 <= b && b < extents.batch && 0 <= h && h < extents.heads && 0 <= n && n < extents.length
                && 0 <= d && d < extents.size,
            "index [\(b),\(h),\(n),\(d)] outside \(extents)")
        let strides = layout.strides(extents)
        return b * strides.batch + h * strides.head + n * strides.row + d
    }
}
