import AttentionCore
import Testing

@Suite("AlignedBuffer")
struct AlignedBufferTests {
    @Test(arguments: [1, 4096, LargePages.leastBytes - 1])
    func smallBuffer_isAlignedToACacheLine(byteCount: Int) throws {
        let buffer = try AlignedBuffer(byteCount: byteCount)
        #expect(UInt(bitPattern: buffer.base) % UInt(AlignedBuffer.alignment) == 0)
    }

    @Test(arguments: [LargePages.leastBytes, LargePages.leastBytes + 12345])
    func largeBuffer_isAlignedToALargePage_andHoldsWhatIsWritten(byteCount: Int) throws {
        let buffer = try AlignedBuffer(byteCount: byteCount)
        #expect(UInt(bitPattern: buffer.base) % UInt(LargePages.size) == 0)
        let bytes = UnsafeMutableRawBufferPointer(start: buffer.base, count: byteCount)
        bytes.initializeMemory(as: UInt8.self, repeating: 7)
        #expect(bytes.first == 7 && bytes.last == 7)
    }

    @Test(arguments: [0, 1, 63, 5000])
    func requestForLargePages_leavesTheContents(offset: Int) {
        let count = LargePages.leastBytes
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count + 10_000, alignment: 16)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 3)
        LargePages.request(for: UnsafeMutableRawBufferPointer(rebasing: memory[offset..<offset + count]))
        #expect(memory.allSatisfy { $0 == 3 })
    }
}
