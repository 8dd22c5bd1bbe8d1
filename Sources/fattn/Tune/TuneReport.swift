import FlashAttention

/// What a sweep found.
struct TuneResult {
    /// With the sizes that the library chooses.
    let choice: BenchRow
    /// Of the others, those that came to the end and had as many turns as the choice.
    let finalists: [BenchRow]
    let others: [BenchRow]

    /// The fastest of those that came to the end.
    var best: BenchRow {
        finalists.reduce(choice) {
            ($1.times.first ?? .infinity) < ($0.times.first ?? .infinity) ? $1 : $0
        }
    }

    /// How much longer the choice takes than the best: 0.05 for 5 %.
    var excess: Double? {
        guard let chosen = choice.times.first, let least = best.times.first, least > 0 else { return nil }
        return chosen / least - 1
    }

    /// What was wrong with the first size that failed.
    var failure: String? {
        ([choice] + others).first { $0.failure != nil }.map { row in
            "\(row.tiles.map(text) ?? "") \(row.failure ?? "")"
        }
    }
}

private func text(_ sizes: TileSizes) -> String { "\(sizes.queries),\(sizes.keys)" }

/// The results for programs.
struct TuneReport: Encodable {
    let machine: BenchMachine
    let rows: [Row]

    /// A problem: the bench's row of the choice, then what the sweep adds.
    struct Row: Encodable {
        let choice: BenchReport.Row
        let best: BenchReport.Row
        let excess: Double?
        let candidates: [Candidate]
        let failure: String?

        private enum Key: String, CodingKey { case choice, best, excess, candidates, failure }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: Key.self)
            try container.encode(choice, forKey: .choice)
            try container.encode(best, forKey: .best)
            // Null, not left out, where there is none.
            try container.encode(excess, forKey: .excess)
            try container.encode(candidates, forKey: .candidates)
            try container.encode(failure, forKey: .failure)
        }
    }

    /// A size that was tried. Those that were out early have few runs.
    struct Candidate: Encodable {
        let Br, Bc, runs: Int
        let min_s: Double?

        init(_ row: BenchRow) {
            (Br, Bc) = (row.tiles?.queries ?? 0, row.tiles?.keys ?? 0)
            runs = row.times.count
            min_s = row.times.first
        }
    }

    init(machine: BenchMachine, rows: [TuneResult]) {
        self.machine = machine
        self.rows = rows.map { result in
            Row(
                choice: .init(values: result.choice.against(machine).values),
                best: .init(values: result.best.against(machine).values), excess: result.excess,
                candidates: ([result.choice] + result.others).map(Candidate.init), failure: result.failure)
        }
    }
}

/// The results for readers.
struct TuneTable {
    private let table: TextTable

    init(_ shapes: [AttentionShape]) {
        table = TextTable(columns: [
            .init("B,H,Hkv,Nq,Nk,D", shapes.map(\.argument.count).max() ?? 0, .left), .init("type", 4, .left),
            .init("mask", 6, .left), .init("pass", 8, .left), .init("algorithm", 9, .left),
            .init("choice", 8), .init("min", 9), .init("of peak", 7), .init("best", 8), .init("min", 9),
            .init("of peak", 7), .init("tried", 5), .init("", 0, .left),
        ])
    }

    var header: String { table.header }

    func line(_ result: TuneResult) -> String {
        let (choice, best) = (result.choice, result.best)
        let start = [
            choice.shape.argument, choice.type.rawValue, choice.mask.rawValue, choice.pass.rawValue,
            choice.algorithm.rawValue,
        ]
        if let failure = result.failure { return table.row(start + ["FAILED: \(failure)"]) }
        return table.row(
            start + cells(choice) + cells(best) + [
                "\(result.others.count + 1)",
                result.excess.map { "choice is \(fixed($0 * 100, 1)) % off the best" } ?? "",
            ])
    }

    private func cells(_ row: BenchRow) -> [String] {
        let share = row.times.first.flatMap { time in row.peak.map { row.flops / time / 1e9 / $0 } }
        return [
            row.tiles.map(text) ?? "", row.times.first.map(duration) ?? "",
            share.map { fixed($0 * 100, 0) + " %" } ?? "",
        ]
    }
}
