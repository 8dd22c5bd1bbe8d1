import AttentionCore
import CCUDADriver
import CTileABI
import Synchronization

/// A source file of kernels, compiled and embedded.
package enum KernelModule: CaseIterable, Sendable {
    case naiveForward, naiveBackward, onlineSoftmaxForward, onlineSoftmaxBackward
    case flashAttention1Forward, flashAttention1Backward, flashAttention2Forward, flashAttention2Backward
    case flashAttention2ForwardF32, flashAttention2BackwardF32, splitKeysForward, machinePeak

    /// The device code: a fat binary. Empty in a build without the trait `CUDA`.
    package var deviceCode: [UInt8] { Base64.decode(image) }

    #if CUDA
    package static let areEmbedded = true

    /// The same in base64.
    private var image: StaticString {
        switch self {
        case .naiveForward: EmbeddedKernels.naiveForward
        case .naiveBackward: EmbeddedKernels.naiveBackward
        case .onlineSoftmaxForward: EmbeddedKernels.onlineSoftmaxForward
        case .onlineSoftmaxBackward: EmbeddedKernels.onlineSoftmaxBackward
        case .flashAttention1Forward: EmbeddedKernels.flashAttention1Forward
        case .flashAttention1Backward: EmbeddedKernels.flashAttention1Backward
        case .flashAttention2Forward: EmbeddedKernels.flashAttention2Forward
        case .flashAttention2Backward: EmbeddedKernels.flashAttention2Backward
        case .flashAttention2ForwardF32: EmbeddedKernels.flashAttention2ForwardF32
        case .flashAttention2BackwardF32: EmbeddedKernels.flashAttention2BackwardF32
        case .splitKeysForward: EmbeddedKernels.splitKeysForward
        case .machinePeak: EmbeddedKernels.machinePeak
        }
    }
    #else
    package static let areEmbedded = false
    private var image: StaticString { "" }
    #endif
}

/// An entry point on a device and what its launch needs.
package struct Kernel: Sendable {
    package let name: String
    package let geometry: TileKernelGeometry
    fileprivate nonisolated(unsafe) let function: CUDAFunction
}

/// The kernels of one device, loaded when they are first asked for and kept.
package final class KernelLibrary: Sendable {
    package let device: CUDADevice
    private struct Loaded {
        var modules: [KernelModule: CUDAModule] = [:]
        var kernels: [String: Kernel] = [:]
    }
    private let loaded = Mutex(Loaded())

    package init(_ device: CUDADevice) { self.device = device }

    /// The kernels of the first device.
    /// - Throws: `AttentionError.deviceUnavailable` where there is none.
    package static func shared() throws(AttentionError) -> KernelLibrary { try first.get() }

    private static let first = Result { () throws(AttentionError) in KernelLibrary(try CUDADevice.shared()) }

    deinit {
        guard (try? device.makeCurrent()) != nil else { return }
        let functions = device.driver.functions
        loaded.withLock { for module in $0.modules.values { _ = functions.moduleUnload(module) } }
    }

    /// - Parameters:
    ///   - name: without the prefix, as in `fa2_forward_bf16_d128`.
    package func kernel(_ name: String, in module: KernelModule) throws(AttentionError) -> Kernel {
        try loaded.withLock { (loaded) throws(AttentionError) -> Kernel in
            if let kernel = loaded.kernels[name] { return kernel }
            try device.makeCurrent()
            if loaded.modules[module] == nil { loaded.modules[module] = try load(module) }
            guard let handle = loaded.modules[module] else {
                throw .deviceFailed(call: "cuModuleLoadData \(module)", error: "no module")
            }
            let kernel = try find(name, in: handle)
            loaded.kernels[name] = kernel
            return kernel
        }
    }

    /// Queues a launch.
    package func launch(
        _ kernel: Kernel, grid: Grid, _ parameters: AttentionLaunch, on stream: CUDAStream
    ) throws(AttentionError) {
        guard grid.x > 0, grid.y > 0, grid.z > 0 else { return }
        try device.makeCurrent()
        var parameters = parameters
        let result = withUnsafeMutablePointer(to: &parameters) { pointer in
            var arguments: UnsafeMutableRawPointer? = UnsafeMutableRawPointer(pointer)
            return device.driver.functions.launchKernel(
                kernel.function, UInt32(grid.x), UInt32(grid.y), UInt32(grid.z),
                UInt32(kernel.geometry.threads), 1, 1, UInt32(kernel.geometry.sharedBytes), stream.handle,
                &arguments, nil)
        }
        try device.driver.check("cuLaunchKernel \(kernel.name)", result)
    }

    private func load(_ module: KernelModule) throws(AttentionError) -> CUDAModule {
        var handle: CUDAModule?
        let image = module.deviceCode
        try device.driver.check(
            "cuModuleLoadData \(module)", device.driver.functions.moduleLoadData(&handle, image))
        guard let handle else { throw .deviceFailed(call: "cuModuleLoadData", error: "no module") }
        return handle
    }

    private func find(_ name: String, in module: CUDAModule) throws(AttentionError) -> Kernel {
        let functions = device.driver.functions
        var function: CUDAFunction?
        try device.driver.check(
            "cuModuleGetFunction \(name)", functions.moduleGetFunction(&function, module, "fattn_" + name))
        guard let function else { throw .deviceFailed(call: "cuModuleGetFunction", error: "no function") }
        let geometry = try geometry(name, in: module)
        if geometry.sharedBytes > 0 {
            try device.driver.check(
                "cuFuncSetAttribute \(name)",
                functions.functionSetAttribute(
                    function, Int32(CUDAFunctionMaxDynamicSharedBytes), geometry.sharedBytes))
        }
        return Kernel(name: name, geometry: geometry, function: function)
    }

    /// The constant beside an entry point.
    private func geometry(
        _ name: String, in module: CUDAModule
    ) throws(AttentionError) -> TileKernelGeometry {
        let functions = device.driver.functions
        var address: UInt64 = 0
        var bytes = 0
        let symbol = "fattn_\(name)_geometry"
        try device.driver.check(
            "cuModuleGetGlobal \(symbol)", functions.moduleGetGlobal(&address, &bytes, module, symbol))
        guard bytes == MemoryLayout<TileKernelGeometry>.size else {
            throw .deviceFailed(call: "cuModuleGetGlobal \(symbol)", error: "\(bytes) bytes")
        }
        var geometry = TileKernelGeometry()
        let stream = try CUDAStream(device)
        try device.driver.check(
            "cuMemcpyDtoHAsync \(symbol)", functions.copyToHost(&geometry, address, bytes, stream.handle))
        try stream.synchronize()
        return geometry
    }
}

/// How many blocks a launch has.
package struct Grid: Hashable, Sendable {
    package var x: Int
    package var y: Int
    package var z: Int

    package init(_ x: Int, _ y: Int = 1, _ z: Int = 1) {
        self.x = x
        self.y = y
        self.z = z
    }
}
