import AttentionCPU
import AttentionCore
import Synchronization
import Testing

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The teams that are here: OpenMP may not be installed.
private let teams: [ParallelRuntime] = ParallelRuntime.allCases.filter { (try? ThreadTeam($0)) != nil }

/// Every team keeps the promises of `parallelTiles`.
@Suite("Thread teams", .timeLimit(.minutes(1)))
struct ThreadTeamTests {
    @Test(arguments: teams, [0, 1, 2, 7, 1000])
    func everyTask_runsOnce(runtime: ParallelRuntime, count: Int) throws {
        let team = try ThreadTeam(runtime)
        // Far more threads than cores among them.
        for threads in [1, 2, 3, 64] {
            let runs = Mutex([Int](repeating: 0, count: count))
            parallelTiles(count, threads: threads, team: team, scratch: { $0 }) { task, _ in
                runs.withLock { $0[task] += 1 }
            }
            #expect(runs.withLock { $0.allSatisfy { $0 == 1 } }, "\(threads) threads")
        }
    }

    @Test(arguments: teams)
    func workers_areNumberedApart(runtime: ParallelRuntime) throws {
        let team = try ThreadTeam(runtime)
        for threads in [1, 2, 5, 32] {
            let workers = Mutex<[Int]>([])
            team.run(threads) { worker in workers.withLock { $0.append(worker) } }
            let seen = workers.withLock { $0.sorted() }
            #expect(seen == Array(0..<seen.count) && (1...threads).contains(seen.count))
        }
    }

    @Test(arguments: teams)
    func turns_areTakenInOrder(runtime: ParallelRuntime) throws {
        let team = try ThreadTeam(runtime)
        let counter = UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: 1)
        defer { counter.deallocate() }
        let turns = Turns(counter, count: 1)
        let order = Mutex<[Int]>([])
        parallelTiles(500, threads: 8, team: team, scratch: { $0 }) { task, _ in
            turns.wait(tile: 0, for: task)
            order.withLock { $0.append(task) }
            turns.take(tile: 0)
        }
        #expect(order.withLock { $0 } == Array(0..<500))
    }

    @Test(arguments: teams)
    func callsInsideOfTasks_areDone(runtime: ParallelRuntime) throws {
        let team = try ThreadTeam(runtime)
        let total = Atomic(0)
        parallelTiles(6, threads: 3, team: team, scratch: { $0 }) { _, _ in
            parallelTiles(10, threads: 3, team: team, scratch: { $0 }) { task, _ in
                total.add(task, ordering: .relaxed)
            }
        }
        #expect(total.load(ordering: .relaxed) == 6 * 45)
    }

    /// Many callers share few workers, which come and go: pauses are longer than idle threads stay awake.
    @Test(arguments: teams)
    func callersAtOnce_haveAllTheirTasksDone(runtime: ParallelRuntime) async throws {
        let team = try ThreadTeam(runtime)
        let totals = await withTaskGroup(of: Int.self) { group in
            for caller in 0..<4 {
                group.addTask {
                    let total = Atomic(0)
                    for call in 0..<300 {
                        parallelTiles(5, threads: 3, team: team, scratch: { $0 }) { task, _ in
                            total.add(task, ordering: .relaxed)
                        }
                        if call % 50 == caller { usleep(500) }
                    }
                    return total.load(ordering: .relaxed)
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(totals == Array(repeating: 300 * 10, count: 4))
    }

    @Test func theDefaultIsDispatch() throws {
        let isDispatch = if case .dispatch = try ThreadTeam(nil) { true } else { false }
        #expect(isDispatch)
    }
}
