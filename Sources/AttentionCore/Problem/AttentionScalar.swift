#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A number type that attention computes in: Float or Double.
public protocol AttentionScalar: AttentionElement, BinaryFloatingPoint, SIMDScalar where Accumulator == Self {
    /// e to the power of `x`.
    static func exp(_ x: Self) -> Self
    /// The natural logarithm of `x`.
    static func log(_ x: Self) -> Self
}

extension AttentionScalar {
    /// The largest magnitude of a softmax scale: times log2(e) = 1/0.693…, as the exponential takes it, it is
    /// still a number of the type.
    package static var largestSoftmaxScale: Self { 0.69 * greatestFiniteMagnitude }
}

extension Float: AttentionScalar {
    public static func rounding(_ value: Float) -> Float { value }
    public static func rounding(_ value: Double) -> Float { Float(value) }
    public var widened: Float { self }

    #if canImport(Darwin)
    public static func exp(_ x: Float) -> Float { Darwin.exp(x) }
    public static func log(_ x: Float) -> Float { Darwin.log(x) }
    #elseif canImport(Glibc)
    public static func exp(_ x: Float) -> Float { Glibc.exp(x) }
    public static func log(_ x: Float) -> Float { Glibc.log(x) }
    #else
    public static func exp(_ x: Float) -> Float { Musl.exp(x) }
    public static func log(_ x: Float) -> Float { Musl.log(x) }
    #endif
}

extension Double: AttentionScalar {
    public static func rounding(_ value: Double) -> Double { value }
    public var widened: Double { self }

    #if canImport(Darwin)
    public static func exp(_ x: Double) -> Double { Darwin.exp(x) }
    public static func log(_ x: Double) -> Double { Darwin.log(x) }
    #elseif canImport(Glibc)
    public static func exp(_ x: Double) -> Double { Glibc.exp(x) }
    public static func log(_ x: Double) -> Double { Glibc.log(x) }
    #else
    public static func exp(_ x: Double) -> Double { Musl.exp(x) }
    public static func log(_ x: Double) -> Double { Musl.log(x) }
    #endif
}
