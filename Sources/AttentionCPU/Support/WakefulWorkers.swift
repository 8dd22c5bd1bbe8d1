import CProcessor
import Dispatch
import Synchronization

/// Dispatch's threads, kept awake for a moment after each call.
///
/// Waking a thread takes 10 to 30 µs, as long as a small problem. So a worker that has nothing left to do
/// looks out for the next call for a while before it goes back to Dispatch.
///
/// 1. A call offers a seat to every worker that it can use, asks Dispatch for as many as are not awake
///    already, and starts by itself at once.
/// 2. A worker that finds a seat free takes it and runs the call's body.
/// 3. When the caller finds nothing left to do, it takes the free seats away and waits for the workers that
///    hold one.
///
/// So nobody waits for a thread that has not started: on a machine with other work to do, where a thread may
/// wait for a core for milliseconds, the caller does by itself what the others would have done.
final class WakefulWorkers: Sendable {
    /// For this process, one for every core but the caller's.
    static let shared = WakefulWorkers(most: max(Machine.processorCount - 1, 0))

    /// How long a worker without a call stays awake, about ten times what it takes to wake it.
    private static let patience = Duration.microseconds(200)

    private struct State {
        /// Calls with free seats, the oldest first.
        var calls: [Call] = []
        /// Workers that are awake without a call.
        var idle = 0
        /// Workers there are, those included that Dispatch has yet to start.
        var count = 0
        /// Workers that Dispatch has yet to start.
        var coming = 0
    }

    private let most: Int
    private let state = Mutex(State())
    /// Free seats of all calls, for a look without the lock.
    private let freeSeats = Atomic(0)

    init(most: Int) { self.most = most }

    /// Runs the body on this thread, and on up to so many threads in all as long as that goes on.
    func run(_ workers: Int, _ body: SharedBody) {
        let call = Call(body, seats: min(workers - 1, most))
        offer(call)
        body.runNext()
        withdraw(call)
        call.waitForWorkers()
    }

    // MARK: The caller

    private func offer(_ call: Call) {
        guard call.seats > 0 else { return }
        let missing = state.withLock { state in
            state.calls.append(call)
            let free = freeSeats.add(call.seats, ordering: .relaxed).newValue
            let missing = max(0, min(free - state.idle - state.coming, most - state.count))
            state.coming += missing
            state.count += missing
            return missing
        }
        for _ in 0..<missing { DispatchQueue.global(qos: .userInitiated).async { self.work() } }
    }

    private func withdraw(_ call: Call) {
        state.withLock { state in
            guard call.seats > 0 else { return }
            state.calls.removeAll { $0 === call }
            freeSeats.subtract(call.seats, ordering: .relaxed)
            call.seats = 0
        }
    }

    // MARK: A worker

    /// What a worker does from its start until it has been idle for too long.
    private func work() {
        state.withLock { state in
            state.coming -= 1
            state.idle += 1
        }
        repeat {
            while let call = takeSeat() {
                call.work()
                state.withLock { $0.idle += 1 }
            }
        } while waitForSeat() || !retire()
    }

    private func takeSeat() -> Call? {
        state.withLock { state in
            guard let call = state.calls.first else { return nil }
            call.takeSeat()
            if call.seats == 0 { state.calls.removeFirst() }
            freeSeats.subtract(1, ordering: .relaxed)
            state.idle -= 1
            return call
        }
    }

    /// Whether a seat was seen free before patience ended.
    private func waitForSeat() -> Bool {
        let end = ContinuousClock.now + Self.patience
        repeat {
            for _ in 0..<32 {
                if freeSeats.load(ordering: .relaxed) > 0 { return true }
                processor_relax()
            }
        } while ContinuousClock.now < end
        return false
    }

    /// Leaves, unless a call counts on this worker by now.
    private func retire() -> Bool {
        state.withLock { state in
            guard state.calls.isEmpty else { return false }
            state.idle -= 1
            state.count -= 1
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
