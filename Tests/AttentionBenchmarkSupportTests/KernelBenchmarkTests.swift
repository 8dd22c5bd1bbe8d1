import AttentionBenchmarkSupport
import AttentionCPU
import AttentionCore
import Testing
import TileKernelTable

/// The kernels of a table, by its fields: those that do an algorithm's work.
private func kernels(of table: Any) -> Set<String> {
    let sizes: Set = ["name", "scalarSize", "lanes", "registerRows", "panelWidth"]
    let measuring: Set = ["multiplyAddLoop", "readStream"]
    let fields = Mirror(reflecting: table).children.flatMap { field -> [String] in
        let label = field.label ?? ""
        guard field.value is PassingProducts else { return [label] }
        return kernels(of: field.value).map { "\(label).\($0)" }
    }
    return Set(fields).subtracting(sizes).subtracting(measuring)
}

@Suite struct KernelBenchmarkTests {
    @Test(arguments: KernelSelection.available)
    func everyKernelOfATable_isBenchmarked(_ set: KernelSet) {
        let table = Float.tileKernels(set)
        #expect(Set(KernelCase.all(table).map(\.kernel)) == kernels(of: table))
        if let conversion = BFloat16.conversion(set) {
            #expect(Set(KernelCase.all(conversion, table).map(\.kernel)) == kernels(of: conversion))
        }
        if let pairs = BFloat16.pairKernels(set) {
            let cases = KernelCase.products(pairs, table) + KernelCase.passes(pairs, table)
            #expect(Set(cases.map(\.kernel)) == kernels(of: pairs))
        }
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
        #expect(prepared.operands.areOrdinary)
    }

    @Test func limit_growsWithTheWork() throws {
        let machine = KernelMachine(Float.tileKernels(.generic))
        let one = try machine.limit(KernelWork(elements: 1, multiplyAdds: 1000, bytes: 0))
        let two = try machine.limit(KernelWork(elements: 1, multiplyAdds: 4000, bytes: 0))
        #expect(one > 0)
        #expect(two > one)
        let reading = try machine.limit(KernelWork(elements: 1, multiplyAdds: 1, bytes: 1 << 16))
        #expect(reading > one)
    }
}
