import AttentionCPU
import AttentionCUDA

/// What the library found out about the machine, and what it can measure of it.
public enum MachineInfo {
    /// The micro-kernels that this machine runs, the widest first.
    public static var kernelSets: [KernelSet] { KernelSelection.available }

    /// The micro-kernels in use when the options name none.
    /// - Throws: `AttentionError.kernelsUnavailable` if the environment variable `FATTN_KERNELS` names a set
    ///   that is not known or does not run here.
    public static func defaultKernels() throws(AttentionError) -> KernelSet {
        try KernelSelection.choose(nil)
    }

    /// Processors that this process may run on, the default number of threads.
    public static var processorCount: Int { Machine.processorCount }

    /// Bytes of the data caches of levels 1, 2 and 3; 0 where the system does not say.
    public static var cacheSizes: (l1: Int, l2: Int, l3: Int) {
        (Machine.cacheBytes(1), Machine.cacheBytes(2), Machine.cacheBytes(3))
    }

    /// OpenBLAS (on Apple platforms Accelerate) and the processor whose kernels it runs; nil if it is not
    /// installed.
    public static var openBLAS: (version: String, core: String)? {
        guard let blas = try? BLAS.shared() else { return nil }
        return (blas.version, blas.core)
    }

    /// The NVIDIA GPUs that this program can compute on, at least one.
    /// - Throws: `AttentionError.deviceUnavailable` that says why there is none.
    public static func cudaDevices() throws(AttentionError) -> [GPU] {
        var devices: [GPU] = []
        for ordinal in 0..<(try CUDADevice.count()) {
            let device = try CUDADevice.shared(ordinal)
            devices.append(
                GPU(
                    name: device.name, computeCapability: device.computeCapability,
                    multiprocessorCount: device.multiprocessorCount, memoryBytes: device.memoryBytes,
                    driverVersion: try device.driver.version()))
        }
        guard !devices.isEmpty else { throw .deviceUnavailable("the CUDA driver shows no device") }
        return devices
    }

    /// An NVIDIA GPU.
    public struct GPU: Hashable, Sendable {
        /// As the driver calls it.
        public let name: String
        /// 90 for compute capability 9.0.
        public let computeCapability: Int
        /// Its streaming multiprocessors.
        public let multiprocessorCount: Int
        /// All of its memory, whoever uses it.
        public let memoryBytes: Int
        /// The CUDA version that the driver supports, 13000 for 13.0.
        public let driverVersion: Int
    }

    /// What the first GPU does at best.
    public struct GPUPeaks: Hashable, Sendable {
        /// TFLOP/s of matrix instructions with BF16 operands in shared memory (in registers before Hopper)
        /// and sums in F32: what a product of matrices could reach if nothing had to be loaded.
        public let tensorCoreTFLOPS: Double
        /// TFLOP/s of multiply-adds in F32 on registers.
        public let multiplyAddTFLOPS: Double
        /// GB/s, read and written, of a copy within its memory.
        public let copyBandwidth: Double

        /// The better of two measurements, each for itself.
        public func best(_ other: GPUPeaks) -> GPUPeaks {
            GPUPeaks(
                tensorCoreTFLOPS: max(tensorCoreTFLOPS, other.tensorCoreTFLOPS),
                multiplyAddTFLOPS: max(multiplyAddTFLOPS, other.multiplyAddTFLOPS),
                copyBandwidth: max(copyBandwidth, other.copyBandwidth))
        }
    }

    /// Measures the ceilings of the first GPU, the best of several runs of some milliseconds each.
    /// - Throws: `AttentionError.deviceUnavailable` that says why there is none.
    public static func gpuPeaks() throws(AttentionError) -> GPUPeaks {
        let peaks = try DevicePeaks(KernelLibrary.shared())
        return GPUPeaks(
            tensorCoreTFLOPS: try peaks.tensorCoreFLOPS() / 1e12,
            multiplyAddTFLOPS: try peaks.multiplyAddFLOPS() / 1e12,
            copyBandwidth: try peaks.copyBandwidth() / 1e9)
    }

    /// Gives memory that is kept for later calls on the first GPU, on it and on the host, back to the system.
    /// - Throws: `AttentionError.deviceUnavailable` that says why there is no GPU.
    public static func releaseUnusedDeviceMemory() throws(AttentionError) {
        try CUDADevice.shared().releaseUnusedMemory()
    }

    /// Measures the multiply-add ceiling: the best of several runs with all threads at work on registers
    /// alone, in GFLOP/s.
    ///
    /// - Parameters:
    ///   - threads: how many run the loop at once.
    ///   - kernels: the widest that runs here if nil.
    ///   - double: in Double rather than Float.
    /// - Throws: `AttentionError.kernelsUnavailable` for kernels that do not run here.
    public static func multiplyAddPeak(
        threads: Int, kernels: KernelSet? = nil, double: Bool = false
    ) throws(AttentionError) -> Double {
        let set = try KernelSelection.choose(kernels)
        return Machine.multiplyAddPeak(
            threads: threads, (double ? Double.tileKernels(set) : Float.tileKernels(set)).multiplyAddLoop)
    }

    /// Measures the ceiling of the instruction that multiplies pairs of BF16 and adds them in Float, as
    /// `multiplyAddPeak` does, in GFLOP/s; nil where the processor or the kernels have none, or where it is
    /// slower than Float's multiply-adds, so that BF16 is computed with those.
    ///
    /// - Parameters:
    ///   - threads: how many run the loop at once.
    ///   - kernels: the widest that runs here if nil.
    /// - Throws: `AttentionError.kernelsUnavailable` for kernels that do not run here.
    public static func bfloat16Peak(
        threads: Int, kernels: KernelSet? = nil
    ) throws(AttentionError) -> Double? {
        let set = try KernelSelection.choose(kernels)
        return BFloat16.pairKernels(set).map {
            Machine.multiplyAddPeak(threads: threads, $0.multiplyAddLoop)
        }
    }

    /// Measures how fast all threads together read memory beyond the caches: the best of several runs, in
    /// GB/s.
    /// - Throws: `AttentionError.outOfMemory` if the memory to read cannot be had.
    public static func memoryBandwidth(threads: Int) throws(AttentionError) -> Double {
        try Machine.memoryBandwidth(threads: threads, Float.tileKernels(KernelSelection.available[0]))
    }
}
