import AttentionCore
import CTileABI

/// The device memory that a pass needs beside its operands.
package struct WorkingMemory: Hashable, Sendable {
    /// Floats of each buffer; 0 where the algorithm has none.
    package var rowTerms = 0, gradientSum = 0, partialOutput = 0, partialStatistics = 0
    package var scores = 0, scoresGradient = 0

    package init(_ problem: LaunchProblem, _ pass: AttentionPass) {
        let shape = problem.shape, rows = shape.rowCount
        if problem.algorithm == .naive {
            scores = rows * shape.keyLength
            if pass == .backward { scoresGradient = scores }
        }
        switch pass {
        case .forward:
            if problem.algorithm == .flashAttention1 {
                partialOutput = rows * shape.valueHeadSize
                partialStatistics = 2 * rows
            } else if let splits = problem.splits {
                partialOutput = splits * rows * shape.valueHeadSize
                partialStatistics = splits * 2 * rows
            }
        case .backward:
            let paddedRows = shape.batch * shape.heads * problem.paddedRows
            rowTerms = 2 * paddedRows
            if problem.algorithm == .flashAttention1 { gradientSum = rows * shape.headSize }
            if problem.algorithm == .flashAttention2, !problem.deterministic {
                gradientSum = paddedRows * (problem.bucket ?? 0)
            }
        }
    }

    package var byteCount: Int {
        4 * (rowTerms + gradientSum + partialOutput + partialStatistics + scores + scoresGradient)
    }

    /// Takes the buffers from the stream's pool; they live as long as what is returned.
    func allocate(
        _ launch: inout AttentionLaunch, on stream: CUDAStream
    ) throws(AttentionError) -> [DeviceMemory] {
        var kept: [DeviceMemory] = []
        func take(_ floats: Int) throws(AttentionError) -> UInt64 {
            guard floats > 0 else { return 0 }
            let memory = try DeviceMemory(byteCount: 4 * floats, on: stream)
            kept.append(memory)
            return memory.address
        }
        launch.rowTerms = try take(rowTerms)
        launch.gradientSum = try take(gradientSum)
        launch.partialOutput = try take(partialOutput)
        launch.partialStatistics = try take(partialStatistics)
        launch.scores = try take(scores)
        launch.scoresGradient = try take(scoresGradient)
        return kept
    }
}
