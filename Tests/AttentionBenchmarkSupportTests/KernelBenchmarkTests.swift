import AttentionBenchmarkSupport
import AttentionCPU
import AttentionCore
import Testing

/// What each entry of a kernel table that does an algorithm's work is called.
private func kernelNames(_ set: KernelSet) -> Set<String> {
    let sizes: Set = ["name", "scalarSize", "lanes", "registerRows", "panelWidth"]
    let measuring: Set = ["multiplyAddLoop", "readStream"]
    let fields = Mirror(reflecting: Float.tileKernels(set)).children.compactMap(\.label)
    return Set(fields).subtracting(sizes).subtracting(measuring)
}

@Suite struct KernelBenchmarkTests {
    @Test(arguments: KernelSelection.available)
    func everyKernelOfATable_isBenchmarked(_ set: KernelSet) {
        let cases = KernelCase.all(Float.tileKernels(set))
        #expect(Set(cases.map(\.kernel.rawValue)) == kernelNames(set))
    }

    @Test func names_areUnique() {
        let names = KernelBenchmark.all.map(\.name)
        #expect(Set(names).count == names.count)
    }

    /// However often a kernel runs on the same operands, it does not come to denormal numbers, infinities or
    /// NaN, which take another time.
    @Test(arguments: KernelBenchmark.all.map(\.name))
    func operands_stayOrdinary(_ name: String) throws {
        let benchmark = try #require(KernelBenchmark.all.first { $0.name == name })
        let prepared = try benchmark.prepared()
        prepared.run(40)
        #expect(prepared.holdsOrdinaryNumbers)
    }

    @Test func limit_growsWithTheWork() throws {
        let machine = KernelMachine(Float.tileKernels(.generic))
        let one = try machine.limit(KernelWork(elements: 1, multiplyAdds: 1000, scalars: 0))
        let two = try machine.limit(KernelWork(elements: 1, multiplyAdds: 4000, scalars: 0))
        #expect(one > 0)
        #expect(two > one)
        let reading = try machine.limit(KernelWork(elements: 1, multiplyAdds: 1, scalars: 1 << 16))
        #expect(reading > one)
    }
}
