import AttentionCUDA
import AttentionCore
import CFakeCUDA
import Testing

extension FakeDriverTests {
    @Suite struct DeviceMemoryTests {
        @Test func memory_goesBackOnItsOwnStream() throws {
            do {
                let fake = try FakeDevice()
                let stream = try CUDAStream(fake.device)
                _ = try DeviceMemory(byteCount: 100, on: stream)
                #expect(FakeDevice.calls() == ["cuMemAllocFromPoolAsync s1", "cuMemFreeAsync s1"])
            }
            #expect(FakeDevice.isClean)
        }

        @Test func memoryUsedOnAnotherStream_goesBackBehindItsWork() throws {
            do {
                let fake = try FakeDevice()
                let home = try CUDAStream(fake.device)
                let other = try CUDAStream(fake.device)
                var memory: DeviceMemory? = try DeviceMemory(byteCount: 100, on: home)
                try memory?.use(on: other)
                try memory?.use(on: other)
                try memory?.use(on: home)
                // The first use waits until the memory is there; the others have nothing to wait for.
                #expect(
                    FakeDevice.calls() == [
                        "cuMemAllocFromPoolAsync s1", "cuEventRecord s1", "cuStreamWaitEvent s2",
                    ])
                memory = nil
                #expect(
                    FakeDevice.calls().suffix(3) == [
                        "cuEventRecord s2", "cuStreamWaitEvent s1", "cuMemFreeAsync s1",
                    ])
            }
            #expect(FakeDevice.isClean)
        }

        @Test func memoryThatCannotWait_isFreedAfterASynchronisation() throws {
            do {
                let fake = try FakeDevice()
                let home = try CUDAStream(fake.device)
                let other = try CUDAStream(fake.device)
                var memory: DeviceMemory? = try DeviceMemory(byteCount: 100, on: home)
                try memory?.use(on: other)
                fake_cuda_fail("cuEventCreate", 1, 999)
                memory = nil
                #expect(FakeDevice.calls().suffix(2) == ["cuStreamSynchronize s2", "cuMemFreeAsync s1"])
            }
            #expect(FakeDevice.isClean)
        }

        @Test func borrowedMemory_isNeverFreed() throws {
            do {
                let fake = try FakeDevice()
                let stream = try CUDAStream(fake.device)
                try DeviceMemory(borrowing: 4096, byteCount: 16, on: fake.device).use(on: stream)
                #expect(FakeDevice.calls().isEmpty)
            }
            #expect(FakeDevice.isClean)
        }

        @Test func pinnedMemory_isUsedAgain() throws {
            do {
                let fake = try FakeDevice()
                _ = try PinnedMemory(byteCount: 100_000, for: fake.device)
                _ = try PinnedMemory(byteCount: 100_000, for: fake.device)
                #expect(FakeDevice.calls() == ["cuMemHostAlloc"])
                // Far too large for a small copy.
                _ = try PinnedMemory(byteCount: 10, for: fake.device)
                #expect(FakeDevice.calls() == ["cuMemHostAlloc", "cuMemHostAlloc"])
                try fake.device.releaseUnusedMemory()
                #expect(fake_cuda_live().pinned == 0)
            }
            #expect(FakeDevice.isClean)
        }

        @Test func pinnedMemoryThatIsCopied_waitsForTheCopy() throws {
            do {
                let fake = try FakeDevice()
                let stream = try CUDAStream(fake.device)
                try PinnedMemory(byteCount: 100, for: fake.device).use(on: stream)
                #expect(FakeDevice.calls() == ["cuMemHostAlloc", "cuEventRecord s1"])
            }
            #expect(FakeDevice.isClean)
        }

        @Test func pinnedMemoryThatIsNotThere_isTakenFromWhatRests() throws {
            do {
                let fake = try FakeDevice()
                _ = try PinnedMemory(byteCount: 1_000_000, for: fake.device)
                fake_cuda_fail("cuMemHostAlloc", 1, 2)
                let small = try PinnedMemory(byteCount: 10, for: fake.device)
                #expect(small.bytes.count == 10)
                #expect(FakeDevice.calls() == ["cuMemHostAlloc", "cuMemFreeHost", "cuMemHostAlloc"])
            }
            #expect(FakeDevice.isClean)
        }

        @Test func unusedMemory_goesBackToTheSystem() throws {
            do {
                let fake = try FakeDevice()
                _ = try PinnedMemory(byteCount: 100, for: fake.device)
                let used = try PinnedMemory(byteCount: 100_000, for: fake.device)
                try fake.device.releaseUnusedMemory()
                #expect(FakeDevice.calls().suffix(2) == ["cuMemFreeHost", "cuMemPoolTrimTo 0"])
                #expect(withExtendedLifetime(used) { fake_cuda_live().pinned } == 1)
                fake_cuda_fail("cuMemPoolTrimTo", 1, 999)
                expectError(
                    .deviceFailed(
                        call: "cuMemPoolTrimTo", error: "CUDA_ERROR_ILLEGAL_ADDRESS, of the fake")
                ) { () throws(AttentionError) in try fake.device.releaseUnusedMemory() }
            }
            #expect(FakeDevice.isClean)
        }

        @Test(arguments: [
            "cuDevicePrimaryCtxRetain", "cuMemPoolCreate", "cuMemPoolSetAttribute",
        ]) func deviceThatDoesNotOpen_leavesNothingBehind(_ call: String) {
            var opened = false
            do throws(AttentionError) {
                _ = try FakeDevice()
                let fake = try FakeDevice()
                fake_cuda_fail(call, 1, 999)
                _ = try CUDADevice(fake.driver, ordinal: 1)
                opened = true
            } catch {
                guard case .deviceFailed(call, _) = error else {
                    Issue.record("expected the failure of \(call), got \(error)")
                    return
                }
            }
            #expect(!opened)
            #expect(FakeDevice.isClean)
        }
    }
}
