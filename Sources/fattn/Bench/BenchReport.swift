import FlashAttention
import Foundation

/// The results for programs.
struct BenchReport: Encodable {
    let machine: BenchMachine
    let rows: [Row]

    /// A row under the names of its values.
    struct Row: Encodable {
        let values: [(name: String, value: BenchValue)]

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: Key.self)
            for (name, value) in values { try container.encode(value, forKey: Key(stringValue: name)) }
        }
    }

    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    init(machine: BenchMachine, rows: [BenchRow]) {
        self.machine = machine
        self.rows = rows.map { Row(values: $0.against(machine).values) }
    }

    func json() throws -> String { try encodeJSON(self) }

    var csv: String {
        let names = rows.first.map { $0.values.map(\.name) } ?? []
        let lines = rows.map { $0.values.map(\.value.csv).joined(separator: ",") }
        return ([names.joined(separator: ",")] + lines).joined(separator: "\n") + "\n"
    }
}

/// JSON as this program writes it: for programs, and legible.
func encodeJSON(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
}

/// The results for readers.
struct BenchTable {
    private let table: TextTable
    private let showsDevices: Bool

    init(_ shapes: [AttentionShape], _ devices: [AttentionDevice]) {
        showsDevices = devices != [.cpu]
        let shapeWidth = shapes.map(\.argument.count).max() ?? 0
        let ofDevices: [TextTable.Column] =
            showsDevices
            ? [.init("× cpu", 7), .init("to device", 9), .init("to host", 9), .init("call", 9)] : []
        table = TextTable(
            columns: [
                .init("B,H,Hkv,Nq,Nk,D", shapeWidth, .left), .init("type", 4, .left), .init("mask", 6, .left),
                .init("pass", 8, .left), .init("algorithm", 9, .left), .init("gemm", 8, .left),
                .init("Br,Bc", 9), .init("median", 9), .init("min", 9), .init("runs", 5), .init("GFLOP/s", 7),
                .init("of peak", 7), .init("max error", 9), .init("extra", 7), .init("traffic", 7),
                .init("GB/s", 6),
            ] + ofDevices)
    }

    var header: String { table.header }

    func line(_ row: BenchRow) -> String {
        let start = [
            row.shape.argument, row.type.rawValue, row.mask.rawValue, row.pass.rawValue,
            row.algorithm.rawValue, row.gemm?.rawValue ?? row.device.rawValue,
            row.tiles.map { "\($0.queries),\($0.keys)" } ?? "",
        ]
        if let failure = row.failure { return table.row(start + ["FAILED: \(failure)"]) }
        let ofDevices =
            showsDevices
            ? [
                row.speedup.map { fixed($0, 1) } ?? "", row.toDevice.map(duration) ?? "",
                row.toHost.map(duration) ?? "", row.callSeconds.map(duration) ?? "",
            ] : []
        return table.row(
            start + [
                row.median.map(duration) ?? "", row.times.first.map(duration) ?? "", "\(row.times.count)",
                row.gflops.map { fixed($0, 1) } ?? "",
                row.peakFraction.map { fixed($0 * 100, 0) + " %" } ?? "",
                row.maximumError.map(scientific) ?? "", row.extraBytes.map(bytes) ?? "",
                row.trafficBytes.map(bytes) ?? "", row.gigabytesPerSecond.map { fixed($0, 1) } ?? "",
            ] + ofDevices)
    }
}
