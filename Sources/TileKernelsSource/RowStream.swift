import CVectorInstructions

/// Walks through the rows of the operand that comes next while a product runs, and asks for them line by
/// line.
///
/// In the order of addresses and a little at a time, because memory delivers best what is asked for in that
/// order, and a processor forgets what it is asked for all at once. One operand ahead, because a product that
/// works right behind what it asks for waits for it whenever the memory is late: a trial of both products
/// with 16 rows, D 128, 2 cores of a Zen 4, gave 0.72 of the peak asking 16 kB ahead in the same operand and
/// 0.88 asking for the next.
struct RowStream {
    private var row: UnsafeRawPointer
    /// Bytes.
    private let stride, width: Int
    private var column = 0, owed = 0

    /// - Parameters:
    ///   - start: the first row to be asked for; rows are `stride` bytes apart and `width` bytes long.
    @inline(__always)
    init(from start: UnsafeRawPointer, stride: Int, width: Int) {
        (row, self.stride) = (start, stride)
        // Rows without a gap are one.
        self.width = stride == width ? .max : width
    }

    /// Asks for so many more bytes.
    @inline(__always)
    mutating func advance(_ bytes: Int) {
        owed += bytes
        while owed >= 64 {
            prefetch_line(row + column)
            owed -= 64
            column += 64
            if column >= width {
                row += stride
                column = 0
            }
        }
    }
}

/// Rows that a copy from memory should ask ahead: 16 kB.
@inline(__always)
func rowsAhead(bytesOfRow: Int) -> Int { 16384 / max(bytesOfRow, 64) + 1 }
