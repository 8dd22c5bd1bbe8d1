import AttentionCore
import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// How much memory a call of an algorithm needs, and how it is divided.
struct WorkspaceLayout: Sendable {
    let sharedBytes: Int
    let workerBytes: Int
    let workers: Int

    init<Algorithm: CPUAlgorithm>(_ algorithm: Algorithm.Type, _ context: CPUContext) {
        var shared = Arena()
        _ = algorithm.shared(context, &shared)
        var worker = Arena()
        _ = algorithm.scratch(context, &worker)
        sharedBytes = shared.used
        workerBytes = worker.used
        workers = context.threads
    }

    var byteCount: Int {
        let (bytes, overflow) = workers.multipliedReportingOverflow(by: workerBytes)
        return overflow || bytes > Int.max - sharedBytes ? .max : sharedBytes + bytes
    }
}

/// Working memory for the calls of one plan: as many workspaces as calls were ever in flight at once.
final class WorkspacePool: Sendable {
    private let layout: WorkspaceLayout
    private let free = Mutex<[Workspace]>([])

    init(_ layout: WorkspaceLayout) { self.layout = layout }

    /// Runs the body with a workspace that nobody else uses, allocated only if none is free.
    func withMemory(_ body: (WorkMemory) -> Void) throws(AttentionError) {
        let workspace: Workspace
        if let kept = free.withLock({ $0.popLast() }) {
            workspace = kept
        } else {
            workspace = try Workspace(layout)
        }
        body(workspace.memory)
        free.withLock { $0.append(workspace) }
    }
}

/// The memory of one call in flight.
private final class Workspace: @unchecked Sendable {
    private let buffer: AlignedBuffer
    let memory: WorkMemory

    init(_ layout: WorkspaceLayout) throws(AttentionError) {
        // The system may promise memory that it does not have and end the process when it is used.
        guard layout.byteCount <= physicalMemory else { throw .outOfMemory(bytes: layout.byteCount) }
        buffer = try AlignedBuffer(byteCount: layout.byteCount)
        memory = WorkMemory(
            shared: buffer.base, workers: buffer.base + layout.sharedBytes, workerStride: layout.workerBytes)
    }
}

/// Bytes of memory in the machine.
private let physicalMemory: Int = {
    let (pages, size) = (sysconf(Int32(_SC_PHYS_PAGES)), sysconf(Int32(_SC_PAGESIZE)))
    return pages > 0 && size > 0 ? Int(pages) * Int(size) : .max
}()
