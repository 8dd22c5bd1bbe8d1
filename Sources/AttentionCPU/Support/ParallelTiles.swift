import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Runs `body` for every task from 0 to `count − 1`, on up to `threads` threads.
///
/// Threads take tasks one by one in ascending order: when a task starts, all before it have started.
/// Algorithms count on that order, to put the longest tasks first and to take turns. What is computed may
/// not depend on which thread takes which task.
///
/// - Parameters:
///   - team: who brings the threads; it may bring fewer.
///   - scratch: makes a worker's own memory, once for each thread that takes part, numbered from 0.
package func parallelTiles<Scratch>(
    _ count: Int, threads: Int, team: ThreadTeam = .dispatch, scratch: (Int) -> Scratch,
    body: (Int, inout Scratch) -> Void
) {
    let workers = min(threads, count)
    guard workers > 1 else {
        guard count > 0 else { return }
        var own = scratch(0)
        for task in 0..<count { body(task, &own) }
        return
    }
    let next = Atomic(0)
    team.run(workers) { worker in
        var own = scratch(worker)
        var task = next.add(1, ordering: .relaxed).oldValue
        while task < count {
            body(task, &own)
            task = next.add(1, ordering: .relaxed).oldValue
        }
    }
}

/// Lets tasks add to shared tiles in a fixed order, so that the sum does not depend on who comes first.
///
/// Each tile has a counter of the turns taken. Safe with `parallelTiles` as long as a task waits only for
/// tasks of lower number, which have all started and of which the lowest never waits.
package struct Turns {
    private let counters: UnsafeMutablePointer<Atomic<Int>>

    /// - Parameters:
    ///   - counters: `[count]`, uninitialised.
    package init(_ counters: UnsafeMutablePointer<Atomic<Int>>, count: Int) {
        self.counters = counters
        for tile in 0..<count { (counters + tile).initialize(to: Atomic(0)) }
    }

    /// Waits until `turn` turns of the tile have been taken.
    package func wait(tile: Int, for turn: Int) {
        var spins = 0
        while counters[tile].load(ordering: .acquiring) != turn {
            spins += 1
            if spins > 1000 { sched_yield() }
        }
    }

    /// Takes the turn that `wait` waited for.
    package func take(tile: Int) { counters[tile].add(1, ordering: .releasing) }
}
