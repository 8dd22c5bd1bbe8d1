import AttentionCUDA
import AttentionCore
import CFakeCUDA
import FlashAttention
import Testing

extension FakeDriverTests {
    /// The public types and calls over device memory.
    @Suite struct DeviceTensorTests {
        private func numbers(_ extents: TensorExtents, layout: TensorLayout = .bhnd) throws -> Tensor<Float> {
            try Tensor(extents, layout: layout, elements: (0..<extents.count).map { Float($0) })
        }

        /// Operands of a problem, with whatever the memory holds.
        private struct Operands {
            var query, key, value: DeviceTensor<Float>
            var output: DeviceAttentionOutput<Float>

            init(_ shape: AttentionShape, on stream: DeviceStream) throws(AttentionError) {
                query = try DeviceTensor(shape.queryExtents, on: stream)
                key = try DeviceTensor(shape.keyExtents, on: stream)
                value = try DeviceTensor(shape.valueExtents, on: stream)
                output = DeviceAttentionOutput(
                    output: try DeviceTensor(shape.outputExtents, on: stream),
                    logSumExp: try DeviceVector(count: shape.rowCount, on: stream))
            }
        }

        @Test(arguments: TensorLayout.allCases)
        func copies_goThereAndBack(_ layout: TensorLayout) throws {
            do {
                let fake = try FakeDevice()
                let stream = try fake.stream()
                let host = try numbers(TensorExtents(2, 3, 4, 5), layout: layout)
                let tensor = try DeviceTensor(host, on: stream)
                #expect(try tensor.copyToHost(on: stream).elements == host.elements)
                #expect(try tensor.copyToHost(on: stream).layout == layout)
                let vector = try DeviceVector<Int32>([3, 1, 2], on: stream)
                #expect(try vector.copyToHost(on: stream) == [3, 1, 2])
            }
            #expect(FakeDevice.isClean)
        }

        @Test func views_shareTheMemory() throws {
            let fake = try FakeDevice()
            let stream = try fake.stream()
            let whole = try DeviceTensor(numbers(TensorExtents(1, 2, 4, 6)), on: stream)
            // Rows 1 and 2 of head 1, their columns 2 to 4.
            let part = try whole.view(
                extents: TensorExtents(1, 1, 2, 3), strides: whole.strides, offset: 24 + 6 + 2)
            #expect(try part.copyToHost(on: stream).elements == [32, 33, 34, 38, 39, 40])
            #expect(part.address == whole.address + 32 * 4)
            expectError(.bufferTooSmall(operand: "view", expected: 17, got: 16)) {
                () throws(AttentionError) in
                _ = try whole.view(extents: TensorExtents(1, 1, 3, 5), strides: whole.strides, offset: 32)
            }
            for (offset, error) in [
                (-1, AttentionError.invalidOption("offset must be at least 0, got -1")),
                (49, .bufferTooSmall(operand: "offset", expected: 49, got: 48)),
            ] {
                expectError(error) { () throws(AttentionError) in
                    _ = try whole.view(extents: part.extents, strides: whole.strides, offset: offset)
                }
            }
        }

        @Test(arguments: [-1, .max])
        func sizesThatNoMemoryHolds_areRefused(_ size: Int) throws {
            let stream = try FakeDevice().stream()
            func isRefused(_ make: () throws -> Void) -> Bool {
                do { try make() } catch AttentionError.invalidShape { return true } catch {}
                return false
            }
            #expect(isRefused { _ = try DeviceVector<Float>(count: size, on: stream) })
            #expect(isRefused { _ = try DeviceTensor<Float>(TensorExtents(1, 1, size, 1), on: stream) })
        }

        @Test func pinnedTensors_areCopiedWithoutADetour() throws {
            do {
                let fake = try FakeDevice()
                let stream = try fake.stream()
                let extents = TensorExtents(1, 1, 2, 3)
                let tensor = try DeviceTensor(numbers(extents), on: stream)
                let pinned = try PinnedTensor<Float>(extents, strides: tensor.strides, for: fake.device)
                let before = FakeDevice.calls("cuMemHostAlloc").count
                try tensor.copy(to: pinned, on: stream)
                try tensor.copy(from: pinned, on: stream)
                #expect(FakeDevice.calls("cuMemHostAlloc").count == before)
                #expect(pinned.withView { $0.row(0, 0, 1)[2] } == 5)
                let other = try PinnedTensor<Float>(
                    extents, strides: TensorStrides(batch: 9, head: 9, row: 4), for: fake.device)
                #expect(throws: AttentionError.self) { try tensor.copy(to: other, on: stream) }
            }
            #expect(FakeDevice.isClean)
        }

        @Test func call_queuesAndReturns() throws {
            do {
                let fake = try FakeDevice()
                let stream = try fake.stream()
                let attention: Attention<Float> = try fake.attention(.small)
                let x = try Operands(.small, on: stream)
                let before = FakeDevice.calls().count
                try attention.forward(query: x.query, key: x.key, value: x.value, into: x.output, on: stream)
                #expect(
                    Array(FakeDevice.calls().dropFirst(before)) == [
                        "cuLaunchKernel s1 fattn_fa2_forward_small_f32_d32"
                    ])
                _ = try attention.backward(
                    query: x.query, key: x.key, value: x.value, forward: x.output,
                    outputGradient: x.output.output, on: stream)
                #expect(!FakeDevice.calls("cuMemcpy").contains { $0.hasSuffix("s1") })
                #expect(FakeDevice.calls("cuStreamSynchronize s1").isEmpty)
            }
            #expect(FakeDevice.isClean)
        }

        @Test func operandsOfAnotherStream_areKeptUntilTheCallIsDone() throws {
            do {
                let fake = try FakeDevice()
                let home = try fake.stream()
                let other = try fake.stream()
                let attention: Attention<Float> = try fake.attention(.small)
                do {
                    let x = try Operands(.small, on: home)
                    try attention.forward(
                        query: x.query, key: x.key, value: x.value, into: x.output, on: other)
                }
                let calls = FakeDevice.calls()
                let launch = try #require(calls.firstIndex { $0.hasPrefix("cuLaunchKernel s2") })
                let firstFree = try #require(calls.firstIndex { $0.hasPrefix("cuMemFreeAsync s1") })
                #expect(calls[launch..<firstFree].contains("cuStreamWaitEvent s1"))
                #expect(calls.filter { $0 == "cuMemFreeAsync s1" }.count == 5)
            }
            #expect(FakeDevice.isClean)
        }

        @Test func operandsAtFault_areNamed() throws {
            let fake = try FakeDevice()
            let stream = try fake.stream()
            let attention: Attention<Float> = try fake.attention(.small)
            let x = try Operands(.small, on: stream)
            let launches = FakeDevice.calls("cuLaunchKernel").count
            expectError(
                .shapeMismatch(operand: "key", expected: "[2,2,7,8]", got: "[2,4,5,8]")
            ) { () throws(AttentionError) in
                try attention.forward(
                    query: x.query, key: x.query, value: x.value, into: x.output, on: stream)
            }
            var result = x.output
            result.logSumExp = try DeviceVector(count: 39, on: stream)
            expectError(.bufferTooSmall(operand: "logSumExp", expected: 40, got: 39)) {
                () throws(AttentionError) in
                try attention.forward(query: x.query, key: x.key, value: x.value, into: result, on: stream)
            }
            result = x.output
            result.output = try x.output.output.view(
                extents: Attention<Float>.outputExtents, strides: TensorStrides(batch: 0, head: 40, row: 8))
            expectError(
                .invalidStrides(operand: "output", expected: "that keep its rows apart", got: "[0,40,8,1]")
            ) { () throws(AttentionError) in
                try attention.forward(query: x.query, key: x.key, value: x.value, into: result, on: stream)
            }
            let lengths = try DeviceVector<Int32>([1, 2, 3], on: stream)
            expectError(
                .invalidKeyLengths(expected: "one length a batch entry, 2", got: "3")
            ) { () throws(AttentionError) in
                try attention.forward(
                    query: x.query, key: x.key, value: x.value, into: x.output, keyLengths: lengths,
                    on: stream)
            }
            #expect(FakeDevice.calls("cuLaunchKernel").count == launches)
        }

        @Test func otherDevices_areNamed() throws {
            let fake = try FakeDevice()
            let other = try CUDADevice(fake.driver, ordinal: 1)
            let stream = try fake.stream()
            let otherStream = DeviceStream(try CUDAStream(other))
            let attention: Attention<Float> = try fake.attention(.small)
            var x = try Operands(.small, on: stream)
            expectError(
                .wrongDevice(operand: "stream", expected: "device 0, that of the plan", got: "device 1")
            ) { () throws(AttentionError) in
                try attention.forward(
                    query: x.query, key: x.key, value: x.value, into: x.output, on: otherStream)
            }
            x.value = try DeviceTensor(AttentionShape.small.valueExtents, on: otherStream)
            expectError(
                .wrongDevice(operand: "value", expected: "device 0, that of the plan", got: "device 1")
            ) { () throws(AttentionError) in
                try attention.forward(query: x.query, key: x.key, value: x.value, into: x.output, on: stream)
            }
        }

        @Test func planOfTheCPU_refusesDeviceTensors() throws {
            let fake = try FakeDevice()
            let stream = try fake.stream()
            let attention = try Attention<Float>(shape: .small)
            let x = try Operands(.small, on: stream)
            expectError(
                .invalidOption("device: expected cuda for tensors on a GPU, got cpu")
            ) { () throws(AttentionError) in
                try attention.forward(query: x.query, key: x.key, value: x.value, into: x.output, on: stream)
            }
        }

        @Test func kernelFailure_comesFromSynchronize() throws {
            let fake = try FakeDevice()
            let stream = try fake.stream()
            fake_cuda_fail("cuStreamSynchronize", 1, 700)
            expectError(
                .deviceFailed(call: "cuStreamSynchronize", error: "CUDA_ERROR_ILLEGAL_ADDRESS, of the fake")
            ) { () throws(AttentionError) in try stream.synchronize() }
        }

        @Test func memoryThatIsNotThere_isAnErrorThatSaysHowMuch() throws {
            do {
                let fake = try FakeDevice()
                let stream = try fake.stream()
                fake_cuda_fail("cuMemAllocFromPoolAsync", 1, 2)
                expectError(.outOfMemory(bytes: 4000)) { () throws(AttentionError) in
                    _ = try DeviceTensor<Float>(TensorExtents(1, 1, 10, 100), on: stream)
                }
                expectError(
                    .invalidShape(
                        "expected sizes of 0 or more that fit in memory, got a tensor of shape [1,-1,1,1]")
                ) { () throws(AttentionError) in
                    _ = try DeviceTensor<Float>(TensorExtents(1, -1, 1, 1), on: stream)
                }
            }
            #expect(FakeDevice.isClean)
        }

        @Test func events_measureAndOrder() throws {
            do {
                let fake = try FakeDevice()
                let first = try fake.stream()
                let second = try fake.stream()
                let start = try first.record()
                let end = try first.record()
                try second.wait(for: end)
                #expect(try start.seconds(until: end) == 0.001)
                #expect(try end.hasPassed())
                #expect(FakeDevice.calls().suffix(1) == ["cuStreamWaitEvent s2"])
            }
            #expect(FakeDevice.isClean)
        }
    }
}

extension Attention {
    fileprivate static var outputExtents: TensorExtents { AttentionShape.small.outputExtents }
}

/// What a program sees where there is no GPU: runs on machines without one.
@Suite struct DeviceUnavailableTests {
    @Test func everyWayToADevice_saysWhyThereIsNone() {
        let attempts: [() throws -> Void] = [
            { _ = try DeviceStream() }, { _ = try DeviceEvent() },
            { _ = try PinnedTensor<Float>(TensorExtents(1, 1, 1, 1)) },
            { _ = try Attention<Float>(shape: .small, options: AttentionOptions(device: .cuda)) },
            { _ = try MachineInfo.cudaDevices() }, { try MachineInfo.releaseUnusedDeviceMemory() },
        ]
        for attempt in attempts {
            do {
                try attempt()
            } catch AttentionError.deviceUnavailable(let reason) {
                #expect(reason.contains(KernelModule.areEmbedded ? "CUDA" : "trait CUDA"))
            } catch {
                Issue.record("expected deviceUnavailable, got \(error)")
            }
        }
    }
}
