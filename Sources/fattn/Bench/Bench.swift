import AttentionVerification
import FlashAttention
import SafeTensors

/// Checks and times the cases of one problem after the other.
struct Bench {
    let devices: [AttentionDevice]
    let algorithms: [AttentionAlgorithm]
    let providers: [GEMMProvider]
    let passes: [AttentionPass]
    let masks: [BenchMask]
    let threads: Int
    let parallel: ParallelRuntime?
    let seconds: Double
    let machine: BenchMachine
    let progress: Progress

    /// - Parameters:
    ///   - report: is given each row when it is done.
    func run(_ problem: BenchProblem, _ report: (BenchRow) -> Void) throws {
        switch problem.type {
        case .f64: try run(BenchInputs<Double>(problem), problem, report)
        case .f32: try run(BenchInputs<Float>(problem), problem, report)
        case .bf16: try run(BenchInputs<BFloat16>(problem), problem, report)
        case .f16:
            #if (os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64)
                throw CommandError.usage("--dtype: expected another type on this platform, got f16")
            #else
                try run(BenchInputs<Float16>(problem), problem, report)
            #endif
        }
    }

    private func run<Element>(
        _ inputs: BenchInputs<Element>, _ problem: BenchProblem, _ report: (BenchRow) -> Void
    ) throws {
        for mask in masks {
            let check = BenchCheck(inputs, problem, mask)
            for pass in passes {
                let cases = rows(problem, mask, pass).map { BenchCase($0, inputs, check) }
                for (index, benchCase) in cases.enumerated() {
                    progress.show("checking \(benchCase.name), \(index + 1) of \(cases.count)")
                    benchCase.prepare()
                }
                try machine.measureAgain()
                time(cases)
                try machine.measureAgain()
                progress.clear()
                for benchCase in cases { benchCase.compare(with: cases) }
                for benchCase in cases { report(benchCase.row.against(machine)) }
            }
        }
    }

    /// Every algorithm on every device, on the CPU with every provider.
    private func rows(_ problem: BenchProblem, _ mask: BenchMask, _ pass: AttentionPass) -> [BenchRow] {
        devices.flatMap { device in
            algorithms.flatMap { algorithm in
                (device == .cpu ? providers.map { $0 } : [nil]).map { gemm in
                    BenchRow(
                        shape: problem.shape, type: problem.type, pass: pass, mask: mask, device: device,
                        algorithm: algorithm, gemm: gemm, threads: device == .cpu ? threads : nil,
                        parallel: parallel)
                }
            }
        }
    }

    /// Times the cases in turns, so that a slow spell of the machine falls on all of them: in any order,
    /// because spells may come back, like the turns, with a period.
    private func time<Element>(_ cases: [BenchCase<Element>]) {
        let turn = max(seconds / 8, 0.005)
        var unfinished = cases.filter { $0.row.failure == nil }
        while !unfinished.isEmpty {
            for benchCase in unfinished.shuffled() {
                progress.show("timing \(benchCase.name)")
                benchCase.runFor(turn)
            }
            unfinished.removeAll { isDone($0) }
        }
        for benchCase in cases { benchCase.sortTimes() }
    }

    /// A case has its time, and three runs unless it is one of the slow.
    private func isDone<Element>(_ benchCase: BenchCase<Element>) -> Bool {
        benchCase.row.failure != nil || benchCase.spent >= 3 * seconds
            || (benchCase.spent >= seconds && benchCase.row.times.count >= 3)
    }
}
