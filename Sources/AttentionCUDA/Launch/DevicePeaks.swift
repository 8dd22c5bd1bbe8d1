import AttentionCore
import CTileABI

/// Measures what a device does at best, each ceiling as the best of several runs.
package struct DevicePeaks {
    private let library: KernelLibrary
    private let stream: CUDAStream

    package init(_ library: KernelLibrary) throws(AttentionError) {
        self.library = library
        stream = try CUDAStream(library.device)
    }

    /// FLOP/s of matrix instructions with BF16 operands in shared memory (in registers before Hopper) and
    /// sums in F32.
    package func tensorCoreFLOPS() throws(AttentionError) -> Double {
        try flops("peak_tensor_core", blocksPerProcessor: 1, rounds: 4000)
    }

    /// FLOP/s of multiply-adds in F32 on registers.
    package func multiplyAddFLOPS() throws(AttentionError) -> Double {
        try flops("peak_multiply_add", blocksPerProcessor: 8, rounds: 2000)
    }

    /// Bytes read and written a second by a copy from device memory to device memory.
    package func copyBandwidth() throws(AttentionError) -> Double {
        let bytes = min(1 << 30, library.device.memoryBytes / 8)
        let source = try DeviceMemory(byteCount: bytes, on: stream)
        let target = try DeviceMemory(byteCount: bytes, on: stream)
        let seconds = try best { () throws(AttentionError) in
            try stream.copy(source, to: target, byteCount: bytes)
        }
        return 2 * Double(bytes) / seconds
    }

    private func flops(
        _ name: String, blocksPerProcessor: Int, rounds: Int
    ) throws(AttentionError) -> Double {
        let kernel = try library.kernel(name, in: .machinePeak)
        let blocks = blocksPerProcessor * library.device.multiprocessorCount
        let sums = try DeviceMemory(byteCount: 4 * blocks, on: stream)
        var parameters = AttentionLaunch()
        parameters.queryLength = Int32(rounds)
        parameters.output.address = sums.address
        let seconds = try best { () throws(AttentionError) in
            try library.launch(kernel, grid: Grid(blocks), parameters, on: stream)
        }
        let threads = Double(blocks) * Double(kernel.geometry.threads)
        return threads * Double(rounds) * Double(kernel.geometry.queryTile) / seconds
    }

    /// The shortest of several runs, the first of which warms up.
    private func best(_ run: () throws(AttentionError) -> Void) throws(AttentionError) -> Double {
        let start = try CUDAEvent(library.device)
        let end = try CUDAEvent(library.device)
        var best = Double.infinity
        for turn in 0..<6 {
            try start.record(on: stream)
            try run()
            try end.record(on: stream)
            let seconds = try start.seconds(until: end)
            if turn > 0 { best = min(best, seconds) }
        }
        return best
    }
}
