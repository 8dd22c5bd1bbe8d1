// e^x for the softmax: x = n ln 2 + f with |f| ≤ ln 2 / 2, a minimax polynomial for e^f, and 2^n from the bits.

/// e^x, for x up to the exponent range. Below the smallest normal number, and for −∞, exactly 0; NaN for
/// NaN and for +∞.
///
/// Adding 1.5 · 2^(significand bits) to x · log2 e rounds it to an integer n and leaves n in the low bits;
/// adding the exponent bias at the same time leaves there what becomes 2^n by one shift. f takes ln 2 in two
/// parts, of which the first has so few digits that n times it is exact (Cody and Waite, "Software Manual
/// for the Elementary Functions"). The polynomials are minimax in relative error, from the Remez exchange:
/// Float 1.9e-9 (degree 6), Double 3.1e-18 (degree 11), below the rounding of the type in both cases. The
/// product with 2^n is a multiplication, not an addition to the exponent bits, because that keeps a NaN a
/// NaN.
@inline(__always)
func exponential(_ x: Vector) -> Vector {
    #if KERNEL_F64
    let magic = broadcast(6_755_399_441_055_744 + 1023)
    let shift = VectorBits(repeating: 52)
    let smallest = broadcast(-708.39641853226410622)
    let ln2High = broadcast(6.93147180369123816490e-01)
    let ln2Low = broadcast(1.90821492927058770002e-10)
    #else
    let magic = broadcast(12_582_912 + 127)
    let shift = VectorBits(repeating: 23)
    let smallest = broadcast(-87.3365447505)
    let ln2High = broadcast(0.693359375)
    let ln2Low = broadcast(-2.12194440054690583e-4)
    #endif
    let t = fma(x, broadcast(1.44269504088896340736), magic)
    let n = t - magic
    let f = fma(n, -ln2Low, fma(n, -ln2High, x))
    let power = unsafeBitCast(unsafeBitCast(t, to: VectorBits.self) &<< shift, to: Vector.self)
    #if KERNEL_F64
    var p = broadcast(2.4994298684329888984e-8)
    p = fma(p, f, broadcast(2.7632308174720847052e-7))
    p = fma(p, f, broadcast(2.7557622635194230396e-6))
    p = fma(p, f, broadcast(0.000024801486481428435029))
    p = fma(p, f, broadcast(0.00019841269432453498578))
    p = fma(p, f, broadcast(0.001388888895126105843))
    p = fma(p, f, broadcast(0.0083333333335594424886))
    p = fma(p, f, broadcast(0.041666666666492629587))
    p = fma(p, f, broadcast(0.16666666666666168186))
    p = fma(p, f, broadcast(0.50000000000000177031))
    p = fma(p, f, broadcast(1.0000000000000000304))
    p = fma(p, f, broadcast(1))
    #else
    var p = broadcast(0.00138368347480512828)
    p = fma(p, f, broadcast(0.0083748240430173627404))
    p = fma(p, f, broadcast(0.041668226204878639515))
    p = fma(p, f, broadcast(0.16666420072253814046))
    p = fma(p, f, broadcast(0.4999999207504575822))
    p = fma(p, f, broadcast(1.0000000363446835951))
    p = fma(p, f, broadcast(1))
    #endif
    return (p * power).replacing(with: Vector.zero, where: x .< smallest)
}
