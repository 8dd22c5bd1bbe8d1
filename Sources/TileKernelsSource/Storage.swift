// How an operand that passes by once lies in memory. A 16-bit type is widened on its way into a register, and
// rows of BF16 that are summed over are paired there: a copy would cost more than the products with few rows.

import CVectorInstructions

/// Rows of numbers as a product takes them from memory.
protocol Storage {
    associatedtype Element
    /// Rows that a step of a product takes.
    static var rowsOfStep: Int { get }
    /// Whether a number in memory is not a scalar of the table.
    static var isWidened: Bool { get }
    /// Columns p to p + lanes of a row, or of the rows of a step, which are `row` elements apart.
    static func vector(_ p: UnsafePointer<Element>, _ row: Int) -> Vector
    /// The first `count < lanes` columns, and 0.
    static func vector(_ p: UnsafePointer<Element>, _ row: Int, count: Int) -> Vector
}

/// Scalars of the table, or pairs.
enum Scalars: Storage {
    typealias Element = Scalar
    @inline(__always) static var rowsOfStep: Int { 1 }
    @inline(__always) static var isWidened: Bool { false }
    @inline(__always) static func vector(_ p: UnsafePointer<Scalar>, _ row: Int) -> Vector { load(p) }
    @inline(__always) static func vector(_ p: UnsafePointer<Scalar>, _ row: Int, count: Int) -> Vector {
        load(p, count: count, fill: 0)
    }
}

#if !KERNEL_F64

/// As many 16-bit numbers as a vector has lanes.
#if KERNEL_AVX512
typealias HalfBits = SIMD16<UInt16>
#elseif KERNEL_AVX2
typealias HalfBits = SIMD8<UInt16>
#else
typealias HalfBits = SIMD4<UInt16>
#endif

/// A raw pointer of the table, as 16-bit numbers.
@inline(__always)
func halves(_ p: UnsafeRawPointer) -> UnsafePointer<UInt16> { p.assumingMemoryBound(to: UInt16.self) }

@inline(__always)
func halves(_ p: UnsafeMutableRawPointer) -> UnsafeMutablePointer<UInt16> {
    p.assumingMemoryBound(to: UInt16.self)
}

@inline(__always)
private func bits(_ p: UnsafePointer<UInt16>) -> HalfBits {
    UnsafeRawPointer(p).loadUnaligned(as: HalfBits.self)
}

@inline(__always)
private func bits(_ p: UnsafePointer<UInt16>, count: Int) -> HalfBits {
    var v = HalfBits.zero
    for lane in 0..<count { v[lane] = p[lane] }
    return v
}

#if KERNEL_BF16

/// Rows of BF16 two by two, as pairs.
enum RowPairs: Storage {
    typealias Element = UInt16
    @inline(__always) static var rowsOfStep: Int { 2 }
    @inline(__always) static var isWidened: Bool { true }
    @inline(__always) static func vector(_ p: UnsafePointer<UInt16>, _ row: Int) -> Vector {
        vector_f32_interleave(bits(p), bits(p + row))
    }
    @inline(__always) static func vector(_ p: UnsafePointer<UInt16>, _ row: Int, count: Int) -> Vector {
        vector_f32_interleave(bits(p, count: count), bits(p + row, count: count))
    }
}

#else

/// BF16, widened.
enum BFloat16s: Storage {
    typealias Element = UInt16
    @inline(__always) static var rowsOfStep: Int { 1 }
    @inline(__always) static var isWidened: Bool { true }
    @inline(__always) static func vector(_ p: UnsafePointer<UInt16>, _ row: Int) -> Vector {
        vector_f32_from_bf16(bits(p))
    }
    @inline(__always) static func vector(_ p: UnsafePointer<UInt16>, _ row: Int, count: Int) -> Vector {
        vector_f32_from_bf16(bits(p, count: count))
    }
}

/// F16, widened.
enum Float16s: Storage {
    typealias Element = UInt16
    @inline(__always) static var rowsOfStep: Int { 1 }
    @inline(__always) static var isWidened: Bool { true }
    @inline(__always) static func vector(_ p: UnsafePointer<UInt16>, _ row: Int) -> Vector {
        vector_f32_from_f16(bits(p))
    }
    @inline(__always) static func vector(_ p: UnsafePointer<UInt16>, _ row: Int, count: Int) -> Vector {
        vector_f32_from_f16(bits(p, count: count))
    }
}

#endif
#endif
