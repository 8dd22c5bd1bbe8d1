import AttentionCPU
import AttentionCore
import Testing

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

// The environment belongs to the process, so each test that changes it runs in one of its own.
@Suite("KernelSelection")
struct KernelSelectionTests {
    @Test func available_startsWithTheWidest_andIsNeverEmpty() throws {
        let widest = try #require(KernelSelection.available.first)
        if getenv(KernelSelection.variable) == nil { #expect(try KernelSelection.choose(nil) == widest) }
    }

    @Test(arguments: KernelSelection.available)
    func setOfThisMachine_isChosenWhenAskedFor(set: KernelSet) throws {
        #expect(try KernelSelection.choose(set) == set)
    }

    @Test func setOfAnotherMachine_isRefused() {
        for set in KernelSet.allCases where !KernelSelection.available.contains(set) {
            #expect(throws: AttentionError.self) { try KernelSelection.choose(set) }
        }
    }

    @Test func variable_choosesTheSet() async {
        await #expect(processExitsWith: .success) {
            for set in KernelSelection.available {
                setenv(KernelSelection.variable, set.rawValue, 1)
                let chosen = try KernelSelection.choose(nil)
                #expect(chosen == set)
            }
        }
    }

    @Test func variable_givesWayToTheOption() async {
        await #expect(processExitsWith: .success) {
            let least = try #require(KernelSelection.available.last)
            setenv(KernelSelection.variable, KernelSelection.available[0].rawValue, 1)
            let chosen = try KernelSelection.choose(least)
            #expect(chosen == least)
        }
    }

    @Test func variableThatNamesNoSetOfThisMachine_isAnError() async {
        await #expect(processExitsWith: .success) {
            for name in ["", "avx1024", "AVX2", "neon "] {
                setenv(KernelSelection.variable, name, 1)
                #expect(throws: AttentionError.self) { try KernelSelection.choose(nil) }
            }
        }
    }
}
