import AttentionCore

/// Attention on the CPU: one planned problem, with working memory kept from call to call.
package final class CPUAttention<Element: CPUElement>: AttentionBackend {
    package let configuration: AttentionConfiguration
    private let forwardContext, backwardContext: CPUContext
    private let forwardMemory, backwardMemory: WorkspacePool

    /// - Throws: `AttentionError` when kernels or a library are asked for that are not there.
    package init(shape: AttentionShape, options: AttentionOptions) throws(AttentionError) {
        let kernelSet = try KernelSelection.choose(options.kernels)
        let kernels = Element.Accumulator.tileKernels(kernelSet)
        let gemm = options.gemm ?? .simd
        let blas: BLAS? = if gemm == .openblas { try BLAS.shared() } else { nil }
        let team = try ThreadTeam(options.parallelRuntime)
        let threads = options.threads ?? Machine.processorCount
        let scale = options.softmaxScale ?? 1 / Double(shape.headSize).squareRoot()
        func context(_ pass: AttentionPass) -> CPUContext {
            let tiles = TileTuning.sizes(
                shape, options, pass, scalarSize: kernels.scalarSize, cacheBytes: Machine.cacheBytes(2))
            var context = CPUContext(
                shape: shape, mask: options.mask, softmaxScale: scale, tiles: tiles,
                keySplits: TileTuning.keySplits(shape, options.algorithm, pass, tiles),
                takesDots: blas == nil && TileTuning.takesDots(shape),
                threads: threads, team: team, kernels: kernels, conversion: Element.conversion(kernelSet),
                blas: blas)
            // FlashAttention-2 alone is written for pairs.
            if options.algorithm == .flashAttention2, blas == nil {
                context.pairs = Element.pairKernels(kernelSet)
            }
            // No memory for workers that would find nothing to do.
            context.threads = max(1, min(threads, context.taskCount))
            return context
        }
        forwardContext = context(.forward)
        backwardContext = context(.backward)
        let forward = ForwardRun<Element>.layout(options.algorithm, forwardContext)
        let backward = BackwardRun<Element>.layout(options.algorithm, backwardContext)
        forwardMemory = WorkspacePool(forward)
        backwardMemory = WorkspacePool(backward)
        configuration = AttentionConfiguration(
            algorithm: options.algorithm, gemm: gemm, kernels: kernelSet, threads: threads,
            softmaxScale: scale, forwardTiles: forwardContext.tiles, backwardTiles: backwardContext.tiles,
            forwardWorkspaceBytes: forward.byteCount, backwardWorkspaceBytes: backward.byteCount)
    }

    package func forward(_ operands: ForwardOperands<Element>) throws(AttentionError) {
        guard !operands.output.extents.isEmpty else { return }
        try checkForBLAS([
            ("query", operands.query), ("key", operands.key), ("value", operands.value),
            ("output", operands.output.readOnly),
        ])
        try forwardMemory.withMemory { memory in
            Element.run(
                ForwardRun(
                    algorithm: configuration.algorithm, context: forwardContext, operands: operands,
                    memory: memory))
        }
    }

    package func backward(_ operands: BackwardOperands<Element>) throws(AttentionError) {
        guard !operands.output.extents.isEmpty else { return clearMissingKeys(operands) }
        try checkForBLAS([
            ("query", operands.query), ("key", operands.key), ("value", operands.value),
            ("output", operands.output), ("outputGradient", operands.outputGradient),
            ("queryGradient", operands.queryGradient.readOnly),
            ("keyGradient", operands.keyGradient.readOnly),
            ("valueGradient", operands.valueGradient.readOnly),
        ])
        try backwardMemory.withMemory { memory in
            clearMissingKeys(operands)
            Element.run(
                BackwardRun(
                    algorithm: configuration.algorithm, context: backwardContext, operands: operands,
                    memory: memory))
        }
    }

    /// BLAS takes its strides as 32-bit numbers.
    private func checkForBLAS(
        _ operands: @autoclosure () -> [(String, TensorView<Element>)]
    ) throws(AttentionError) {
        guard forwardContext.blas != nil else { return }
        for (name, view) in operands() where view.rowStride > Int(Int32.max) {
            throw .invalidStrides(
                operand: name, expected: "that gemm openblas can take, of at most \(Int32.max) for a row",
                got: "\(view.strides)")
        }
    }

    /// Keys that do not exist have gradients of 0, and no algorithm visits them; without rows of Q that holds
    /// for every key.
    private func clearMissingKeys(_ x: BackwardOperands<Element>) {
        let shape = backwardContext.shape
        guard !x.key.extents.isEmpty else { return }
        for b in 0..<shape.batch {
            let length = x.keyLengths.map { Int($0[b]) } ?? shape.keyLength
            let missing = (x.output.extents.isEmpty ? 0 : length)..<shape.keyLength
            guard !missing.isEmpty else { continue }
            for h in 0..<shape.keyValueHeads {
                x.keyGradient.block(b, h, missing).fill(.zero)
                x.valueGradient.block(b, h, missing).fill(.zero)
            }
        }
    }
}

extension TensorExtents {
    fileprivate var isEmpty: Bool { count == 0 }
}

/// One forward call, ready to run.
package struct ForwardRun<Element: CPUElement> {
    let algorithm: AttentionAlgorithm
    let context: CPUContext
    let operands: ForwardOperands<Element>
    let memory: WorkMemory

    static func layout(_ algorithm: AttentionAlgorithm, _ context: CPUContext) -> WorkspaceLayout {
        switch algorithm {
        case .naive: WorkspaceLayout(NaiveForward<Element>.self, context)
        case .onlineSoftmax: WorkspaceLayout(OnlineSoftmaxForward<Element>.self, context)
        case .flashAttention1: WorkspaceLayout(FlashAttention1Forward<Element>.self, context)
        case .flashAttention2 where context.pairs != nil:
            flashAttention2Layout(PairDotRows.self, PairPanelRows.self, context)
        case .flashAttention2:
            flashAttention2Layout(DotRows<Element>.self, PanelRows<Element>.self, context)
        }
    }

    func execute() {
        withBLAS(context.blas) {
            switch algorithm {
            case .naive: NaiveForward.run(context, operands, memory)
            case .onlineSoftmax: OnlineSoftmaxForward.run(context, operands, memory)
            case .flashAttention1: FlashAttention1Forward.run(context, operands, memory)
            case .flashAttention2:
                if context.pairs != nil, let operands = operands as? ForwardOperands<BFloat16> {
                    flashAttention2(PairDotRows.self, PairPanelRows.self, operands)
                } else {
                    flashAttention2(DotRows<Element>.self, PanelRows<Element>.self, operands)
                }
            }
        }
    }

    // FlashAttention-2 with few rows as they lie, or with rows in panels; the keys are split or not.

    private static func flashAttention2Layout<Dots: ForwardRows, Panels: ForwardRows>(
        _ dots: Dots.Type, _ panels: Panels.Type, _ c: CPUContext
    ) -> WorkspaceLayout {
        if c.keySplits == nil { return WorkspaceLayout(FlashAttention2Forward<Panels>.self, c) }
        if c.takesDots { return WorkspaceLayout(SplitKeysForward<Dots>.self, c) }
        return WorkspaceLayout(SplitKeysForward<Panels>.self, c)
    }

    private func flashAttention2<Dots: ForwardRows, Panels: ForwardRows>(
        _ dots: Dots.Type, _ panels: Panels.Type, _ operands: ForwardOperands<Dots.Element>
    ) where Dots.Element == Panels.Element {
        if context.keySplits == nil {
            FlashAttention2Forward<Panels>.run(context, operands, memory)
        } else if context.takesDots {
            SplitKeysForward<Dots>.run(context, operands, memory)
        } else {
            SplitKeysForward<Panels>.run(context, operands, memory)
        }
    }
}

/// One backward call, ready to run.
package struct BackwardRun<Element: CPUElement> {
    let algorithm: AttentionAlgorithm
    let context: CPUContext
    let operands: BackwardOperands<Element>
    let memory: WorkMemory

    static func layout(_ algorithm: AttentionAlgorithm, _ context: CPUContext) -> WorkspaceLayout {
        switch algorithm {
        case .naive: WorkspaceLayout(NaiveBackward<Element>.self, context)
        case .onlineSoftmax: WorkspaceLayout(OnlineSoftmaxBackward<Element>.self, context)
        case .flashAttention1: WorkspaceLayout(FlashAttention1Backward<Element>.self, context)
        case .flashAttention2 where context.pairs != nil:
            WorkspaceLayout(FlashAttention2Backward<PairRows>.self, context)
        case .flashAttention2: WorkspaceLayout(FlashAttention2Backward<WideRows<Element>>.self, context)
        }
    }

    func execute() {
        withBLAS(context.blas) {
            switch algorithm {
            case .naive: NaiveBackward.run(context, operands, memory)
            case .onlineSoftmax: OnlineSoftmaxBackward.run(context, operands, memory)
            case .flashAttention1: FlashAttention1Backward.run(context, operands, memory)
            case .flashAttention2:
                if context.pairs != nil, let operands = operands as? BackwardOperands<BFloat16> {
                    FlashAttention2Backward<PairRows>.run(context, operands, memory)
                } else {
                    FlashAttention2Backward<WideRows>.run(context, operands, memory)
                }
            }
        }
    }
}

/// Our workers are the parallelism, so BLAS runs each product on the thread that asks for it.
private func withBLAS(_ blas: BLAS?, _ body: () -> Void) {
    if let blas { blas.withSingleThreads(body) } else { body() }
}
