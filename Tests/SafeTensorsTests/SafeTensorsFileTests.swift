import Foundation
import SafeTensors
import Testing

@Suite struct SafeTensorsFileTests {
    @Test func writtenFile_readsBackAlignedAndMapped() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("a.safetensors")
        let doubles: [Double] = [1, -0.0, .infinity]
        let floats: [Float] = [1.5, .nan, -2]
        let lengths: [Int32] = [.min, .max]
        var writer = SafeTensorsWriter()
        writer.metadata = ["made by": "a test \"quoted\" \u{1F600}"]
        try lengths.withUnsafeBufferPointer { lengths in
            try floats.withUnsafeBufferPointer { floats in
                try doubles.withUnsafeBufferPointer { doubles in
                    try writer.add("lengths", shape: [2], lengths)
                    try writer.add("floats", shape: [3, 1], floats)
                    try writer.add("doubles", shape: [1, 3], doubles)
                    try writer.write(to: path)
                }
            }
        }
        let file = try SafeTensorsFile(path: path)
        #expect(file.metadata == writer.metadata)
        #expect(file.tensors.mapValues(\.shape) == ["lengths": [2], "floats": [3, 1], "doubles": [1, 3]])
        let read = try file.elements(of: "doubles", as: Double.self)
        #expect(read.isMapped && Array(read.buffer) == doubles)
        #expect(
            try file.elements(of: "floats", as: Float.self).buffer.map(\.bitPattern)
                == floats.map(\.bitPattern))
        #expect(try Array(file.elements(of: "lengths", as: Int32.self).buffer) == lengths)
        #expect(file.tensors["doubles"]?.byteRange.lowerBound.isMultiple(of: 8) == true)
        #expect(directory.fileNames == ["a.safetensors"])
    }

    @Test func misalignedTensor_isCopied() throws {
        let directory = try TemporaryDirectory()
        let header = """
            {"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},\
            "f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}
            """
        let padded = header + String(repeating: " ", count: 8 - header.utf8.count % 8)
        let path = try directory.write(fileBytes(header: padded, dataCount: 5))
        let elements = try SafeTensorsFile(path: path).elements(of: "f", as: Float.self)
        #expect(!elements.isMapped)
        #expect(elements.buffer.map(\.bitPattern) == [0x0403_0201])
    }

    @Test func wrongQuestions_areAnsweredWithErrors() throws {
        let directory = try TemporaryDirectory()
        let header = "{\"t\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}"
        let file = try SafeTensorsFile(path: directory.write(fileBytes(header: header, dataCount: 4)))
        #expect(throws: SafeTensorsError.missingTensor(name: "x", path: file.path)) {
            try file.elements(of: "x", as: Float.self)
        }
        #expect(throws: SafeTensorsError.wrongDataType(name: "t", expected: "F32", got: .bf16)) {
            try file.elements(of: "t", as: Float.self)
        }
    }

    @Test func unreadablePath_isASystemError() throws {
        let directory = try TemporaryDirectory()
        for path in [directory.path("none"), directory.url.path, "/dev/null", ""] {
            let error = try #require(throws: SafeTensorsError.self) { try SafeTensorsFile(path: path) }
            #expect(error.isSystemError, "\(error)")
        }
    }

    @Test func dataTypes_haveTheirSizes() {
        #expect(DataType.f32.byteCount(shape: [2, 3]) == 24)
        #expect(DataType.f4.byteCount(shape: [3, 2]) == 3)
        #expect(DataType.f6E2M3.byteCount(shape: [4]) == 3)
        #expect(DataType.f6E2M3.byteCount(shape: [3]) == nil)
        #expect(DataType.f64.byteCount(shape: []) == 8)
        #expect(DataType.f64.byteCount(shape: [.max, 2]) == nil)
        #expect(DataType.u8.byteCount(shape: [-1, 0]) == nil)
        #expect(Set(DataType.allCases.map(\.rawValue)).count == 22)
    }
}
