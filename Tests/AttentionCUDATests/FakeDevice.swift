import AttentionCUDA
import AttentionCore
import CCUDADriver
import CFakeCUDA
import FlashAttention
import Testing

/// The parent of all tests on the fake driver, whose counts are global: one runs after the other.
@Suite(.serialized) enum FakeDriverTests {}

/// A device of the fake driver, with everything counted from here on.
struct FakeDevice {
    let driver: CUDADriver
    let device: CUDADevice
    let library: KernelLibrary

    init(ordinal: Int = 0) throws(AttentionError) {
        fake_cuda_reset()
        var functions = CUDADriverFunctions()
        fake_cuda_functions(&functions)
        driver = CUDADriver(functions: functions)
        device = try CUDADevice(driver, ordinal: ordinal)
        library = KernelLibrary(device)
    }

    func stream() throws(AttentionError) -> DeviceStream { DeviceStream(try CUDAStream(device)) }

    func attention<Element: AttentionElement>(
        _ shape: AttentionShape, _ options: AttentionOptions = .init(device: .cuda)
    ) throws(AttentionError) -> Attention<Element> {
        let backend = try CUDAAttention<Element>(shape: shape, options: options, library: library)
        return Attention(shape, options, backend)
    }

    /// The driver's calls so far whose line starts so.
    static func calls(_ start: String = "") -> [String] {
        var lines: [String] = []
        while let line = fake_cuda_call(lines.count) { lines.append(String(cString: line)) }
        return lines.filter { $0.hasPrefix(start) }
    }

    /// Whether nothing is left of what was taken from the driver.
    static var isClean: Bool {
        let live = fake_cuda_live()
        return [live.memory, live.pinned, live.streams, live.events, live.modules, live.pools, live.contexts]
            .allSatisfy { $0 == 0 }
    }
}

extension AttentionShape {
    static let small = AttentionShape(
        batch: 2, heads: 4, keyValueHeads: 2, queryLength: 5, keyLength: 7, headSize: 8)
}

func expectError(_ expected: AttentionError, _ body: () throws(AttentionError) -> Void) {
    do throws(AttentionError) {
        try body()
        Issue.record("expected \(expected)")
    } catch {
        #expect(error == expected)
    }
}
