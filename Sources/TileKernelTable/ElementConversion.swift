/// The micro-kernels that turn blocks of a 16-bit type into Float and back, or multiply with them as they
/// lie, for one instruction set.
///
/// They stand beside the `TileKernelTable` of Float, by the same rules.
public struct ElementConversion: Sendable {
    /// `dst[r][c] = src[r][c]` in the other type.
    ///
    /// Arguments: m, n; src and its row stride; dst and its row stride; each stride in elements of its own
    /// type.
    public typealias Convert = @Sendable (
        Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int
    ) -> Void

    /// From the 16-bit type to Float, exactly. A NaN may lose that it was a signalling one.
    public var widen: Convert
    /// From Float to the nearest value of the 16-bit type, the even one of two.
    public var round: Convert
    /// The products of decoding, with K and V in the type, widened on their way into a register; the rest is
    /// Float.
    public var passing: PassingProducts

    /// A table with every entry.
    public init(widen: @escaping Convert, round: @escaping Convert, passing: PassingProducts) {
        self.widen = widen
        self.round = round
        self.passing = passing
    }
}
