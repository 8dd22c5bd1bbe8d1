// What the kernels over pairs of BF16 need beside the products, which are those of Float with another
// instruction in the register tile.

#if KERNEL_BF16
import TileKernelTable

/// The micro-kernels of this target, for the caller that has made sure that the CPU can run them.
@inline(never)
public func pairKernels() -> PairKernelTable {
    PairKernelTable(
        gemmPacked: gemmPacked, gemmNN: gemmNN, gemmTN: gemmTN, packTransposed: packTransposed,
        exponentiatePairs: exponentiatePairs, pairRows: pairRows, roundPairs: roundPairs,
        allFinite: allFiniteBF16, multiplyAddLoop: multiplyAddLoop)
}

/// The pairs of two vectors, each number rounded to the nearest BF16. Ties go away from zero, which costs half
/// of what the even one would: one number in 65 536 is a tie. No NaN of an operation is so large that it
/// would overflow.
@inline(__always)
private func pairs(_ first: Vector, _ second: Vector) -> Vector {
    let half = VectorBits(repeating: 0x8000)
    let low = (unsafeBitCast(first, to: VectorBits.self) &+ half) &>> VectorBits(repeating: 16)
    let high = (unsafeBitCast(second, to: VectorBits.self) &+ half) & VectorBits(repeating: 0xFFFF_0000)
    return unsafeBitCast(low | high, to: Vector.self)
}

/// 2^(x · factor) as `exponential` has it, by a shorter polynomial: minimax of degree 4, 2.6e-6, where the
/// result is rounded by up to 2⁻⁸ and only its sum goes on in Float.
@inline(__always)
private func shortExponential(_ x: Vector, factor: Vector) -> Vector {
    let magic: Scalar = 12_582_912 + 127
    let t = fma(x, factor, broadcast(magic))
    let f = fma(x, factor, broadcast(magic) - t)
    let bits = unsafeBitCast(t, to: VectorBits.self) &<< VectorBits(repeating: 23)
    var p = broadcast(0.0095701018633)
    p = fma(p, f, broadcast(0.0559178603406))
    p = fma(p, f, broadcast(0.240247448315))
    p = fma(p, f, broadcast(0.693121814743))
    p = fma(p, f, broadcast(0.999999261442))
    let power = unsafeBitCast(bits, to: Vector.self)
    return (p * power).replacing(with: Vector.zero, where: t .< broadcast(magic - 125))
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
                let p0 = shortExponential(load(from) - offset, factor: factor)
                let p1 = shortExponential(load(from + sRow) - offset, factor: factor)
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
            let p = shortExponential(load(from) - offset, factor: factor)
            store(pairs(p, Vector.zero), to)
            total += p
        }
        store(total, scalars(sum) + column)
        column += lanes
    }
}

@inline(never)
func pairRows(
    _ m: Int, _ n: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    let source = src.assumingMemoryBound(to: UInt16.self)
    let result = dst.assumingMemoryBound(to: UInt32.self)
    for j in 0..<m / 2 {
        let (a, b, to) = (source + 2 * j * srcRow, source + (2 * j + 1) * srcRow, result + j * dstRow)
        for c in 0..<n { to[c] = UInt32(a[c]) | UInt32(b[c]) &<< 16 }
    }
    if m % 2 == 1 {
        let (a, to) = (source + (m - 1) * srcRow, result + m / 2 * dstRow)
        for c in 0..<n { to[c] = UInt32(a[c]) }
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
