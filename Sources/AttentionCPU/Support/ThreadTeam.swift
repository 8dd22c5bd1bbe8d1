import AttentionCore
import Dispatch
import Synchronization

/// Who brings the threads that work on one call, with one interface for all of them.
package enum ThreadTeam: Sendable {
    case dispatch
    case openMP(OpenMPLibrary)

    /// - Parameters:
    ///   - runtime: nil for OpenMP where it is installed and the problem small, else Dispatch.
    /// - Throws: `AttentionError.libraryUnavailable` for OpenMP that is asked for and not installed.
    package init(_ runtime: ParallelRuntime?, for shape: AttentionShape) throws(AttentionError) {
        switch runtime {
        case .dispatch: self = .dispatch
        case .openMP: self = .openMP(try OpenMPLibrary.shared())
        case nil:
            if Self.isSmall(shape), let library = try? OpenMPLibrary.shared() {
                self = .openMP(library)
            } else {
                self = .dispatch
            }
        }
    }

    /// Whether a call is over so soon that waking a thread counts: below 4e8 FLOPs forward, 2 ms on two
    /// cores.
    ///
    /// Two cores of a Zen 4, 2026-11-21, medians, Dispatch against OpenMP (`fattn bench --parallel`):
    /// 1,1,64,64 forward 24 and 11 µs, 1,4,128,64 121 and 92, 4,12,128,32 644 and 592; 1,8,512,64, at 5e8,
    /// 2.66 and 2.73 ms.
    private static func isSmall(_ shape: AttentionShape) -> Bool {
        let rows = Double(shape.batch) * Double(shape.heads) * Double(shape.queryLength)
        return 2 * rows * Double(shape.keyLength) * Double(shape.headSize + shape.valueHeadSize) < 4e8
    }

    /// Runs the body once on each of up to so many threads, numbered from 0, and returns when all are done.
    /// At least one runs, the caller's; how many more depends on what else they have to do.
    package func run(_ workers: Int, _ body: (Int) -> Void) {
        // The closure is used by many threads but outlives none of them.
        withoutActuallyEscaping(body) { body in
            let shared = SharedBody(body)
            switch self {
            case .dispatch: DispatchQueue.concurrentPerform(iterations: workers) { shared.body($0) }
            case .openMP(let library): library.run(workers, shared)
            }
        }
    }
}

/// A closure on its way to other threads.
package final class SharedBody: @unchecked Sendable {
    let body: (Int) -> Void
    private let arrived = Atomic(0)

    init(_ body: @escaping (Int) -> Void) { self.body = body }

    /// Runs the body under the next number.
    func runNext() { body(arrived.add(1, ordering: .relaxed).oldValue) }
}
