import AttentionCore

/// One call on operands in host memory: its stream, and the memory that must live until the stream is done.
///
/// Whatever goes wrong, memory goes back behind the work that uses it: device memory in the order of the
/// stream, pinned memory when the stream has passed.
final class HostCall<Element: AttentionElement> {
    let stream: CUDAStream
    private var device: [DeviceMemory] = []
    private var pinned: [PinnedMemory] = []

    init(_ device: CUDADevice) throws(AttentionError) { stream = try CUDAStream(device) }

    func allocate(_ bytes: Int) throws(AttentionError) -> DeviceMemory {
        let memory = try DeviceMemory(byteCount: bytes, on: stream)
        device.append(memory)
        return memory
    }

    /// A dense tensor on the device, its contents undefined.
    func make(_ extents: TensorExtents) throws(AttentionError) -> (
        memory: DeviceMemory, view: DeviceTensorView
    ) {
        let memory = try allocate(MemoryLayout<Element>.stride * extents.count)
        let strides = TensorLayout.bhnd.strides(extents)
        return (memory, DeviceTensorView(address: memory.address, strides: strides))
    }

    /// Packs a tensor densely into pinned memory and queues its copy.
    func copyIn(_ tensor: TensorView<Element>) throws(AttentionError) -> DeviceTensorView {
        let (memory, view) = try make(tensor.extents)
        let staging = try stage(memory.byteCount)
        MutableTensorView(staging.bindMemory(to: Element.self), extents: tensor.extents).copyRows(of: tensor)
        try stream.copy(UnsafeRawBufferPointer(staging), to: memory)
        return view
    }

    func copyIn(_ values: [Float]) throws(AttentionError) -> UInt64 {
        let memory = try allocate(4 * values.count)
        let staging = try stage(memory.byteCount)
        values.withUnsafeBytes { staging.copyMemory(from: $0) }
        try stream.copy(UnsafeRawBufferPointer(staging), to: memory)
        return memory.address
    }

    /// - Returns: the address on the device, 0 if nil.
    func copyIn(_ lengths: UnsafeBufferPointer<Int32>?) throws(AttentionError) -> UInt64 {
        guard let lengths, !lengths.isEmpty else { return 0 }
        let memory = try allocate(4 * lengths.count)
        let staging = try stage(memory.byteCount)
        staging.copyMemory(from: UnsafeRawBufferPointer(lengths))
        try stream.copy(UnsafeRawBufferPointer(staging), to: memory)
        return memory.address
    }

    /// Queues the copy of so many values; they are there once the stream is done.
    func copyOut<Value: BitwiseCopyable>(
        _ memory: DeviceMemory, count: Int, as type: Value.Type
    ) throws(AttentionError) -> UnsafeBufferPointer<Value> {
        let staging = try stage(MemoryLayout<Value>.stride * count)
        try stream.copy(memory, to: staging)
        return UnsafeBufferPointer(staging.bindMemory(to: Value.self))
    }

    /// Queues the copy of a dense tensor. What is returned, called once the stream is done, puts its rows in
    /// place.
    func copyOut(
        _ memory: DeviceMemory, to tensor: MutableTensorView<Element>
    ) throws(AttentionError) -> () -> Void {
        let staging = try copyOut(memory, count: tensor.extents.count, as: Element.self)
        return { tensor.copyRows(of: TensorView(staging, extents: tensor.extents)) }
    }

    private func stage(_ bytes: Int) throws(AttentionError) -> UnsafeMutableRawBufferPointer {
        let memory = try PinnedMemory(byteCount: bytes, for: stream.device)
        memory.use(on: stream)
        pinned.append(memory)
        return memory.bytes
    }
}
