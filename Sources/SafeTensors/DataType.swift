/// The element types of the safetensors format.
public enum DataType: String, Hashable, Sendable, CaseIterable {
    case f64 = "F64"
    case f32 = "F32"
    case f16 = "F16"
    case bf16 = "BF16"
    case f8E4M3 = "F8_E4M3"
    case f8E5M2 = "F8_E5M2"
    case f8E8M0 = "F8_E8M0"
    case f8E4M3FNUZ = "F8_E4M3FNUZ"
    case f8E5M2FNUZ = "F8_E5M2FNUZ"
    case f6E2M3 = "F6_E2M3"
    case f6E3M2 = "F6_E3M2"
    case f4 = "F4"
    case c64 = "C64"
    case i64 = "I64"
    case i32 = "I32"
    case i16 = "I16"
    case i8 = "I8"
    case u64 = "U64"
    case u32 = "U32"
    case u16 = "U16"
    case u8 = "U8"
    case bool = "BOOL"

    /// Bits of one element. Types narrower than a byte are packed.
    public var bitCount: Int {
        switch self {
        case .f64, .c64, .i64, .u64: 64
        case .f32, .i32, .u32: 32
        case .f16, .bf16, .i16, .u16: 16
        case .f8E4M3, .f8E5M2, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ, .i8, .u8, .bool: 8
        case .f6E2M3, .f6E3M2: 6
        case .f4: 4
        }
    }

    /// Bytes of a dense tensor; nil if a size is negative, the count does not fit an `Int` or the tensor
    /// does not end on a byte.
    public func byteCount(shape: [Int]) -> Int? {
        var bits = bitCount
        var isEmpty = false
        for size in shape {
            guard size >= 0 else { return nil }
            if size == 0 {
                isEmpty = true
                continue
            }
            let (product, overflow) = bits.multipliedReportingOverflow(by: size)
            guard !overflow else { return nil }
            bits = product
        }
        if isEmpty { return 0 }
        return bits % 8 == 0 ? bits / 8 : nil
    }
}

/// A Swift type that has the memory layout of one of the format's element types.
public protocol SafeTensorsScalar: BitwiseCopyable, Sendable {
    static var dataType: DataType { get }
}

extension Double: SafeTensorsScalar { public static var dataType: DataType { .f64 } }
extension Float: SafeTensorsScalar { public static var dataType: DataType { .f32 } }
extension Int64: SafeTensorsScalar { public static var dataType: DataType { .i64 } }
extension Int32: SafeTensorsScalar { public static var dataType: DataType { .i32 } }
extension Int16: SafeTensorsScalar { public static var dataType: DataType { .i16 } }
extension Int8: SafeTensorsScalar { public static var dataType: DataType { .i8 } }
extension UInt64: SafeTensorsScalar { public static var dataType: DataType { .u64 } }
extension UInt32: SafeTensorsScalar { public static var dataType: DataType { .u32 } }
extension UInt16: SafeTensorsScalar { public static var dataType: DataType { .u16 } }
extension UInt8: SafeTensorsScalar { public static var dataType: DataType { .u8 } }
