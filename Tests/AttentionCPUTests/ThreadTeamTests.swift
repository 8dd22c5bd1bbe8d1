import AttentionCPU
import AttentionCore
import Synchronization
import Testing

/// The teams that are here: OpenMP may not be installed.
private let teams: [ParallelRuntime] = ParallelRuntime.allCases.filter {
    (try? ThreadTeam($0, for: shape)) != nil
}

private let shape = AttentionShape(batch: 1, heads: 1, queryLength: 64, headSize: 64)

/// Every team keeps the promises of `parallelTiles`.
@Suite("Thread teams", .timeLimit(.minutes(1)))
struct ThreadTeamTests {
    @Test(arguments: teams, [0, 1, 2, 7, 1000])
    func everyTask_runsOnce(runtime: ParallelRuntime, count: Int) throws {
        let team = try ThreadTeam(runtime, for: shape)
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
        let team = try ThreadTeam(runtime, for: shape)
        for threads in [2, 5, 32] {
            let workers = Mutex<[Int]>([])
            team.run(threads) { worker in workers.withLock { $0.append(worker) } }
            let seen = workers.withLock { $0.sorted() }
            #expect(seen == Array(0..<seen.count) && (1...threads).contains(seen.count))
        }
    }

    @Test(arguments: teams)
    func turns_areTakenInOrder(runtime: ParallelRuntime) throws {
        let team = try ThreadTeam(runtime, for: shape)
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
        let team = try ThreadTeam(runtime, for: shape)
        let total = Atomic(0)
        parallelTiles(6, threads: 3, team: team, scratch: { $0 }) { _, _ in
            parallelTiles(10, threads: 3, team: team, scratch: { $0 }) { task, _ in
                total.add(task, ordering: .relaxed)
            }
        }
        #expect(total.load(ordering: .relaxed) == 6 * 45)
    }

    @Test func smallProblems_haveOpenMPWhereItIs_andLargeOnesDispatch() throws {
        let large = AttentionShape(batch: 1, heads: 8, queryLength: 2048, headSize: 64)
        guard case .dispatch = try ThreadTeam(nil, for: large) else {
            Issue.record("a large problem does not have Dispatch")
            return
        }
        let isOpenMP = if case .openMP = try ThreadTeam(nil, for: shape) { true } else { false }
        #expect(isOpenMP == teams.contains(.openMP))
    }
}
