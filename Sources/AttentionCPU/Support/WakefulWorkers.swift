import CProcessor
import Dispatch
import Synchronization

/// Dispatch's threads, kept awake for a moment after each call.
///
/// Waking a thread takes 10 to 30 µs, as long as a small problem. So a worker that has nothing left to
/// do looks out for the next call for a while before it goes back to Dispatch.
///
/// 1. A call offers a seat to every worker that it can use, asks Dispatch for as many as are not awake
///    already, and starts by itself at once.
/// 2. A worker that finds a seat free takes it and runs the call's body.
/// 3. When the caller finds nothing left to do, it takes the free seats away and waits for the workers
///    that hold one.
///
/// So nobody waits for a thread that has not started: on a machine with other work to do, where a
/// thread may wait for a core for milliseconds, the caller does by itself what the others would have
/// done. And callers and workers together are no more than there are cores: a program that makes a call
/// on each of them has no workers beside.
final class WakefulWorkers: Sendable {
    static let shared = WakefulWorkers(cores: Machine.processorCount)

    /// How long a worker without a call stays awake, about ten times what it takes to wake it.
    private static let patience = Duration.microseconds(200)

    private struct State {
        let cores: Int
        /// Calls with free seats, the oldest first.
        var calls: [Call] = []
        /// Threads that are inside of `run`.
        var callers = 0
        /// Workers in a call, awake without one, and asked of Dispatch but not started.
        var busy = 0
        var idle = 0
        var coming = 0

        /// Seats that may be taken now.
        var openings: Int { max(0, min(calls.reduce(0) { $0 + $1.seats }, cores - callers - busy)) }

        /// Counts workers in, as many as these openings lack.
        mutating func hire(for openings: Int) -> Int {
            let missing = max(0, openings - idle - coming)
            coming += missing
            return missing
        }
    }

    private let state: Mutex<State>
    /// The state's openings, for a look without the lock.
    private let openings = Atomic(0)

    init(cores: Int) { state = Mutex(State(cores: cores)) }

    /// Runs the body on this thread, and on up to so many threads in all as long as that goes on.
    func run(_ workers: Int, _ body: SharedBody) {
        let call = Call(body, seats: workers - 1)
        change { state in
            state.callers += 1
            if call.seats > 0 { state.calls.append(call) }
        }
        body.runNext()
        change { state in
            state.callers -= 1
            state.calls.removeAll { $0 === call }
        }
        call.waitForWorkers()
    }

    /// Changes the state, says what there is to do now, and calls for who is missing.
    @discardableResult
    private func change<Result>(_ body: (inout State) -> Result) -> Result {
        let (result, missing) = state.withLock { state in
            let result = body(&state)
            let openings = state.openings
            self.openings.store(openings, ordering: .relaxed)
            return (result, state.hire(for: openings))
        }
        for _ in 0..<missing { DispatchQueue.global(qos: .userInitiated).async { self.work() } }
        return result
    }

    // MARK: A worker

    /// What a worker does from its start until it has been idle for too long.
    private func work() {
        change { state in
            state.coming -= 1
            state.idle += 1
        }
        repeat {
            while let call = takeSeat() {
                call.work()
                change { state in
                    state.busy -= 1
                    state.idle += 1
                }
            }
        } while waitForOpening() || !retire()
    }

    private func takeSeat() -> Call? {
        change { state in
            guard state.openings > 0, let call = state.calls.first else { return nil }
            call.takeSeat()
            if call.seats == 0 { state.calls.removeFirst() }
            state.idle -= 1
            state.busy += 1
            return call
        }
    }

    /// Whether an opening was seen before patience ended.
    private func waitForOpening() -> Bool {
        let end = ContinuousClock.now + Self.patience
        repeat {
            for _ in 0..<32 {
                if openings.load(ordering: .relaxed) > 0 { return true }
                processor_relax()
            }
        } while ContinuousClock.now < end
        return false
    }

    /// Leaves, unless a call counts on this worker by now.
    private func retire() -> Bool {
        change { state in
            guard state.openings == 0 else { return false }
            state.idle -= 1
            return true
        }
    }
}

/// A call that workers may join.
private final class Call: @unchecked Sendable {
    /// Seats that are free; changed under the lock of the workers alone.
    var seats: Int
    private let body: Unmanaged<SharedBody>
    /// The workers at work, and one for a caller that has not given up looking.
    private let present = Atomic(1)
    private let allLeft = DispatchSemaphore(value: 0)

    /// - Parameters:
    ///   - body: kept by the caller until `waitForWorkers` has returned.
    init(_ body: SharedBody, seats: Int) {
        self.body = .passUnretained(body)
        self.seats = seats
    }

    func takeSeat() {
        seats -= 1
        present.add(1, ordering: .relaxed)
    }

    func work() {
        runBody()
        if present.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { allLeft.signal() }
    }

    /// A function of its own, for the caller's memory may not be held any more when a worker has left.
    @inline(never)
    private func runBody() { body._withUnsafeGuaranteedRef { $0.runNext() } }

    /// Returns when no worker is at work: looks for the length of a short task, then sleeps.
    func waitForWorkers() {
        for _ in 0..<2000 {
            if present.load(ordering: .acquiring) == 1 { return }
            processor_relax()
        }
        if present.subtract(1, ordering: .acquiringAndReleasing).newValue > 0 { allLeft.wait() }
    }
}
