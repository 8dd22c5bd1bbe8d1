import FlashAttention

/// One case of the benchmark: what it was, and how it went.
struct BenchRow {
    let shape: AttentionShape
    let type: BenchType
    let pass: AttentionPass
    let mask: BenchMask
    let device: AttentionDevice
    let algorithm: AttentionAlgorithm
    /// Who multiplies the blocks, on how many threads and who brings them: on the CPU alone.
    let gemm: GEMMProvider?
    var threads: Int?
    let parallel: ParallelRuntime?
    /// Those asked for, then those in use.
    var tiles: TileSizes?
    /// What was wrong; a case with a failure has no times.
    var failure: String?
    /// Sorted.
    var times: [Double] = []
    var flops: Double = 0
    var peak: Double?
    var maximumError: Double?
    var rmse: Double?
    var extraBytes: Int?
    var trafficBytes: Int?
    /// Of a device with memory of its own: seconds to copy the operands there and the results back, both
    /// from and to page-locked memory. They are no part of the times.
    var toDevice, toHost: Double?
    /// Seconds on the program's clock until a call returns, and until it is done.
    var callSeconds, callAndWaitSeconds: Double?
    /// The CPU's time for the same case over this one.
    var speedup: Double?

    var median: Double? {
        guard !times.isEmpty else { return nil }
        let middle = times.count / 2
        return times.count % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2
    }

    var gflops: Double? { median.map { flops / $0 / 1e9 } }

    /// What the algorithm moves by its plan, by time. For a problem with few queries that is the reading of K
    /// and V, and to be compared with the machine's memory bandwidth.
    var gigabytesPerSecond: Double? {
        guard let median, let trafficBytes else { return nil }
        return Double(trafficBytes) / median / 1e9
    }

    /// The row with the machine's present ceiling as its own.
    func against(_ machine: BenchMachine) -> BenchRow {
        var row = self
        row.peak = machine.peak(type, device)
        return row
    }

    var peakFraction: Double? {
        guard let gflops, let peak, peak > 0 else { return nil }
        return gflops / peak
    }
}

/// A value of a row, with its name in JSON and CSV.
enum BenchValue: Encodable {
    case text(String?)
    case integer(Int?)
    case number(Double?)

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .text(let value?): try container.encode(value)
        case .integer(let value?): try container.encode(value)
        // JSON has no infinities and no NaN.
        case .number(let value?) where value.isFinite: try container.encode(value)
        default: try container.encodeNil()
        }
    }

    var csv: String {
        switch self {
        case .text(let value?):
            value.contains(where: { $0 == "," || $0 == "\"" || $0.isNewline })
                ? "\"" + value.replacing("\"", with: "\"\"") + "\"" : value
        case .integer(let value?): "\(value)"
        case .number(let value?) where value.isFinite: "\(value)"
        default: ""
        }
    }
}

extension BenchRow {
    /// The columns of the contract, in its order, then ours.
    var values: [(name: String, value: BenchValue)] {
        [
            ("device", .text(device.rawValue)), ("algorithm", .text(algorithm.rawValue)),
            ("gemm", .text(gemm?.rawValue)),
            ("dtype", .text(type.rawValue)), ("pass", .text(pass.rawValue)), ("mask", .text(mask.rawValue)),
            ("B", .integer(shape.batch)), ("H", .integer(shape.heads)),
            ("Hkv", .integer(shape.keyValueHeads)),
            ("Nq", .integer(shape.queryLength)), ("Nk", .integer(shape.keyLength)),
            ("D", .integer(shape.headSize)), ("Dv", .integer(shape.valueHeadSize)),
            ("threads", .integer(threads)), ("Br", .integer(tiles?.queries)), ("Bc", .integer(tiles?.keys)),
            ("median_s", .number(median)), ("min_s", .number(times.first)), ("runs", .integer(times.count)),
            ("gflops", .number(gflops)), ("peak_fraction", .number(peakFraction)),
            ("max_abs_error", .number(maximumError)), ("rmse", .number(rmse)),
            ("extra_bytes", .integer(extraBytes)), ("traffic_bytes", .integer(trafficBytes)),
            ("gbps", .number(gigabytesPerSecond)),
            ("parallel", .text(device == .cpu ? (parallel ?? .dispatch).rawValue : nil)),
            ("failure", .text(failure)),
            ("host_to_device_s", .number(toDevice)), ("device_to_host_s", .number(toHost)),
            ("call_s", .number(callSeconds)), ("call_and_wait_s", .number(callAndWaitSeconds)),
            ("speedup_vs_cpu", .number(speedup)),
        ]
    }
}
