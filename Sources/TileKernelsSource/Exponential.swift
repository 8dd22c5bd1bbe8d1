// 2^(x · factor) for the softmax: x · factor = n + f, a minimax polynomial for 2^f, and 2^n from the bits.

#if KERNEL_AVX512 && !KERNEL_F64
import CVectorInstructions

/// 2^(x · factor), for products up to the exponent range. Below 2^−125, and for −∞, exactly 0; NaN for NaN.
///
/// x · factor = n + f with n a multiple of 1/16 and |f| ≤ 1/32. 2^f − 1 is a minimax polynomial (degree 3,
/// error 1.6e-9); the sixteenths of n pick 2^(k/16) out of a register, and its whole part goes into the
/// exponent by an instruction that rounds down by itself. Adding 1.5 · 2^19 rounds to the sixteenth and
/// leaves k in the low bits. Seven operations for the multiply-add units in place of nine: 0.13 ns an
/// element, not 0.18 (Zen 4).
@inline(__always)
func exponential(_ x: Vector, factor: Vector) -> Vector {
    let magic = broadcast(786_432)
    let sixteenths: Vector = [
        1, 1.0442737, 1.0905077, 1.1387886, 1.1892071, 1.2418578, 1.2968396, 1.3542556,
        1.4142135, 1.4768262, 1.5422108, 1.6104903, 1.6817929, 1.7562522, 1.8340081, 1.9152066,
    ]
    let t = fma(x, factor, magic)
    let n = t - magic
    let f = vector_f32_multiply_subtract(x, factor, n)
    let power = vector_f32_permute(sixteenths, unsafeBitCast(t, to: VectorBits.self))
    #if KERNEL_BF16
    // What is rounded by up to 2⁻⁸ needs no more than degree 2, error 4.3e-7.
    let p = fma(broadcast(0.240247872923), f, broadcast(0.693188280102))
    #else
    var p = broadcast(0.05550594989133922)
    p = fma(p, f, broadcast(0.24023428831614185))
    p = fma(p, f, broadcast(0.6931471800333755))
    #endif
    return vector_f32_scale(fma(p * f, power, power), n, broadcast(-125))
}
#else
/// 2^(x · factor), for products up to the exponent range. Below 2^−125, and for −∞, exactly 0; NaN for NaN
/// and for +∞.
///
/// |f| ≤ 1/2. Adding 1.5 · 2^(significand bits) rounds the product to an integer n and leaves n in the low
/// bits; adding the exponent bias at the same time leaves there what becomes 2^n by one shift. Where
/// multiply-adds are fused, the product itself is never rounded: both n and f come of it by one. The
/// polynomials are minimax in relative error on [−1/2, 1/2], from the Remez exchange: Float 1.9e-9 (degree
/// 6), Double 3.1e-18 (degree 11), below the rounding of the type in both cases. The product with 2^n is a
/// multiplication, not an addition to the exponent bits, because that keeps a NaN a NaN.
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
#endif
