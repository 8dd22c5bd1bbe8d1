import ArgumentParser
import Foundation

/// The command line. Its contract: one line on standard error and a fixed exit code for whatever goes wrong.
@main
struct Fattn: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fattn",
        abstract: "Exact attention, forward and backward: run it on a file, time it, check it.",
        discussion: """
            Exit codes: 0 done; 1 a check failed; 64 wrong usage; 65 the data is wrong; 69 the device or \
            library asked for is not there; 74 a file cannot be read or written.
            """,
        subcommands: [
            RunCommand.self, BenchCommand.self, TuneCommand.self, VerifyCommand.self, InfoCommand.self,
        ])

    func run() throws {
        throw CommandError.usage(
            "expected a subcommand, run, bench, tune, verify or info, got none; see fattn --help")
    }

    static func main() {
        // A write beyond the file size limit must come back as an error, not end the process half way.
        signal(SIGXFSZ, SIG_IGN)
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            Foundation.exit(report(error))
        }
    }

    /// Prints what an error has to say and returns the exit code.
    private static func report(_ error: any Error) -> Int32 {
        // Help is an error to the parser.
        if CommandError(error) == nil, exitCode(for: error) == .success {
            print(fullMessage(for: error))
            return 0
        }
        let failure = CommandError(error) ?? .usage(message(for: error))
        let line = failure.message.split(whereSeparator: \.isNewline)
            .map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }.joined(separator: " ")
        FileHandle.standardError.write(Data("fattn: error: \(line)\n".utf8))
        return failure.code.rawValue
    }
}
