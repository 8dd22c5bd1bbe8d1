import AttentionCore
import CTileABI

/// One pass of a problem with everything decided and every kernel found, so that a call only fills in
/// addresses and queues its launches.
package struct PassPlan: Sendable {
    /// Br and Bc: those of the pass's largest tiles.
    package let tiles: TileSizes
    package let workingMemory: WorkingMemory
    private let problem: LaunchProblem
    private let library: KernelLibrary
    private let launches: [Launch]

    private struct Launch {
        let kernel: Kernel
        let grid: Grid
        let pairsAtOnce: Int32
        /// FA1 clears its sum of dQ itself, which lies otherwise than FA2's.
        let hidesGradientSum: Bool
    }

    /// - Throws: `AttentionError.deviceFailed` if a kernel does not load.
    package init(
        _ problem: LaunchProblem, _ pass: AttentionPass, _ library: KernelLibrary
    ) throws(AttentionError) {
        self.problem = problem
        self.library = library
        workingMemory = WorkingMemory(problem, pass)
        var launches: [Launch] = []
        var tiles = TileSizes(queries: 1, keys: 1)
        for step in pass == .forward ? problem.forwardSteps : problem.backwardSteps {
            let kernel = try library.kernel(step.name, in: step.module)
            let isPreparation = step.name.contains("prepare")
            launches.append(
                Launch(
                    kernel: kernel, grid: step.grid.grid(kernel.geometry),
                    pairsAtOnce: Int32(step.pairsAtOnce(problem.mask)),
                    hidesGradientSum: isPreparation && problem.algorithm == .flashAttention1))
            if isPreparation || step.name.contains("finish") { continue }
            tiles.queries = max(tiles.queries, Int(kernel.geometry.queryTile))
            tiles.keys = max(tiles.keys, Int(kernel.geometry.keyTile))
        }
        self.launches = launches
        self.tiles = tiles
    }

    /// Queues the pass. The operands' memory must stay until the stream has done it.
    package func enqueue(_ operands: DeviceOperands, on stream: CUDAStream) throws(AttentionError) {
        var parameters = AttentionLaunch(problem, operands)
        let kept = try workingMemory.allocate(&parameters, on: stream)
        // The pool takes memory back in the order of the stream, after the kernels.
        defer { withExtendedLifetime(kept) {} }
        let gradientSum = parameters.gradientSum
        for launch in launches {
            parameters.pairsAtOnce = launch.pairsAtOnce
            parameters.gradientSum = launch.hidesGradientSum ? 0 : gradientSum
            try library.launch(launch.kernel, grid: launch.grid, parameters, on: stream)
        }
    }
}
