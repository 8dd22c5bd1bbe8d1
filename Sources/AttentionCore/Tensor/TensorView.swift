/// The four sizes of a tensor, `[batch, heads, length, size]`, whatever the order in memory.
public struct TensorExtents: Hashable, Sendable, CustomStringConvertible {
    /// B
    public var batch: Int
    /// H, or Hkv for keys and values.
    public var heads: Int
    /// N: Nq for queries, Nk for keys and values.
    public var length: Int
    /// D, or Dv for values and the output.
    public var size: Int

    /// In the order `[batch, heads, length, size]`.
    public init(_ batch: Int, _ heads: Int, _ length: Int, _ size: Int) {
        self.batch = batch
        self.heads = heads
        self.length = length
        self.size = size
    }

    /// Elements of a dense tensor of these sizes, which must be ones that memory can hold.
    public var count: Int { batch * heads * length * size }

    public var description: String { "[\(batch),\(heads),\(length),\(size)]" }

    /// Whether eight-byte elements fit what a process can address (47 bits where pointers have 64). The
    /// products of a tensor's sizes, rounded up to whole tiles, are then far from overflow.
    package var byteCountFits: Bool {
        let limit = Int(clamping: Int64(1) << 47)
        var count = 8
        for size in [max(batch, 1), max(heads, 1), max(length, 1), max(size, 1)] {
            let (product, overflow) = count.multipliedReportingOverflow(by: size)
            if overflow || product > limit { return false }
            count = product
        }
        return true
    }
}

/// Distances in elements between neighbours of a tensor. Elements of one row are adjacent.
public struct TensorStrides: Hashable, Sendable, CustomStringConvertible {
    /// From one batch entry to the next.
    public var batch: Int
    /// From one head to the next.
    public var head: Int
    /// From one row to the next.
    public var row: Int

    /// Distances in elements. A batch or head stride of 0 repeats one entry or head; only inputs may do so.
    public init(batch: Int, head: Int, row: Int) {
        self.batch = batch
        self.head = head
        self.row = row
    }

    public var description: String { "[\(batch),\(head),\(row),1]" }
}

/// The order of a dense tensor's axes in memory.
public enum TensorLayout: String, Hashable, Sendable, CaseIterable {
    /// `[B, H, N, D]`
    case bhnd
    /// `[B, N, H, D]`
    case bnhd

    /// The strides of a dense tensor of these extents.
    public func strides(_ extents: TensorExtents) -> TensorStrides {
        // Wrapping, for extents that no memory holds: a view of them is refused when it is used.
        let (H, N, D) = (extents.heads, extents.length, extents.size)
        let plane = H &* N &* D
        return switch self {
        case .bhnd: TensorStrides(batch: plane, head: N &* D, row: D)
        case .bnhd: TensorStrides(batch: plane, head: D, row: H &* D)
        }
    }
}

/// A tensor `[B, H, N, D]` in somebody else's memory, read only, with any strides but the last.
///
/// The view does not keep the memory alive.
public struct TensorView<Element: AttentionElement> {
    /// From element (0, 0, 0, 0) to the last that may be read.
    public let memory: UnsafeBufferPointer<Element>
    /// The sizes.
    public let extents: TensorExtents
    /// The distances between neighbours.
    public let strides: TensorStrides

    /// - Parameters:
    ///   - memory: starts at element (0, 0, 0, 0); checked against extents and strides when it is used.
    public init(_ memory: UnsafeBufferPointer<Element>, extents: TensorExtents, strides: TensorStrides) {
        self.memory = memory
        self.extents = extents
        self.strides = strides
    }

    /// A dense tensor.
    public init(
        _ memory: UnsafeBufferPointer<Element>, extents: TensorExtents, layout: TensorLayout = .bhnd
    ) {
        self.init(memory, extents: extents, strides: layout.strides(extents))
    }

    /// The row's first element. The caller stays within the extents.
    @inlinable package func row(_ b: Int, _ h: Int, _ n: Int) -> UnsafePointer<Element> {
        memory.baseAddress.unsafelyUnwrapped + (b * strides.batch + h * strides.head + n * strides.row)
    }
}

/// A tensor `[B, H, N, D]` in somebody else's memory, written by a call.
public struct MutableTensorView<Element: AttentionElement> {
    /// From element (0, 0, 0, 0) to the last that may be written.
    public let memory: UnsafeMutableBufferPointer<Element>
    /// The sizes.
    public let extents: TensorExtents
    /// The distances between neighbours.
    public let strides: TensorStrides

    /// - Parameters:
    ///   - memory: starts at element (0, 0, 0, 0); checked against extents and strides when it is used.
    public init(
        _ memory: UnsafeMutableBufferPointer<Element>, extents: TensorExtents, strides: TensorStrides
    ) {
        self.memory = memory
        self.extents = extents
        self.strides = strides
    }

    /// A dense tensor.
    public init(
        _ memory: UnsafeMutableBufferPointer<Element>, extents: TensorExtents, layout: TensorLayout = .bhnd
    ) {
        self.init(memory, extents: extents, strides: layout.strides(extents))
    }

    /// The same tensor, to be read.
    public var readOnly: TensorView<Element> {
        TensorView(UnsafeBufferPointer(memory), extents: extents, strides: strides)
    }

    /// The row's first element. The caller stays within the extents.
    @inlinable package func row(_ b: Int, _ h: Int, _ n: Int) -> UnsafeMutablePointer<Element> {
        memory.baseAddress.unsafelyUnwrapped + (b * strides.batch + h * strides.head + n * strides.row)
    }
}
