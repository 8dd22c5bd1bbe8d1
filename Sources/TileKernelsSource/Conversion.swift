// Blocks of 16-bit numbers to Float and back. Plain loops over the bits, which the compiler's vectoriser
// turns into a few instructions a vector.

#if !KERNEL_F64 && !KERNEL_BF16
import CVectorInstructions
import TileKernelTable

/// F16 of this instruction set.
@inline(never)
public func float16Conversion() -> ElementConversion {
    ElementConversion(widen: widenF16, round: roundF16, passing: passingF16)
}

/// BF16 of this instruction set.
@inline(never)
public func bfloat16Conversion() -> ElementConversion {
    ElementConversion(widen: widenBF16, round: roundBF16, passing: passingBF16)
}

/// A widened operand may come from memory.
@inline(__always)
private func askAhead(_ row: UnsafePointer<UInt16>, _ stride: Int, _ n: Int) {
    let ahead = row + rowsAhead(bytesOfRow: 2 * n) * stride
    var c = 0
    while c < n {
        prefetch_line(ahead + c)
        c += 32
    }
}

@inline(never)
func widenBF16(
    _ m: Int, _ n: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    for r in 0..<m {
        let (from, to) = (halves(src) + r * srcRow, scalars(dst) + r * dstRow)
        askAhead(from, srcRow, n)
        for c in 0..<n { to[c] = Float(bitPattern: UInt32(from[c]) &<< 16) }
    }
}

@inline(never)
func roundBF16(
    _ m: Int, _ n: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    for r in 0..<m {
        let (from, to) = (scalars(src) + r * srcRow, halves(dst) + r * dstRow)
        for c in 0..<n {
            let bits = from[c].bitPattern
            // Half a unit of the last place, less one where the place is even, so that a tie goes there.
            let rounded = (bits &+ 0x7FFF &+ (bits &>> 16 & 1)) &>> 16
            let quiet = bits &>> 16 | 0x40
            to[c] = UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? quiet : rounded)
        }
    }
}

#if KERNEL_GENERIC && arch(x86_64)

// Baseline x86-64 has no instruction for F16.

@inline(never)
func widenF16(
    _ m: Int, _ n: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    for r in 0..<m {
        let (from, to) = (halves(src) + r * srcRow, scalars(dst) + r * dstRow)
        askAhead(from, srcRow, n)
        for c in 0..<n {
            let bits = UInt32(from[c])
            // The exponent and significand moved to where Float has them read as 2⁻¹¹² of the number.
            let magnitude = Float(bitPattern: (bits & 0x7FFF) &<< 13) * 0x1p112
            let special: UInt32 = bits & 0x7C00 == 0x7C00 ? 0x7F80_0000 : 0
            to[c] = Float(bitPattern: magnitude.bitPattern | special | (bits & 0x8000) &<< 16)
        }
    }
}

@inline(never)
func roundF16(
    _ m: Int, _ n: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    for r in 0..<m {
        let (from, to) = (scalars(src) + r * srcRow, halves(dst) + r * dstRow)
        for c in 0..<n {
            let sign = from[c].bitPattern &>> 16 & 0x8000
            let bits = from[c].bitPattern & 0x7FFF_FFFF
            // A normal result: the exponent's bias changed, and rounded as for BF16, at bit 13.
            let normal = (bits &+ 0xC800_0FFF &+ (bits &>> 13 & 1)) &>> 13
            // A subnormal one: adding 1/2 lets the processor round at 2⁻²⁴, the place of the last bit.
            let subnormal = (Float(bitPattern: bits) + 0.5).bitPattern &- 0x3F00_0000
            let finite = bits < 0x3880_0000 ? subnormal : normal
            let infinite: UInt32 = bits > 0x7F80_0000 ? 0x7E00 | bits &>> 13 & 0x3FF : 0x7C00
            to[c] = UInt16(truncatingIfNeeded: sign | (bits >= 0x477F_F000 ? infinite : finite))
        }
    }
}

#else

@inline(never)
func widenF16(
    _ m: Int, _ n: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    for r in 0..<m {
        let from = (src + 2 * r * srcRow).assumingMemoryBound(to: Float16.self)
        let to = scalars(dst) + r * dstRow
        askAhead(halves(src) + r * srcRow, srcRow, n)
        for c in 0..<n { to[c] = Float(from[c]) }
    }
}

@inline(never)
func roundF16(
    _ m: Int, _ n: Int, _ src: UnsafeRawPointer, _ srcRow: Int, _ dst: UnsafeMutableRawPointer, _ dstRow: Int
) {
    for r in 0..<m {
        let from = scalars(src) + r * srcRow
        let to = (dst + 2 * r * dstRow).assumingMemoryBound(to: Float16.self)
        for c in 0..<n { to[c] = Float16(from[c]) }
    }
}

#endif
#endif
