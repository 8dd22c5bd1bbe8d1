// What the kernels over pairs of BF16 need beside the products, which are those of Float with another
// instruction in the register tile.

#if KERNEL_BF16
import CVectorInstructions
import TileKernelTable

/// The micro-kernels of this target, for the caller that has made sure that the CPU can run them.
@inline(never)
public func pairKernels() -> PairKernelTable {
    PairKernelTable(
        gemmPacked: gemmPacked, gemmNN: gemmNN, gemmTN: gemmTN, passing: passingPairs,
        packTransposed: packTransposed,
        exponentiatePairs: exponentiatePairs, probabilityPairs: probabilityPairs,
        scoreGradientPairs: scoreGradientPairs, pairRows: pairRows, roundPairs: roundPairs,
        allFinite: allFiniteBF16, multiplyAddLoop: multiplyAddLoop)
}

/// The pairs of two vectors, each number rounded to the nearest BF16. Ties go away from zero, which costs
/// half of what the even one would: one number in 65 536 is a tie. No NaN of an operation is so large that it
/// would overflow.
@inline(__always)
private func pairs(_ first: Vector, _ second: Vector) -> Vector {
    let half = VectorBits(repeating: 0x8000)
    let low = (unsafeBitCast(first, to: VectorBits.self) &+ half) &>> VectorBits(repeating: 16)
    let high = (unsafeBitCast(second, to: VectorBits.self) &+ half) & VectorBits(repeating: 0xFFFF_0000)
    return unsafeBitCast(low | high, to: Vector.self)
}

@inline(never)
func exponentiatePairs(
    _ m: Int, _ n: Int, _ s: UnsafeMutableRawPointer, _ sRow: Int, _ factor: Double,
    _ offset: UnsafeRawPointer, _ sum: UnsafeMutableRawPointer
) {
    let factor = broadcast(Scalar(factor))
    var column = 0
    while column < n {
        let offset = load(scalars(offset) + column)
        var from = scalars(s) + column
        var to = scalars(s) + column
        var total = Vector.zero
        var r = 0
        while r + 1 < m {
            // Rows are summed in blocks before they join the total: one chain of all m would lose digits.
            let block = min(8, (m - r) / 2)
            var (s0, s1) = (Vector.zero, Vector.zero)
            for _ in 0..<block {
                let p0 = exponential(load(from) - offset, factor: factor)
                let p1 = exponential(load(from + sRow) - offset, factor: factor)
                store(pairs(p0, p1), to)
                s0 += p0
                s1 += p1
                from += 2 * sRow
                to += sRow
            }
            total += s0 + s1
            r += 2 * block
        }
        if r < m {
            let p = exponential(load(from) - offset, factor: factor)
            store(pairs(p, Vector.zero), to)
            total += p
        }
        store(total, scalars(sum) + column)
        column += lanes
    }
}

@inline(never)
func probabilityPairs(
    _ m: Int, _ n: Int, _ s: UnsafeMutableRawPointer, _ sRow: Int, _ factor: Double,
    _ high: UnsafeRawPointer, _ low: UnsafeRawPointer, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    let factor = broadcast(Scalar(factor))
    var r = 0
    while r < m {
        // Of an odd last pair the second row is the first once more, and goes into no pair.
        let isWhole = r + 1 < m
        let second = isWhole ? r + 1 : r
        let (a, b) = (scalars(s) + r * sRow, scalars(s) + second * sRow)
        let to = scalars(dst) + r / 2 * dstRow
        let (h0, l0) = (broadcast(scalars(high)[r]), broadcast(scalars(low)[r]))
        let (h1, l1) = (broadcast(scalars(high)[second]), broadcast(scalars(low)[second]))
        var c = 0
        while c < n {
            let p0 = exponential(load(a + c) - h0 - l0, factor: factor)
            let p1 = exponential(load(b + c) - h1 - l1, factor: factor)
            store(p1, b + c)
            store(p0, a + c)
            store(pairs(p0, isWhole ? p1 : Vector.zero), to + c)
            c += lanes
        }
        r += 2
    }
}

@inline(never)
func scoreGradientPairs(
    _ m: Int, _ n: Int, _ p: UnsafeRawPointer, _ pRow: Int, _ dP: UnsafeRawPointer, _ dPRow: Int,
    _ scale: Double, _ offset: UnsafeRawPointer, _ dst: UnsafeMutableRawPointer, _ dstRow: Int,
    _ rounded: UnsafeMutableRawPointer, _ roundedRow: Int
) {
    let scale = broadcast(Scalar(scale))
    var r = 0
    while r < m {
        let isWhole = r + 1 < m
        let second = isWhole ? r + 1 : r
        let (p0, p1) = (scalars(p) + r * pRow, scalars(p) + second * pRow)
        let (dP0, dP1) = (scalars(dP) + r * dPRow, scalars(dP) + second * dPRow)
        let (o0, o1) = (broadcast(scalars(offset)[r]), broadcast(scalars(offset)[second]))
        let to = scalars(dst) + r / 2 * dstRow
        let (row0, row1) = (rounded + 2 * r * roundedRow, rounded + 2 * second * roundedRow)
        var c = 0
        while c < n {
            let dS0 = load(p0 + c) * (load(dP0 + c) * scale - o0)
            let dS1 = load(p1 + c) * (load(dP1 + c) * scale - o1)
            store(pairs(dS0, isWhole ? dS1 : Vector.zero), to + c)
            vector_f32_store_bf16(dS0, row0 + 2 * c)
            vector_f32_store_bf16(dS1, row1 + 2 * c)
            c += lanes
        }
        r += 2
    }
}

/// The source may come from memory.
@inline(never)
func pairRows(
    _ m: Int, _ n: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    let ahead = halves(src) + rowsAhead(bytesOfRow: 2 * n) * srcRow
    var stream = RowStream(from: ahead, stride: 2 * srcRow, width: 2 * n)
    for j in 0..<m / 2 {
        let (from, to) = (halves(src) + 2 * j * srcRow, scalars(dst) + j * dstRow)
        var c = 0
        while c + lanes <= n {
            stream.advance(4 * lanes)
            store(RowPairs.vector(from + c, srcRow), to + c)
            c += lanes
        }
        if c < n { store(RowPairs.vector(from + c, srcRow, count: n - c), to + c, count: n - c) }
    }
    if m % 2 == 1 {
        let from = halves(src) + (m - 1) * srcRow
        let to = dst.assumingMemoryBound(to: UInt32.self) + m / 2 * dstRow
        for c in 0..<n { to[c] = UInt32(from[c]) }
    }
}

@inline(never)
func roundPairs(
    _ m: Int, _ n: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    var r = 0
    while r < m {
        let a = scalars(src) + r * srcRow
        let to = scalars(dst) + r / 2 * dstRow
        var c = 0
        while c < n {
            let second = r + 1 < m ? load(a + srcRow + c) : Vector.zero
            store(pairs(load(a + c), second), to + c)
            c += lanes
        }
        r += 2
    }
}

@inline(never)
func allFiniteBF16(_ m: Int, _ n: Int, _ a: UnsafeRawPointer, _ aRow: Int) -> Bool {
    var found: UInt16 = 0
    for r in 0..<m {
        let row = a.assumingMemoryBound(to: UInt16.self) + r * aRow
        for c in 0..<n { found |= row[c] & 0x7F80 == 0x7F80 ? 1 : 0 }
    }
    return found == 0
}
#endif
