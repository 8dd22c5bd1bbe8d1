import Foundation
import Testing

/// `fattn tune` on problems so small that a sweep takes no time.
@Suite struct TuneTests {
    private func report(_ arguments: String...) throws -> (text: String, rows: [[String: Any]]) {
        let tool = try CommandLineTool()
        let outcome = try tool.run(["tune", "--seconds", "0.002", "--json", "tune.json"] + arguments)
        #expect(outcome.code == 0 && outcome.error.isEmpty, "\(outcome)")
        let data = try Data(contentsOf: URL(fileURLWithPath: tool.path("tune.json")))
        let report = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        #expect(report["machine"] is [String: Any])
        return (outcome.output, try #require(report["rows"] as? [[String: Any]]))
    }

    /// Br and Bc of a row or a candidate.
    private func sizes(_ row: Any?) -> [Int] {
        let row = row as? [String: Any] ?? [:]
        return [row["Br"] as? Int ?? 0, row["Bc"] as? Int ?? 0]
    }

    @Test func everyProblem_hasItsChoiceAndTheBest() throws {
        let (text, rows) = try report(
            "--shape", "1,2,1,40,50,8", "--shape", "1,1,1,33,7,16,24", "--dtype", "f32,bf16")
        #expect(rows.count == 2 * 2 * 2 * 2)
        #expect(text.components(separatedBy: "% off the best").count == rows.count + 1)
        for row in rows {
            let excess = try #require(row["excess"] as? Double)
            #expect(excess >= 0 && row["failure"] is NSNull)
            let tried = try #require(row["candidates"] as? [[String: Any]])
            for side in ["choice", "best"] {
                let found = try #require(row[side] as? [String: Any])
                for name in ["dtype", "pass", "mask", "threads", "Br", "Bc", "min_s", "peak_fraction"] {
                    #expect(found[name] != nil && !(found[name] is NSNull), "\(side) \(name)")
                }
                #expect(tried.contains { sizes($0) == sizes(found) }, "\(side)")
            }
            // What is larger than the problem is not tried twice.
            #expect(Set(tried.dropFirst().map(sizes)).count == tried.count - 1)
            #expect(tried.dropFirst().allSatisfy { sizes($0)[0] <= 80 && sizes($0)[1] <= 50 })
            for size in tried { #expect(size["min_s"] is Double && (size["runs"] as? Int ?? 0) > 0) }
        }
    }

    @Test func sizesThatAreAskedFor_areTriedBesideTheChoice() throws {
        let (_, rows) = try report(
            "--shape", "1,1,1,40,40,8", "--mask", "causal", "--pass", "forward", "--algorithm", "fa1",
            "--block-size", "3,5", "--block-size", "16,8", "--threads", "1")
        let row = try #require(rows.first)
        let tried = try #require(row["candidates"] as? [[String: Any]])
        #expect(rows.count == 1)
        #expect(tried.dropFirst().map(sizes) == [[3, 5], [16, 8]])
    }
}
