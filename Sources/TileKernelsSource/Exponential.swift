// 2^(x · factor) for the softmax: x · factor = n + f with |f| ≤ 1/2, a minimax polynomial for 2^f, and 2^n
// from the bits.

/// 2^(x · factor), for products up to the exponent range. Below 2^−125, and for −∞, exactly 0; NaN for NaN
/// and for +∞.
///
/// Adding 1.5 · 2^(significand bits) rounds the product to an integer n and leaves n in the low bits; adding
/// the exponent bias at the same time leaves there what becomes 2^n by one shift. Where multiply-adds are
/// fused, the product itself is never rounded: both n and f come of it by one. The polynomials are minimax in
/// relative error on [−1/2, 1/2], from the Remez exchange: Float 1.9e-9 (degree 6), Double 3.1e-18 (degree
/// 11), below the rounding of the type in both cases. The product with 2^n is a multiplication, not an
/// addition to the exponent bits, because that keeps a NaN a NaN.
@inline(__always)
func exponential(_ x: Vector, factor: Vector) -> Vector {
    #if KERNEL_F64
    let magic: Scalar = 6_755_399_441_055_744 + 1023
    let shift = VectorBits(repeating: 52)
    let smallest: Scalar = -1021
    #else
    let magic: Scalar = 12_582_912 + 127
    let shift = VectorBits(repeating: 23)
    let smallest: Scalar = -125
    #endif
    let t = fma(x, factor, broadcast(magic))
    let f = fma(x, factor, broadcast(magic) - t)
    let power = unsafeBitCast(unsafeBitCast(t, to: VectorBits.self) &<< shift, to: Vector.self)
    #if KERNEL_F64
    var p = broadcast(4.4352809446103361611e-10)
    p = fma(p, f, broadcast(7.0741056262456593708e-9))
    p = fma(p, f, broadcast(1.0178198033328527662e-7))
    p = fma(p, f, broadcast(1.3215433089594629037e-6))
    p = fma(p, f, broadcast(0.0000152527334899608046))
    p = fma(p, f, broadcast(0.00015403530462514613026))
    p = fma(p, f, broadcast(0.0013333558146789950323))
    p = fma(p, f, broadcast(0.0096181291075883350833))
    p = fma(p, f, broadcast(0.055504108664819921483))
    p = fma(p, f, broadcast(0.24022650695910156205))
    p = fma(p, f, broadcast(0.69314718055994533046))
    p = fma(p, f, broadcast(1))
    #else
    var p = broadcast(0.00015345812158740182477)
    p = fma(p, f, broadcast(0.0013399931209474140493))
    p = fma(p, f, broadcast(0.0096184889565227915705))
    p = fma(p, f, broadcast(0.055503287769976637639))
    p = fma(p, f, broadcast(0.24022646890639572134))
    p = fma(p, f, broadcast(0.69314720573725267536))
    p = fma(p, f, broadcast(1))
    #endif
    return (p * power).replacing(with: Vector.zero, where: t .< broadcast(magic + smallest))
}
