import AttentionCore
import Testing

@Suite("AttentionOptions")
struct AttentionOptionsTests {
    @Test func defaults_pass() throws { try AttentionOptions().validate() }

    @Test(arguments: [Double.nan, .infinity, -.infinity])
    func scaleThatIsNotFinite_isRefused(scale: Double) {
        #expect(throws: AttentionError.self) { try AttentionOptions(softmaxScale: scale).validate() }
    }

    @Test(arguments: [0.0, -0.5, 1e-300, 3])
    func anyFiniteScale_passes(scale: Double) throws {
        try AttentionOptions(softmaxScale: scale).validate()
    }

    @Test(arguments: [0, -1])
    func fewerThanOneThread_isRefusedByName(threads: Int) {
        #expect(throws: AttentionError.invalidOption("threads must be at least 1, got \(threads)")) {
            try AttentionOptions(threads: threads).validate()
        }
    }

    @Test(arguments: [(0, 1), (1, 0), (-4, 8)])
    func tileBelowOne_isRefused(queries: Int, keys: Int) {
        #expect(throws: AttentionError.self) {
            try AttentionOptions(tileSizes: TileSizes(queries: queries, keys: keys)).validate()
        }
    }

    @Test func everyError_describesItself() {
        let errors: [AttentionError] = [
            .invalidShape("a"), .invalidOption("b"),
            .shapeMismatch(operand: "query", expected: "[1]", got: "[2]"),
            .invalidStrides(operand: "key", expected: "x", got: "y"),
            .bufferTooSmall(operand: "value", expected: 2, got: 1),
            .invalidKeyLengths(expected: "x", got: "y"), .kernelsUnavailable(expected: "x", got: "y"),
            .libraryUnavailable("c"), .outOfMemory(bytes: 4),
        ]
        for error in errors {
            #expect(!error.description.isEmpty && !error.description.contains("\n"))
        }
        #expect(errors[2].description == "query: expected shape [1], got [2]")
    }
}
