import AttentionCUDA
import AttentionCore
import CFakeCUDA
import FlashAttention
import Testing

extension FakeDriverTests {
    /// Calls over operands in host memory.
    @Suite struct CUDAAttentionTests {
        private func run(_ attention: Attention<Float>, backward: Bool = true) throws(AttentionError) {
            let shape = attention.shape
            let q = Tensor<Float>(shape.queryExtents)
            let k = Tensor<Float>(shape.keyExtents)
            let v = Tensor<Float>(shape.valueExtents)
            let forward = try attention.forward(query: q, key: k, value: v, keyLengths: [7, 3])
            guard backward else { return }
            _ = try attention.backward(
                query: q, key: k, value: v, forward: forward, outputGradient: forward.output,
                keyLengths: [7, 3])
        }

        @Test(arguments: AttentionAlgorithm.allCases)
        func everyAlgorithm_givesBackWhatItTook(_ algorithm: AttentionAlgorithm) throws {
            do {
                let fake = try FakeDevice()
                let attention: Attention<Float> = try fake.attention(
                    .small, AttentionOptions(mask: .causal, algorithm: algorithm, device: .cuda))
                try run(attention)
                #expect(!FakeDevice.calls("cuLaunchKernel").isEmpty)
                #expect(fake_cuda_live().memory == 0)
            }
            #expect(FakeDevice.isClean)
        }

        @Test func secondCall_findsEverythingReady() throws {
            let fake = try FakeDevice()
            let attention: Attention<Float> = try fake.attention(.small)
            try run(attention)
            let loads =
                FakeDevice.calls("cuModuleLoadData").count + FakeDevice.calls("cuFuncSetAttribute").count
            let pinned = FakeDevice.calls("cuMemHostAlloc").count
            try run(attention)
            #expect(
                FakeDevice.calls("cuModuleLoadData").count + FakeDevice.calls("cuFuncSetAttribute").count
                    == loads)
            #expect(FakeDevice.calls("cuMemHostAlloc").count == pinned)
        }

        /// Lets every allocation, copy and launch of a call fail in turn, until one call has them all.
        @Test(arguments: [
            "cuMemAllocFromPoolAsync", "cuMemHostAlloc", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync",
            "cuLaunchKernel",
            "cuStreamCreate", "cuStreamSynchronize", "cuModuleLoadData", "cuModuleGetFunction",
            "cuModuleGetGlobal",
        ]) func failureHalfWay_leavesNothingBehind(_ call: String) throws {
            var failures = 0
            for number in 1...100 {
                do throws(AttentionError) {
                    let fake = try FakeDevice()
                    fake_cuda_fail(call, number, call == "cuMemAllocFromPoolAsync" ? 2 : 999)
                    let attention: Attention<Float> = try fake.attention(
                        .small, AttentionOptions(algorithm: .naive, device: .cuda))
                    // Pinned memory is tried again, so that only its second failure in a row would show.
                    try run(attention)
                    if FakeDevice.isSpent { break }
                } catch {
                    failures += 1
                    #expect("\(error)".contains(call) || "\(error)".contains("bytes"))
                }
                #expect(FakeDevice.isClean, "\(call) number \(number)")
            }
            #expect(failures > 0 || call == "cuMemHostAlloc")
            #expect(FakeDevice.isClean)
        }

        @Test func kernelsThatFail_areNamed() throws {
            let fake = try FakeDevice()
            let attention: Attention<Float> = try fake.attention(.small)
            fake_cuda_fail("cuLaunchKernel", 1, 700)
            expectError(
                .deviceFailed(
                    call: "cuLaunchKernel fa2_forward_small_f32_d32",
                    error: "CUDA_ERROR_ILLEGAL_ADDRESS, of the fake")
            ) { () throws(AttentionError) in try run(attention, backward: false) }
        }

        @Test func doubles_areRefusedByName() throws {
            let fake = try FakeDevice()
            expectError(
                .invalidOption("cuda: element type must be Float, Float16 or BFloat16, got Double")
            ) { () throws(AttentionError) in
                let _: Attention<Double> = try fake.attention(.small)
            }
        }

        @Test func elementTypes_chooseTheKernels() throws {
            let fake = try FakeDevice()
            let _: Attention<BFloat16> = try fake.attention(.small)
            #expect(FakeDevice.calls("cuFuncSetAttribute").contains { $0.contains("fa2_forward_bf16_d32") })
        }
    }
}

extension FakeDevice {
    /// Whether the failure that was asked for never came: fewer such calls than that were made.
    fileprivate static var isSpent: Bool { fake_cuda_is_waiting_to_fail() != 0 }
}
