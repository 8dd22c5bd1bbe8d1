import AttentionCore
import Synchronization

/// Who brings the threads that work on one call, with one interface for all of them.
package enum ThreadTeam: Sendable {
    case dispatch
    case openMP(OpenMPLibrary)

    /// - Parameters:
    ///   - runtime: nil for Dispatch.
    /// - Throws: `AttentionError.libraryUnavailable` for OpenMP that is asked for and not installed.
    package init(_ runtime: ParallelRuntime?) throws(AttentionError) {
        switch runtime {
        case .dispatch, nil: self = .dispatch
        case .openMP: self = .openMP(try OpenMPLibrary.shared())
        }
    }

    /// Runs the body once on each of up to so many threads, numbered from 0, and returns when all are done.
    /// At least one runs, the caller's; how many more depends on what else they have to do.
    package func run(_ workers: Int, _ body: (Int) -> Void) {
        // The closure is used by many threads but outlives none of them.
        withoutActuallyEscaping(body) { body in
            let shared = SharedBody(body)
            switch self {
            case .dispatch: WakefulWorkers.shared.run(workers, shared)
            case .openMP(let library): library.run(workers, shared)
            }
        }
    }
}

/// A closure on its way to other threads.
package final class SharedBody: @unchecked Sendable {
    private let body: (Int) -> Void
    private let arrived = Atomic(0)

    init(_ body: @escaping (Int) -> Void) { self.body = body }

    /// Runs the body under the next number.
    func runNext() { body(arrived.add(1, ordering: .relaxed).oldValue) }
}
