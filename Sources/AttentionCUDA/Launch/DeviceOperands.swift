import AttentionCore
import CTileABI

/// A tensor in device memory, `[B, H, N, D]` with any strides but the last.
package struct DeviceTensorView: Sendable {
    package var address: UInt64
    package var strides: TensorStrides

    package init(address: UInt64, strides: TensorStrides) {
        self.address = address
        self.strides = strides
    }

    var operand: TileOperand {
        TileOperand(
            address: address, batchStride: Int64(strides.batch), headStride: Int64(strides.head),
            rowStride: Int64(strides.row))
    }

    /// Whether every row starts at a multiple of 16 bytes.
    func isAligned(elementBytes: Int) -> Bool {
        // The lowest bits are 0 in each of them if they are 0 in their union. Nothing is multiplied: the
        // stride of an axis of one entry may be any number.
        address % 16 == 0 && (strides.batch | strides.head | strides.row) % (16 / elementBytes) == 0
    }
}

/// What one call reads and writes, all of it in device memory.
package struct DeviceOperands: Sendable {
    package var query, key, value, output: DeviceTensorView
    /// Float `[B, H, Nq]`
    package var logSumExp: UInt64
    /// Int32 `[B]`, or 0.
    package var keyLengths: UInt64
    /// Of the backward pass.
    package var gradients: Gradients?

    package struct Gradients: Sendable {
        package var output, query, key, value: DeviceTensorView

        package init(
            output: DeviceTensorView, query: DeviceTensorView, key: DeviceTensorView, value: DeviceTensorView
        ) {
            self.output = output
            self.query = query
            self.key = key
            self.value = value
        }
    }

    package init(
        query: DeviceTensorView, key: DeviceTensorView, value: DeviceTensorView, output: DeviceTensorView,
        logSumExp: UInt64, keyLengths: UInt64, gradients: Gradients? = nil
    ) {
        self.query = query
        self.key = key
        self.value = value
        self.output = output
        self.logSumExp = logSumExp
        self.keyLengths = keyLengths
        self.gradients = gradients
    }

    /// Whether every row of every tensor starts at a multiple of 16 bytes.
    func areAligned(elementBytes bytes: Int) -> Bool {
        guard query.isAligned(elementBytes: bytes), key.isAligned(elementBytes: bytes),
            value.isAligned(elementBytes: bytes), output.isAligned(elementBytes: bytes)
        else { return false }
        guard let gradients else { return true }
        return gradients.output.isAligned(elementBytes: bytes)
            && gradients.query.isAligned(elementBytes: bytes)
            && gradients.key.isAligned(elementBytes: bytes) && gradients.value.isAligned(elementBytes: bytes)
    }
}

extension AttentionLaunch {
    /// Everything but the working memory.
    package init(_ problem: LaunchProblem, _ operands: DeviceOperands) {
        self.init()
        let shape = problem.shape
        let bytes = problem.format.byteCount
        query = operands.query.operand
        key = operands.key.operand
        value = operands.value.operand
        output = operands.output.operand
        logSumExp = operands.logSumExp
        keyLengths = operands.keyLengths
        if let gradients = operands.gradients {
            outputGradient = gradients.output.operand
            queryGradient = gradients.query.operand
            keyGradient = gradients.key.operand
            valueGradient = gradients.value.operand
        }
        batch = Int32(shape.batch)
        heads = Int32(shape.heads)
        keyValueHeads = Int32(shape.keyValueHeads)
        groupSize = Int32(shape.groupSize)
        queryLength = Int32(shape.queryLength)
        keyLength = Int32(shape.keyLength)
        headSize = Int32(shape.headSize)
        valueHeadSize = Int32(shape.valueHeadSize)
        mask =
            switch problem.mask {
            case .full: Int32(TileMaskFull)
            case .causal(.bottomRight): Int32(TileMaskCausalBottomRight)
            case .causal(.topLeft): Int32(TileMaskCausalTopLeft)
            }
        splits = Int32(problem.splits ?? 1)
        let aligned = operands.areAligned(elementBytes: bytes)
        let wholeChunks = shape.headSize * bytes % 16 == 0 && shape.valueHeadSize * bytes % 16 == 0
        vectorised = aligned && wholeChunks ? 1 : 0
        pairsAtOnce = 1
        softmaxScale = Float(problem.softmaxScale)
        softmaxScaleLog2 = Float(problem.softmaxScale * 1.4426950408889634)
        positiveScaleLog2 = max(abs(softmaxScaleLog2), .leastNormalMagnitude)
    }
}
