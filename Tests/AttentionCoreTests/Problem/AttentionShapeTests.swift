import AttentionCore
import Testing

@Suite("AttentionShape")
struct AttentionShapeTests {
    private let good = AttentionShape(
        batch: 2, heads: 6, keyValueHeads: 3, queryLength: 5, keyLength: 7, headSize: 4, valueHeadSize: 8)

    @Test func sizesLeftOut_followTheOthers() throws {
        let shape = AttentionShape(batch: 1, heads: 4, queryLength: 9, headSize: 16)
        try shape.validate()
        #expect(shape.keyValueHeads == 4 && shape.keyLength == 9 && shape.valueHeadSize == 16)
        #expect(shape.groupSize == 1 && shape.rowCount == 36)
    }

    @Test func extents_areThoseOfTheOperands() throws {
        try good.validate()
        #expect(good.queryExtents == TensorExtents(2, 6, 5, 4))
        #expect(good.keyExtents == TensorExtents(2, 3, 7, 4))
        #expect(good.valueExtents == TensorExtents(2, 3, 7, 8))
        #expect(good.outputExtents == TensorExtents(2, 6, 5, 8))
        #expect(good.groupSize == 2)
    }

    @Test(arguments: [
        \AttentionShape.batch, \.heads, \.keyValueHeads, \.queryLength, \.keyLength, \.headSize,
        \.valueHeadSize,
    ] as [WritableKeyPath<AttentionShape, Int> & Sendable])
    func negativeSize_isRefused(path: WritableKeyPath<AttentionShape, Int> & Sendable) {
        var shape = good
        shape[keyPath: path] = -1
        #expect(throws: AttentionError.self) { try shape.validate() }
    }

    @Test(arguments: [\AttentionShape.batch, \.queryLength, \.keyLength]
        as [WritableKeyPath<AttentionShape, Int> & Sendable])
    func sizeOfZero_isAllowed(path: WritableKeyPath<AttentionShape, Int> & Sendable) throws {
        var shape = good
        shape[keyPath: path] = 0
        try shape.validate()
    }

    @Test func noHeadsAtAll_isAllowed() throws {
        try AttentionShape(batch: 1, heads: 0, queryLength: 3, headSize: 4).validate()
    }

    @Test func headSizeOfZero_isRefusedByName() {
        var shape = good
        shape.headSize = 0
        #expect(throws: AttentionError.invalidShape("headSize must be at least 1, got 0")) {
            try shape.validate()
        }
    }

    @Test(arguments: [(6, 4), (6, 0), (1, 2), (0, 2)])
    func heads_thatTheGroupsDoNotDivide_areRefused(heads: Int, keyValueHeads: Int) {
        var shape = good
        shape.heads = heads
        shape.keyValueHeads = keyValueHeads
        if heads == 0 {
            // 0 is a multiple of everything: no query heads over key heads is an empty problem.
            #expect(throws: Never.self) { try shape.validate() }
        } else {
            #expect(throws: AttentionError.self) { try shape.validate() }
        }
    }

    @Test(arguments: [
        AttentionShape(batch: 1 << 31, heads: 1 << 31, queryLength: 1, headSize: 1),
        AttentionShape(batch: 1, heads: 1, queryLength: .max, keyLength: 1, headSize: 2),
        AttentionShape(batch: 1, heads: 1, queryLength: 1, keyLength: .max / 4, headSize: 4),
        AttentionShape(batch: 1, heads: 1, queryLength: 1 << 40, headSize: 1, valueHeadSize: 1 << 40),
        AttentionShape(batch: 0, heads: .max, queryLength: .max, headSize: .max),
    ])
    func sizesBeyondAnInteger_areRefusedAndDoNotTrap(shape: AttentionShape) {
        #expect(throws: AttentionError.self) { try shape.validate() }
    }
}
