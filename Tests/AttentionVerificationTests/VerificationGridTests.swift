import AttentionVerification
import FlashAttention
import Testing

@Suite("VerificationGrid")
struct VerificationGridTests {
    @Test func whole_hasThreeHundredCasesOnThePoorestMachine() {
        let poorest = VerificationMachine(kernelSets: [.generic], providers: [.simd])
        #expect(VerificationGrid.cases(machine: poorest).count >= 300)
    }

    @Test func cases_areDistinct() {
        let cases = VerificationGrid.cases()
        #expect(Set(cases).count == cases.count)
    }

    @Test func names_readBackAsTheSameCase() {
        for verificationCase in VerificationGrid.cases() {
            #expect(VerificationCase(verificationCase.description) == verificationCase)
        }
    }

    @Test func devices_haveHundredsOfCasesInEveryTypeTheyTake() {
        let cases = VerificationGrid.cases(device: .cuda)
        #expect(Set(cases).count == cases.count)
        for element in VerificationCase.ElementType.allCases {
            let count = cases.count { $0.element == element }
            #expect(element == .f64 ? count == 0 : count > 300)
        }
        #expect(cases.allSatisfy { VerificationCase($0.description) == $0 && $0.device == .cuda })
    }

    /// An H100 has 132 multiprocessors; a block takes at most 128 query rows or keys.
    @Test(arguments: [32, 64, 96, 128, 192, 256])
    func devices_haveCasesThatKeepEveryMultiprocessorBusy(_ bucket: Int) {
        for pass in AttentionPass.allCases {
            let large = VerificationGrid.cases(device: .cuda).filter {
                let shape = $0.problem.shape
                return $0.pass == pass && $0.algorithm == .flashAttention2 && $0.element == .f32
                    && shape.batch * shape.keyValueHeads > 66 && shape.batch * shape.heads > 132
                    && (bucket - 31...bucket).contains(shape.headSize)
            }
            #expect(!large.isEmpty)
        }
    }

    /// A GPU splits the keys of at most 16 query rows that share them, from 512 keys on.
    @Test(arguments: [32, 64, 96, 128, 192, 256])
    func devices_haveCasesWhoseKeysAreSplit(_ bucket: Int) {
        for element in [VerificationCase.ElementType.f32, .f16, .bf16] {
            let split = VerificationGrid.cases(device: .cuda).filter {
                let shape = $0.problem.shape
                return $0.pass == .forward && $0.algorithm == .flashAttention2 && $0.element == element
                    && shape.queryLength * shape.groupSize <= 16 && shape.keyLength >= 512
                    && (bucket - 31...bucket).contains(max(shape.headSize, shape.valueHeadSize))
            }
            #expect(split.count >= 3)
        }
    }

    @Test(arguments: [
        "", "forward", "forward/f32/fa2/simd/generic", "sideways/f32/fa2/simd/generic/1,1,1,1,1,1,1",
        "forward/f32/fa2/simd/generic/1,1,1,1,1,1", "forward/f32/fa2/simd/generic/1,3,2,1,1,1,1",
        "forward/f32/fa2/simd/generic/1,1,1,1,1,1,1/lengths=2",
        "forward/f32/fa2/simd/generic/1,1,1,1,1,1,1/tiles=0,4",
        "forward/f32/fa2/simd/generic/1,1,1,1,1,1,1/nonsense",
    ])
    func name_thatMeansNothing_isRefused(name: String) {
        #expect(VerificationCase(name) == nil)
    }

    @Test func withoutOpenBLAS_countsWhatItSkips() {
        let both = VerificationMachine(kernelSets: [.generic], providers: [.simd, .openblas])
        let one = VerificationMachine(kernelSets: [.generic], providers: [.simd])
        #expect(VerificationGrid.skipped(machine: both) == 0)
        #expect(
            VerificationGrid.skipped(machine: one) + VerificationGrid.cases(machine: one).count
                == VerificationGrid.cases(machine: both).count)
    }
}
