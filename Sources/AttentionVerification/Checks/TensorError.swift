import FlashAttention

/// How far one tensor of a result lies from the right answer.
public struct TensorError: Hashable, Sendable {
    /// "output", "logSumExp", "queryGradient", "keyGradient" or "valueGradient".
    public var tensor: String
    /// max |x − ref|, over the entries where the reference is finite; ∞ where the result is not.
    public var maximum: Double = 0
    /// √(mean (x − ref)²), over the same entries.
    public var rmse: Double = 0
    /// max |x − ref| / (atol + rtol · |ref|): 1 or less is within the tolerance.
    public var excess: Double = 0
    /// max |ref|, over the finite entries.
    public var magnitude: Double = 0
    /// Entries that should be NaN and are not, or that should be infinite and are finite. (Whether an
    /// infinity stays one or meets another and becomes NaN depends on the order of the sums.)
    public var nonFiniteMismatches: Int = 0

    /// - Parameters:
    ///   - result, reference: of the same length.
    ///   - absolute, proportional: atol and rtol of `excess`.
    public init(
        _ tensor: String, _ result: [Double], _ reference: [Double], absolute: Double, proportional: Double
    ) {
        precondition(result.count == reference.count)
        self.tensor = tensor
        var squares = 0.0
        var finite = 0
        for (x, ref) in zip(result, reference) {
            guard ref.isFinite else {
                let passedOn = ref.isNaN ? x.isNaN : !x.isFinite
                if !passedOn { nonFiniteMismatches += 1 }
                continue
            }
            let error = x.isFinite ? abs(x - ref) : .infinity
            finite += 1
            squares += error * error
            maximum = max(maximum, error)
            magnitude = max(magnitude, abs(ref))
            excess = max(excess, error / (absolute + proportional * abs(ref)))
        }
        rmse = finite == 0 ? 0 : (squares / Double(finite)).squareRoot()
    }
}

/// The tolerances. `Docs/Numerics.md` says why these.
public enum Tolerance {
    /// Double: 1e-12 of the largest entry of the reference tensor, and 1e-13 for tensors whose right
    /// answer is 0 because terms of order 1 cancel.
    public static let doubleRelative = 1e-12
    public static let doubleAbsolute = 1e-13
    /// Float, unit-normal inputs: those to which PyTorch holds its attention on the CPU.
    public static let floatAbsolute = 1e-5
    public static let floatRelative = 5e-6
    /// F16 and BF16, unit-normal inputs: units in the last place of the largest entry of the reference
    /// tensor, with the absolute tolerance of Float. Two roundings of a result, and as much for O rounded in
    /// delta.
    public static let roundedUlps = 2.0
    /// That tolerance as a share of the largest entry; 0 for the types that attention computes in.
    public static func rounding<Element: AttentionElement>(_ type: Element.Type) -> Double {
        let element = VerificationCase.ElementType(Element.self)
        return element.isRounded ? roundedUlps * element.ulp : 0
    }
    /// Float, any inputs: the error of naive attention in the same type, twice.
    public static let naiveFactor = 2.0
    /// The naive algorithm itself, by the error of plain loops: the maxima of two computations of the same
    /// quality, over few rows in which two logits almost tie, differ by chance by more than 2.
    public static let plainFactor = 4.0
    /// What one rounding of the largest entry may add to that: four ulp of it.
    public static let naiveFloor = 4 * Double(Float.ulpOfOne)
}
