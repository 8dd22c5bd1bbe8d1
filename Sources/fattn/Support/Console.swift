import Foundation

/// Where long work has got to: one line on standard error that overwrites itself, on a terminal only.
struct Progress {
    private let isTerminal = isatty(STDERR_FILENO) == 1

    func show(_ text: String) {
        if isTerminal { write("\r\u{1B}[K" + text.prefix(100)) }
    }

    func clear() {
        if isTerminal { write("\r\u{1B}[K") }
    }

    private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}

/// Prints a line now, also into a pipe.
func say(_ line: String) {
    print(line)
    fflush(nil)
}

/// Columns of fixed width, so that rows can be printed as they come.
struct TextTable {
    enum Alignment { case left, right }

    struct Column {
        let title: String
        let width: Int
        let alignment: Alignment

        init(_ title: String, _ width: Int, _ alignment: Alignment = .right) {
            self.title = title
            self.width = max(width, title.count)
            self.alignment = alignment
        }
    }

    let columns: [Column]

    var header: String { row(columns.map(\.title)) }

    /// One line; a cell wider than its column pushes the rest aside rather than being cut.
    func row(_ cells: [String]) -> String {
        let padded = zip(cells, columns).map { cell, column in
            let space = String(repeating: " ", count: max(column.width - cell.count, 0))
            return column.alignment == .left ? cell + space : space + cell
        }
        var line = padded.joined(separator: "  ")
        while line.last == " " { line.removeLast() }
        return line
    }
}

/// A number with so many digits after the point.
func fixed(_ x: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", x) }

/// A number in scientific notation with two digits.
func scientific(_ x: Double) -> String { String(format: "%.1e", x) }

/// A count of bytes in the unit that suits it.
func bytes(_ count: Int) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"]
    var (value, unit) = (Double(count), 0)
    while value >= 999.5, unit + 1 < units.count { (value, unit) = (value / 1000, unit + 1) }
    return unit == 0 ? "\(count) B" : "\(fixed(value, value < 9.95 ? 1 : 0)) \(units[unit])"
}

/// Seconds in the unit that suits them.
func duration(_ seconds: Double) -> String {
    switch seconds {
    case ..<1e-3: "\(fixed(seconds * 1e6, 1)) µs"
    case ..<1: "\(fixed(seconds * 1e3, 2)) ms"
    default: "\(fixed(seconds, 3)) s"
    }
}
