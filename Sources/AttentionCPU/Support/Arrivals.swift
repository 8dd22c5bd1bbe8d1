import Synchronization

/// Counts the tasks that have come to the end of their share of a result, so that the last can put the shares
/// together: it sees what the others have written.
struct Arrivals {
    typealias Counter = Atomic<Int>
    private let counters: UnsafeMutablePointer<Counter>
    private let count: Int

    /// - Parameters:
    ///   - counters: `[count]`, one for each result; contents undefined until `reset`.
    init(_ counters: UnsafeMutablePointer<Counter>, count: Int) {
        (self.counters, self.count) = (counters, count)
    }

    /// Before the tasks start: nobody has arrived.
    func reset() {
        for result in 0..<count { (counters + result).initialize(to: Atomic(0)) }
    }

    /// Whether the task that calls is the last of so many that share a result; each calls it once.
    func isLast(at result: Int, of tasks: Int) -> Bool {
        counters[result].add(1, ordering: .acquiringAndReleasing).newValue == tasks
    }
}
