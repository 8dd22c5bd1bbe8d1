import FlashAttention

/// The outcome of one case.
public struct VerificationResult: Sendable {
    public var verificationCase: VerificationCase
    /// One for each tensor that the pass writes.
    public var errors: [TensorError] = []
    /// What was wrong, a line each; nothing in a case that passed.
    public var failures: [String] = []

    public var passed: Bool { failures.isEmpty }
}

extension VerificationCase.ElementType {
    /// The distance of 1 from the next larger number of the type.
    var ulp: Double {
        switch self {
        case .f64: .ulpOfOne
        case .f32: Double(Float.ulpOfOne)
        case .f16: 0x1p-10
        case .bf16: 0x1p-7
        }
    }
}

/// Decides whether a tensor is close enough to the right answer.
struct Judge {
    let element: VerificationCase.ElementType
    let inputs: InputKind
    /// How often the error of the ordinary computation is allowed.
    var factor = Tolerance.naiveFactor

    /// The tensor's distance from the reference, by the tolerance of the element type.
    func measure(_ tensor: String, _ result: [Double], _ reference: [Double]) -> TensorError {
        switch element {
        case .f32:
            TensorError(
                tensor, result, reference, absolute: Tolerance.floatAbsolute,
                proportional: Tolerance.floatRelative)
        case .f16, .bf16:
            TensorError(
                tensor, result, reference,
                absolute: Tolerance.floatAbsolute + Tolerance.roundedUlps * element.ulp * largest(reference),
                proportional: 0)
        case .f64:
            TensorError(
                tensor, result, reference,
                absolute: Tolerance.doubleAbsolute + Tolerance.doubleRelative * largest(reference),
                proportional: 0)
        }
    }

    /// What is wrong with the tensor, or nil.
    ///
    /// - Parameters:
    ///   - naive: the same tensor's error in the naive computation, asked for only where it decides.
    func fault(_ error: TensorError, naive: () throws -> TensorError?) rethrows -> String? {
        if error.nonFiniteMismatches > 0 {
            return "\(error.tensor): \(error.nonFiniteMismatches) entries are not NaN or infinite where they "
                + "should be"
        }
        if error.maximum == .infinity { return "\(error.tensor): NaN or infinite where it should not be" }
        if error.excess <= 1, element == .f64 || element == .f32 && inputs.isOrdinary { return nil }
        let figures = "\(error.tensor): off by \(error.maximum), largest entry \(error.magnitude)"
        guard element != .f64, let naive = try naive() else { return figures }
        let floor = element.isRounded ? Tolerance.floatAbsolute + element.ulp * error.magnitude
            : Tolerance.naiveFloor * error.magnitude
        let allowed = factor * naive.maximum + floor
        return error.maximum <= allowed ? nil : figures + ", naive off by \(naive.maximum)"
    }

    private func largest(_ reference: [Double]) -> Double {
        reference.reduce(0) { $1.isFinite ? max($0, abs($1)) : $0 }
    }
}
