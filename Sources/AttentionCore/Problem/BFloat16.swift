/// The upper half of a Float: its sign, its 8 bits of exponent and the first 7 of its significand.
///
/// A type to store numbers in, with the range of Float and between two and three decimal digits. It has no
/// arithmetic of its own: convert to Float, compute, and round back.
@frozen
public struct BFloat16: BitwiseCopyable, Sendable {
    /// Sign, exponent and significand, from the highest bit down.
    public var bitPattern: UInt16

    /// The number with these bits.
    @inlinable public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

    /// The nearest value, the even one of two; an infinity beyond the largest. A NaN keeps its sign and what
    /// fits of its payload, and is quiet.
    @inlinable public init(_ value: Float) {
        let bits = value.bitPattern
        if value.isNaN {
            bitPattern = UInt16(truncatingIfNeeded: bits >> 16) | 0x40
        } else {
            // Half a unit of the last place, less one where the place is even, so that a tie goes there.
            let half = 0x7FFF + (bits >> 16 & 1)
            bitPattern = UInt16(truncatingIfNeeded: (bits + half) >> 16)
        }
    }

    /// The nearest value, rounded once, as from Float.
    @inlinable public init(_ value: Double) {
        // Rounded to odd, the intermediate Float lies on the same side of every tie as the Double.
        var float = Float(value)
        if value.isFinite, float.isFinite, Double(float) != value {
            if abs(Double(float)) > abs(value) { float = Float(bitPattern: float.bitPattern - 1) }
            float = Float(bitPattern: float.bitPattern | 1)
        }
        self.init(float)
    }

    /// 0, of positive sign.
    public static var zero: BFloat16 { BFloat16(bitPattern: 0) }
    /// Infinity, of positive sign.
    public static var infinity: BFloat16 { BFloat16(bitPattern: 0x7F80) }
    /// A quiet NaN.
    public static var nan: BFloat16 { BFloat16(bitPattern: 0x7FC0) }
    /// The largest finite value, 3.39e38.
    public static var greatestFiniteMagnitude: BFloat16 { BFloat16(bitPattern: 0x7F7F) }
    /// The smallest value above 0, a subnormal one: 2⁻¹³³.
    public static var leastNonzeroMagnitude: BFloat16 { BFloat16(bitPattern: 1) }
    /// 2⁻⁷, the distance of 1 from the next larger value.
    public static var ulpOfOne: BFloat16 { BFloat16(bitPattern: 0x3C00) }

    /// Whether it is a NaN, quiet or signalling.
    public var isNaN: Bool { bitPattern & 0x7FFF > 0x7F80 }
    /// Whether it is neither an infinity nor a NaN.
    public var isFinite: Bool { bitPattern & 0x7F80 != 0x7F80 }
}

extension Float {
    /// The same number; exact.
    @inlinable public init(_ value: BFloat16) { self.init(bitPattern: UInt32(value.bitPattern) << 16) }
}

extension BFloat16: Hashable {
    /// As Float compares: 0 and −0 are equal, and a NaN equals nothing.
    public static func == (a: BFloat16, b: BFloat16) -> Bool { Float(a) == Float(b) }

    public func hash(into hasher: inout Hasher) { hasher.combine(Float(self)) }
}

extension BFloat16: ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral {
    public init(floatLiteral value: Double) { self.init(value) }
    /// For integers that Double holds.
    public init(integerLiteral value: Int) { self.init(Double(value)) }
}

extension BFloat16: CustomStringConvertible {
    /// The shortest number that Float would print for it.
    public var description: String { Float(self).description }
}

extension BFloat16: Codable {
    public init(from decoder: any Decoder) throws {
        self.init(try decoder.singleValueContainer().decode(Double.self))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(Float(self))
    }
}
