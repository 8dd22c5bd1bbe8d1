// The vector type of this kernel target, and the spellings of vector operations that the compiler turns
// into the one instruction meant. Measured on Swift 6.3: `pointwiseMax` and `.max()` are scalar loops,
// and a conversion from floating point to integer is hundreds of instructions.

import CVectorInstructions

#if KERNEL_F64
typealias Scalar = Double
#if KERNEL_AVX512
typealias Vector = SIMD8<Double>
typealias VectorBits = SIMD8<UInt64>
#elseif KERNEL_AVX2
typealias Vector = SIMD4<Double>
typealias VectorBits = SIMD4<UInt64>
#else
typealias Vector = SIMD2<Double>
typealias VectorBits = SIMD2<UInt64>
#endif
#else
typealias Scalar = Float
#if KERNEL_AVX512
typealias Vector = SIMD16<Float>
typealias VectorBits = SIMD16<UInt32>
#elseif KERNEL_AVX2
typealias Vector = SIMD8<Float>
typealias VectorBits = SIMD8<UInt32>
#else
typealias Vector = SIMD4<Float>
typealias VectorBits = SIMD4<UInt32>
#endif
#endif

#if KERNEL_F64
#if KERNEL_AVX512
typealias HalfVector = SIMD4<Double>
#elseif KERNEL_AVX2
typealias HalfVector = SIMD2<Double>
#endif
#else
#if KERNEL_AVX512
typealias HalfVector = SIMD8<Float>
#elseif KERNEL_AVX2
typealias HalfVector = SIMD4<Float>
#else
typealias HalfVector = SIMD2<Float>
#endif
#endif

// A square block of scalars: as many vectors as a vector has lanes. Written as a literal, because
// `InlineArray(repeating:)` of this length is not inlined, and comes out as a weak symbol.
#if KERNEL_F64
#if KERNEL_AVX512
typealias VectorBlock = InlineArray<8, Vector>
@inline(__always) var zeroBlock: VectorBlock { [z, z, z, z, z, z, z, z] }
#elseif KERNEL_AVX2
typealias VectorBlock = InlineArray<4, Vector>
@inline(__always) var zeroBlock: VectorBlock { [z, z, z, z] }
#else
typealias VectorBlock = InlineArray<2, Vector>
@inline(__always) var zeroBlock: VectorBlock { [z, z] }
#endif
#else
#if KERNEL_AVX512
typealias VectorBlock = InlineArray<16, Vector>
@inline(__always) var zeroBlock: VectorBlock { [z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z] }
#elseif KERNEL_AVX2
typealias VectorBlock = InlineArray<8, Vector>
@inline(__always) var zeroBlock: VectorBlock { [z, z, z, z, z, z, z, z] }
#else
typealias VectorBlock = InlineArray<4, Vector>
@inline(__always) var zeroBlock: VectorBlock { [z, z, z, z] }
#endif
#endif
@inline(__always) private var z: Vector { .zero }

/// Scalars in a vector register.
@inline(__always) var lanes: Int { Vector.scalarCount }

/// `a · b + c`, rounded once where the instruction set has the instruction. Baseline x86-64 has none,
/// and `addingProduct` would call libm once a lane.
@inline(__always)
func fma(_ a: Vector, _ b: Vector, _ c: Vector) -> Vector {
    #if KERNEL_GENERIC && arch(x86_64)
    a * b + c
    #elseif KERNEL_F64
    vector_f64_multiply_add(a, b, c)
    #else
    vector_f32_multiply_add(a, b, c)
    #endif
}

/// The same of single numbers.
@inline(__always)
func fma(_ a: Scalar, _ b: Scalar, _ c: Scalar) -> Scalar {
    #if KERNEL_GENERIC && arch(x86_64)
    a * b + c
    #else
    c.addingProduct(a, b)
    #endif
}

/// The step of the register tile: `a · b + c`, or where the operands are pairs of BF16 the sum of both
/// products and c. The instruction for pairs can broadcast its last operand, a, from memory.
@inline(__always)
func multiplyAdd(_ a: Vector, _ b: Vector, _ c: Vector) -> Vector {
    #if KERNEL_BF16
    vector_f32_dot_pairs(c, b, a)
    #else
    fma(a, b, c)
    #endif
}

@inline(__always)
func broadcast(_ x: Scalar) -> Vector { Vector(repeating: x) }

/// Reads `lanes` scalars at `p`, which may be unaligned.
@inline(__always)
func load(_ p: UnsafePointer<Scalar>) -> Vector {
    UnsafeRawPointer(p).loadUnaligned(as: Vector.self)
}

/// Writes `lanes` scalars at `p`, which may be unaligned.
@inline(__always)
func store(_ v: Vector, _ p: UnsafeMutablePointer<Scalar>) {
    UnsafeMutableRawPointer(p).storeBytes(of: v, as: Vector.self)
}

/// Reads `count < lanes` scalars at `p` and fills the rest.
@inline(__always)
func load(_ p: UnsafePointer<Scalar>, count: Int, fill: Scalar) -> Vector {
    var v = broadcast(fill)
    for lane in 0..<count { v[lane] = p[lane] }
    return v
}

/// Writes the first `count < lanes` scalars.
@inline(__always)
func store(_ v: Vector, _ p: UnsafeMutablePointer<Scalar>, count: Int) {
    for lane in 0..<count { p[lane] = v[lane] }
}

/// The larger of each pair; where `b` is NaN, `a`.
@inline(__always)
func maximum(_ a: Vector, _ b: Vector) -> Vector { a.replacing(with: b, where: b .> a) }

@inline(__always)
func horizontalSum(_ v: Vector) -> Scalar {
    #if KERNEL_F64
    #if KERNEL_AVX512
    let h4 = v.lowHalf + v.highHalf
    let h2 = h4.lowHalf + h4.highHalf
    #elseif KERNEL_AVX2
    let h2 = v.lowHalf + v.highHalf
    #else
    let h2 = v
    #endif
    return h2[0] + h2[1]
    #else
    #if KERNEL_AVX512
    let h8 = v.lowHalf + v.highHalf
    let h4 = h8.lowHalf + h8.highHalf
    #elseif KERNEL_AVX2
    let h4 = v.lowHalf + v.highHalf
    #else
    let h4 = v
    #endif
    let h2 = h4.lowHalf + h4.highHalf
    return h2[0] + h2[1]
    #endif
}

/// The largest lane, where none is NaN.
@inline(__always)
func horizontalMaximum(_ v: Vector) -> Scalar {
    #if KERNEL_AVX512
    #if KERNEL_F64
    return vector_f64_largest(v)
    #else
    return vector_f32_largest(v)
    #endif
    #else
    #if KERNEL_F64
    #if KERNEL_AVX2
    let h2 = v.lowHalf.replacing(with: v.highHalf, where: v.highHalf .> v.lowHalf)
    #else
    let h2 = v
    #endif
    #else
    #if KERNEL_AVX2
    let h4 = v.lowHalf.replacing(with: v.highHalf, where: v.highHalf .> v.lowHalf)
    #else
    let h4 = v
    #endif
    let h2 = h4.lowHalf.replacing(with: h4.highHalf, where: h4.highHalf .> h4.lowHalf)
    #endif
    return h2[0] > h2[1] ? h2[0] : h2[1]
    #endif
}

/// `a0 b0 a1 b1 …` over the lower halves.
@inline(__always)
func interleaveLow(_ a: Vector, _ b: Vector) -> Vector {
    #if KERNEL_F64 && KERNEL_GENERIC
    Vector(a[0], b[0])
    #else
    interleave(a.lowHalf, b.lowHalf)
    #endif
}

/// `a0 b0 a1 b1 …` over the upper halves.
@inline(__always)
func interleaveHigh(_ a: Vector, _ b: Vector) -> Vector {
    #if KERNEL_F64 && KERNEL_GENERIC
    Vector(a[1], b[1])
    #else
    interleave(a.highHalf, b.highHalf)
    #endif
}

#if !(KERNEL_F64 && KERNEL_GENERIC)
@inline(__always)
private func interleave(_ a: HalfVector, _ b: HalfVector) -> Vector {
    var v = Vector.zero
    v.evenHalf = a
    v.oddHalf = b
    return v
}
#endif
