// 2^x for the softmax: x = n + f with |f| ≤ 1/2, a minimax polynomial for 2^f, and 2^n from the bits.

/// 2^x, for x up to the exponent range. Below the smallest normal number, and for −∞, exactly 0; NaN for
/// NaN and for +∞.
///
/// Adding 1.5 · 2^(significand bits) rounds x to an integer and leaves n in the low bits; adding the
/// exponent bias at the same time leaves there what becomes 2^n by one shift. The polynomials are minimax
/// in relative error on [−1/2, 1/2], from the Remez exchange: Float 1.9e-9 (degree 6), Double 3.1e-18
/// (degree 11), below the rounding of the type in both cases. The product with 2^n is a multiplication,
/// not an addition to the exponent bits, because that keeps a NaN a NaN.
@inline(__always)
func exp2(_ x: Vector) -> Vector {
    #if KERNEL_F64
    let magic = Vector(repeating: 6_755_399_441_055_744 + 1023)
    let shift = VectorBits(repeating: 52)
    let smallest = Vector(repeating: -1022)
    #else
    let magic = Vector(repeating: 12_582_912 + 127)
    let shift = VectorBits(repeating: 23)
    let smallest = Vector(repeating: -126)
    #endif
    let t = x + magic
    let f = x - (t - magic)
    let power = unsafeBitCast(unsafeBitCast(t, to: VectorBits.self) &<< shift, to: Vector.self)
    #if KERNEL_F64
    var p = broadcast(4.4352809446103361611e-10)
    p = fma(p, f, broadcast(7.0741056262456593708e-9))
    p = fma(p, f, broadcast(1.0178198033328527662e-7))
    p = fma(p, f, broadcast(1.3215433089594629037e-6))
    p = fma(p, f, broadcast(1.52527334899608046e-5))
    p = fma(p, f, broadcast(1.5403530462514613026e-4))
    p = fma(p, f, broadcast(1.3333558146789950323e-3))
    p = fma(p, f, broadcast(9.6181291075883353355e-3))
    p = fma(p, f, broadcast(5.5504108664819921483e-2))
    p = fma(p, f, broadcast(2.4022650695910156205e-1))
    p = fma(p, f, broadcast(6.9314718055994533046e-1))
    p = fma(p, f, broadcast(1))
    #else
    var p = broadcast(1.5345812158740182e-4)
    p = fma(p, f, broadcast(1.3399931209474140e-3))
    p = fma(p, f, broadcast(9.6184889565225916e-3))
    p = fma(p, f, broadcast(5.5503287769976638e-2))
    p = fma(p, f, broadcast(2.4022646890639572e-1))
    p = fma(p, f, broadcast(6.9314720573725268e-1))
    p = fma(p, f, broadcast(1))
    #endif
    return (p * power).replacing(with: Vector.zero, where: x .< smallest)
}
