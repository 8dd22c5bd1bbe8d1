import AttentionCore
import Testing

@Suite("TensorView")
struct TensorViewTests {
    private let extents = TensorExtents(2, 3, 4, 5)

    /// A view over so many elements, which nobody reads.
    private func view(_ count: Int, _ extents: TensorExtents, _ strides: TensorStrides) -> TensorView<Float> {
        mutableView(count, extents, strides).readOnly
    }

    private func mutableView(
        _ count: Int, _ extents: TensorExtents, _ strides: TensorStrides
    ) -> MutableTensorView<Float> {
        let memory = UnsafeMutableBufferPointer<Float>(
            start: UnsafeMutablePointer(bitPattern: 64), count: count)
        return MutableTensorView(memory, extents: extents, strides: strides)
    }

    @Test func denseLayouts_haveTheirStrides() {
        #expect(TensorLayout.bhnd.strides(extents) == TensorStrides(batch: 60, head: 20, row: 5))
        #expect(TensorLayout.bnhd.strides(extents) == TensorStrides(batch: 60, head: 5, row: 15))
    }

    @Test(arguments: TensorLayout.allCases)
    func denseTensor_ofExactlyItsSize_passes(layout: TensorLayout) throws {
        try view(120, extents, layout.strides(extents)).validate("query", expected: extents)
        try mutableView(120, extents, layout.strides(extents)).validate("output", expected: extents)
    }

    @Test(arguments: TensorLayout.allCases)
    func oneElementShort_isRefusedByName(layout: TensorLayout) {
        #expect(throws: AttentionError.bufferTooSmall(operand: "key", expected: 120, got: 119)) {
            try view(119, extents, layout.strides(extents)).validate("key", expected: extents)
        }
    }

    @Test(arguments: TensorLayout.allCases)
    func extentsBeyondAllMemory_areRefusedByName(layout: TensorLayout) {
        let huge = TensorExtents(.max, .max, .max, .max)
        #expect(throws: AttentionError.self) {
            try view(120, huge, layout.strides(huge)).validate("key", expected: extents)
        }
    }

    @Test func otherExtents_areRefusedByName() {
        let other = TensorExtents(2, 3, 4, 6)
        #expect(
            throws: AttentionError.shapeMismatch(
                operand: "value", expected: "[2,3,4,6]", got: "[2,3,4,5]")
        ) {
            try view(120, extents, TensorLayout.bhnd.strides(extents)).validate("value", expected: other)
        }
    }

    @Test(arguments: [
        TensorStrides(batch: 60, head: 20, row: 4), TensorStrides(batch: 60, head: 20, row: 0),
        TensorStrides(batch: -60, head: 20, row: 5), TensorStrides(batch: 60, head: -1, row: 5),
        TensorStrides(batch: 60, head: 20, row: -5),
    ])
    func stridesThatMeanNothing_areRefused(strides: TensorStrides) {
        #expect(throws: AttentionError.self) {
            try view(1000, extents, strides).validate("query", expected: extents)
        }
    }

    @Test func broadcastHeads_mayBeReadButNotWritten() throws {
        let strides = TensorStrides(batch: 20, head: 0, row: 5)
        try view(40, extents, strides).validate("key", expected: extents)
        #expect(throws: AttentionError.self) {
            try mutableView(40, extents, strides).validate("keyGradient", expected: extents)
        }
    }

    @Test(arguments: [
        TensorStrides(batch: 60, head: 19, row: 5), TensorStrides(batch: 59, head: 20, row: 5),
        TensorStrides(batch: 60, head: 5, row: 14), TensorStrides(batch: 0, head: 20, row: 5),
    ])
    func rowsThatShareMemory_areNotWritten(strides: TensorStrides) {
        #expect(throws: AttentionError.self) {
            try mutableView(1000, extents, strides).validate("output", expected: extents)
        }
    }

    @Test func stridesBeyondAnInteger_areRefusedAndDoNotTrap() {
        for strides in [
            TensorStrides(batch: .max, head: 20, row: 5), TensorStrides(batch: 60, head: .max, row: 5),
            TensorStrides(batch: 60, head: 20, row: .max), TensorStrides(batch: .max, head: .max, row: .max),
        ] {
            #expect(throws: AttentionError.self) {
                try view(1000, extents, strides).validate("query", expected: extents)
            }
            #expect(throws: AttentionError.self) {
                try mutableView(1000, extents, strides).validate("output", expected: extents)
            }
        }
    }

    /// Memory that is said to be all there is: the end of the last axis is then beyond an integer.
    @Test func stridesThatReachToTheEndOfAllMemory_doNotTrap() throws {
        let extents = TensorExtents(3, 2, 1, 1)
        func placement(_ strides: TensorStrides) -> TensorPlacement {
            TensorPlacement(extents: extents, strides: strides, elementCount: .max)
        }
        let far = Int.max / 2 - 5
        try placement(TensorStrides(batch: far, head: 2, row: 1))
            .validateForWriting("output", expected: extents)
        #expect(throws: AttentionError.self) {
            try placement(TensorStrides(batch: far, head: far, row: 1))
                .validateForWriting("output", expected: extents)
        }
    }

    @Test func emptyTensor_needsNoMemoryAndAnyStrides() throws {
        let empty = TensorExtents(0, 3, 4, 5)
        try view(0, empty, TensorStrides(batch: -1, head: -1, row: -1)).validate("query", expected: empty)
        try mutableView(0, empty, TensorLayout.bhnd.strides(empty)).validate("output", expected: empty)
    }

    @Test func axisOfOne_mayHaveAnyStride() throws {
        let single = TensorExtents(1, 1, 1, 5)
        try view(5, single, TensorStrides(batch: 7, head: 3, row: 0)).validate("query", expected: single)
        try mutableView(5, single, TensorStrides(batch: 0, head: 0, row: 0)).validate(
            "output", expected: single)
    }
}
