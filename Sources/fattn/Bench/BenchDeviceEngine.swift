import FlashAttention

/// The GPU: operands in its memory, copied there once; time by events on the stream.
final class DeviceEngine<Element: FileElement>: BenchEngine {
    private let attention: Attention<Element>
    private let stream: DeviceStream
    private let query, key, value, outputGradient: DeviceTensor<Element>
    private let keyLengths: DeviceVector<Int32>?
    private let output: DeviceAttentionOutput<Element>
    private let gradients: DeviceAttentionGradients<Element>
    private let start, end: DeviceEvent
    /// Calls to a run of each pass, so that a run is long beside what an event costs.
    private var callsPerRun: [AttentionPass: Int] = [:]

    init(_ attention: Attention<Element>, _ inputs: BenchInputs<Element>) throws {
        self.attention = attention
        let shape = attention.shape
        let stream = try DeviceStream()
        self.stream = stream
        query = try DeviceTensor(inputs.query, on: stream)
        key = try DeviceTensor(inputs.key, on: stream)
        value = try DeviceTensor(inputs.value, on: stream)
        outputGradient = try DeviceTensor(inputs.outputGradient, on: stream)
        keyLengths = try inputs.keyLengths.map {
            try DeviceVector($0.map { Int32(clamping: $0) }, on: stream)
        }
        output = DeviceAttentionOutput(
            output: try DeviceTensor(shape.outputExtents, on: stream),
            logSumExp: try DeviceVector(count: shape.rowCount, on: stream))
        gradients = DeviceAttentionGradients(
            query: try DeviceTensor(shape.queryExtents, on: stream),
            key: try DeviceTensor(shape.keyExtents, on: stream),
            value: try DeviceTensor(shape.valueExtents, on: stream))
        start = try DeviceEvent()
        end = try DeviceEvent()
        try stream.synchronize()
    }

    func forward() throws -> AttentionOutput<Element> {
        try enqueue(.forward)
        return AttentionOutput(
            output: try output.output.copyToHost(on: stream),
            logSumExp: try output.logSumExp.copyToHost(on: stream).map { Double($0) })
    }

    func backward() throws -> AttentionGradients<Element> {
        try enqueue(.backward)
        return AttentionGradients(
            query: try gradients.query.copyToHost(on: stream), key: try gradients.key.copyToHost(on: stream),
            value: try gradients.value.copyToHost(on: stream))
    }

    func time(_ pass: AttentionPass) throws -> Double {
        if callsPerRun[pass] == nil {
            let once = try time(pass, calls: 1)
            callsPerRun[pass] = max(1, min(100, Int(2e-3 / max(once, 1e-6))))
        }
        return try time(pass, calls: callsPerRun[pass] ?? 1)
    }

    /// Seconds of a call, of so many in a row.
    private func time(_ pass: AttentionPass, calls: Int) throws -> Double {
        try start.record(on: stream)
        for _ in 0..<calls { try enqueue(pass) }
        try end.record(on: stream)
        return try start.seconds(until: end) / Double(calls)
    }

    private func enqueue(_ pass: AttentionPass) throws {
        switch pass {
        case .forward:
            try attention.forward(
                query: query, key: key, value: value, into: output, keyLengths: keyLengths, on: stream)
        case .backward:
            try attention.backward(
                query: query, key: key, value: value, forward: output, outputGradient: outputGradient,
                into: gradients, keyLengths: keyLengths, on: stream)
        }
    }

    /// The copies of the pass's operands and results, and what a call costs the program.
    func describe(_ row: inout BenchRow) throws {
        switch row.pass {
        case .forward:
            row.toDevice = try seconds(from: [query, key, value], toDevice: true)
            row.toHost = try seconds(from: [output.output], toDevice: false)
        case .backward:
            row.toDevice = try seconds(
                from: [query, key, value, output.output, outputGradient], toDevice: true)
            row.toHost = try seconds(
                from: [gradients.query, gradients.key, gradients.value], toDevice: false)
        }
        // The driver's queue takes about a thousand launches; with more, a call would wait for the device.
        let calls = max(2, min(100, Int(0.2 / max(try time(row.pass), 1e-6))))
        row.callSeconds = try wallTime(row.pass, calls: calls, waits: false)
        row.callAndWaitSeconds = try wallTime(row.pass, calls: calls, waits: true)
    }

    /// Seconds on the device to copy tensors from or to page-locked memory; the shortest of three times.
    private func seconds(from tensors: [DeviceTensor<Element>], toDevice: Bool) throws -> Double {
        let pinned = try tensors.map { try PinnedTensor<Element>($0.extents) }
        // What is copied to the device is what came from there.
        for (tensor, host) in zip(tensors, pinned) { try tensor.copy(to: host, on: stream) }
        var best = Double.infinity
        for _ in 0..<3 {
            try start.record(on: stream)
            for (tensor, host) in zip(tensors, pinned) {
                if toDevice {
                    try tensor.copy(from: host, on: stream)
                } else {
                    try tensor.copy(to: host, on: stream)
                }
            }
            try end.record(on: stream)
            best = min(best, try start.seconds(until: end))
        }
        return best
    }

    /// Seconds of the program's own clock for one call: until it returns, or until it is done.
    private func wallTime(_ pass: AttentionPass, calls: Int, waits: Bool) throws -> Double {
        try stream.synchronize()
        let clock = ContinuousClock()
        let begin = clock.now
        for _ in 0..<calls {
            try enqueue(pass)
            if waits { try stream.synchronize() }
        }
        let spent = clock.now - begin
        try stream.synchronize()
        return spent / .seconds(1) / Double(calls)
    }
}
