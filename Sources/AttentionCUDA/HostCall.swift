#if CUDA
import AttentionCore

/// One call on operands in host memory: its stream, and the memory that must live until the stream is done.
final class HostCall {
    let stream: CUDAStream
    private var device: [DeviceMemory] = []
    private var pinned: [PinnedMemory] = []

    init(_ problem: LaunchProblem, _ library: KernelLibrary) throws(AttentionError) {
        stream = try CUDAStream(library.device)
    }

    deinit {
        // Also after an error: nothing is freed under a copy that is still on its way.
        try? stream.synchronize()
    }

    func allocate(_ bytes: Int) throws(AttentionError) -> DeviceMemory {
        let memory = try DeviceMemory(byteCount: bytes, on: stream)
        device.append(memory)
        return memory
    }

    /// A dense tensor on the device, its contents undefined.
    func make(_ extents: TensorExtents) throws(AttentionError) -> (memory: DeviceMemory, view: DeviceTensorView) {
        let memory = try allocate(4 * extents.count)
        let strides = TensorLayout.bhnd.strides(extents)
        return (memory, DeviceTensorView(address: memory.address, strides: strides))
    }

    /// Packs a tensor densely into pinned memory and queues its copy.
    func copyIn(_ tensor: TensorView<Float>) throws(AttentionError) -> DeviceTensorView {
        let (memory, view) = try make(tensor.extents)
        let staging = try stage(memory.byteCount)
        var target = staging.bindMemory(to: Float.self).baseAddress
        tensor.forEachRow { row in
            target?.update(from: row, count: tensor.extents.size)
            target? += tensor.extents.size
        }
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

    /// Queues the copy of floats; they are there once the stream is done.
    func copyOut(
        _ memory: DeviceMemory, count: Int
    ) throws(AttentionError) -> (values: UnsafeBufferPointer<Float>, bytes: UnsafeMutableRawBufferPointer) {
        let staging = try stage(4 * count)
        try stream.copy(memory, to: staging)
        return (UnsafeBufferPointer(staging.bindMemory(to: Float.self)), staging)
    }

    /// Queues the copy of a dense tensor. What is returned, called once the stream is done, puts its rows in
    /// place.
    func copyOut(
        _ memory: DeviceMemory, to tensor: MutableTensorView<Float>
    ) throws(AttentionError) -> () -> Void {
        let staging = try copyOut(memory, count: tensor.extents.count).values
        return {
            var source = staging.baseAddress
            tensor.forEachRow { row in
                guard let start = source else { return }
                row.update(from: start, count: tensor.extents.size)
                source = start + tensor.extents.size
            }
        }
    }

    private func stage(_ bytes: Int) throws(AttentionError) -> UnsafeMutableRawBufferPointer {
        let memory = try PinnedMemory(byteCount: bytes, for: stream.device)
        pinned.append(memory)
        return memory.bytes
    }
}

extension TensorView {
    fileprivate func forEachRow(_ body: (UnsafePointer<Element>) -> Void) {
        guard extents.count > 0 else { return }
        for b in 0..<extents.batch {
            for h in 0..<extents.heads { for n in 0..<extents.length { body(row(b, h, n)) } }
        }
    }
}

extension MutableTensorView {
    fileprivate func forEachRow(_ body: (UnsafeMutablePointer<Element>) -> Void) {
        guard extents.count > 0 else { return }
        for b in 0..<extents.batch {
            for h in 0..<extents.heads { for n in 0..<extents.length { body(row(b, h, n)) } }
        }
    }
}
#endif
