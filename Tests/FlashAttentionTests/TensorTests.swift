import FlashAttention
import Testing

@Suite("Tensor")
struct TensorTests {
    @Test func newTensor_holdsZeros() {
        let tensor = Tensor<Float>(TensorExtents(2, 3, 4, 5))
        #expect(tensor.elements == Array(repeating: 0, count: 120))
    }

    @Test func largeNewTensor_holdsZeros() {
        let tensor = Tensor<Double>(TensorExtents(1, 3, 1 << 16, 5))
        #expect(tensor.elements.count == 3 * 5 << 16 && tensor.elements.allSatisfy { $0 == 0 })
    }

    @Test func wrongNumberOfElements_isRefused() {
        for count in [5, 7] {
            #expect(
                throws: AttentionError.shapeMismatch(
                    operand: "elements", expected: "[1,1,2,3], 6 elements", got: "\(count)")
            ) {
                try Tensor<Float>(TensorExtents(1, 1, 2, 3), elements: Array(repeating: 1, count: count))
            }
        }
    }

    @Test(arguments: [
        TensorExtents(-1, -1, 1, 1), TensorExtents(1, 1, 1 << 40, 1 << 40), TensorExtents(.max, .max, 1, 1),
    ])
    func sizesThatNoMemoryHolds_areRefused(extents: TensorExtents) {
        let error = #expect(throws: AttentionError.self) { try Tensor<Float>(extents, elements: [1]) }
        guard case .invalidShape = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func subscript_followsTheLayout() throws {
        let elements = (0..<24).map { Float($0) }
        let extents = TensorExtents(1, 2, 3, 4)
        let bhnd = try Tensor(extents, elements: elements)
        let bnhd = try Tensor(extents, layout: .bnhd, elements: elements)
        #expect(bhnd[0, 1, 2, 3] == 23 && bhnd[0, 1, 0, 0] == 12 && bhnd[0, 0, 1, 0] == 4)
        #expect(bnhd[0, 1, 2, 3] == 23 && bnhd[0, 1, 0, 0] == 4 && bnhd[0, 0, 1, 0] == 8)
    }

    @Test func copies_areIndependent() {
        let first = Tensor<Double>(TensorExtents(1, 1, 1, 2))
        var second = first
        second[0, 0, 0, 1] = 5
        #expect(first.elements == [0, 0] && second.elements == [0, 5])
    }

    @Test func views_showAndChangeTheElements() {
        var tensor = Tensor<Double>(TensorExtents(1, 1, 2, 2))
        tensor.withMutableView { $0.memory[3] = 7 }
        #expect(tensor[0, 0, 1, 1] == 7)
        #expect(tensor.withView { $0.memory[3] } == 7)
    }

    @Test func errorOfTheBody_comesThrough() {
        struct Failure: Error, Equatable {}
        let tensor = Tensor<Double>(TensorExtents(1, 1, 2, 2))
        #expect(throws: Failure()) { try tensor.withView { _ throws(Failure) in throw Failure() } }
    }
}
