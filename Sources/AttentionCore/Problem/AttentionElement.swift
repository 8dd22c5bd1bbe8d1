/// A number type that tensors hold: Double, Float, Float16 or ``BFloat16``.
///
/// Attention computes in the type's accumulator. An input is widened to it, which is exact, and a result is
/// rounded to the element type once, when it is written.
public protocol AttentionElement: BitwiseCopyable, Hashable, Codable, Sendable {
    /// What attention computes in: Double for Double, Float for the others.
    associatedtype Accumulator: AttentionScalar

    /// 0, of positive sign.
    static var zero: Self { get }
    /// The nearest value of the type, the even one of two; an infinity beyond the largest. A NaN stays a NaN.
    static func rounding(_ value: Accumulator) -> Self
    /// The same from Double, rounded once.
    static func rounding(_ value: Double) -> Self
    /// The same number in the wider type.
    var widened: Accumulator { get }
}

// Swift has no Float16 on Intel Macs.
#if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
extension Float16: AttentionElement {
    public static func rounding(_ value: Float) -> Float16 { Float16(value) }
    public static func rounding(_ value: Double) -> Float16 { Float16(value) }
    public var widened: Float { Float(self) }
}
#endif

extension BFloat16: AttentionElement {
    public static func rounding(_ value: Float) -> BFloat16 { BFloat16(value) }
    public static func rounding(_ value: Double) -> BFloat16 { BFloat16(value) }
    public var widened: Float { Float(self) }
}
