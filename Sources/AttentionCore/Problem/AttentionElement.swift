#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A number type that attention computes in.
public protocol AttentionElement: BinaryFloatingPoint, SIMDScalar, BitwiseCopyable, Codable, Sendable {
    /// 2 to the power of `x`.
    static func exp2(_ x: Self) -> Self
    /// The logarithm of `x` to base 2.
    static func log2(_ x: Self) -> Self
}

extension Float: AttentionElement {
    #if canImport(Darwin)
    public static func exp2(_ x: Float) -> Float { Darwin.exp2(x) }
    public static func log2(_ x: Float) -> Float { Darwin.log2(x) }
    #elseif canImport(Glibc)
    public static func exp2(_ x: Float) -> Float { Glibc.exp2(x) }
    public static func log2(_ x: Float) -> Float { Glibc.log2(x) }
    #else
    public static func exp2(_ x: Float) -> Float { Musl.exp2(x) }
    public static func log2(_ x: Float) -> Float { Musl.log2(x) }
    #endif
}

extension Double: AttentionElement {
    #if canImport(Darwin)
    public static func exp2(_ x: Double) -> Double { Darwin.exp2(x) }
    public static func log2(_ x: Double) -> Double { Darwin.log2(x) }
    #elseif canImport(Glibc)
    public static func exp2(_ x: Double) -> Double { Glibc.exp2(x) }
    public static func log2(_ x: Double) -> Double { Glibc.log2(x) }
    #else
    public static func exp2(_ x: Double) -> Double { Musl.exp2(x) }
    public static func log2(_ x: Double) -> Double { Musl.log2(x) }
    #endif
}
