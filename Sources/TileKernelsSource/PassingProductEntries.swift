// A function for each entry of the tables of products with an operand that passes by.

import TileKernelTable

@inline(never)
func passPacked(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ panels: UnsafeRawPointer,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer,
    _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPacked(Scalars.self, m, n, k, a, aRow, panels, c, cRow, scratch, next, nextRow, nextWidth)
}

#if KERNEL_BF16

/// K in pairs along its rows, V in rows that are paired on their way.
@inline(__always)
var passingPairs: PassingProducts {
    PassingProducts(
        gemmNT: dotPassing, gemmPacked: passPacked, gemmNN: passRowsOfPairs, gemmTN: passColumnsOfPairs)
}

@inline(never)
func passRowsOfPairs(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ keep: UnsafeRawPointer,
    _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPassing(
        RowPairs.self, m, n, k, a, aRow, 1, b, bRow, c, cRow, keep, scratch, next, nextRow, nextWidth)
}

@inline(never)
func passColumnsOfPairs(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ keep: UnsafeRawPointer,
    _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPassing(
        RowPairs.self, m, n, k, a, 1, aRow, b, bRow, c, cRow, keep, scratch, next, nextRow, nextWidth)
}

#else

/// K and V in the scalars of the table.
@inline(__always)
var passingScalars: PassingProducts {
    PassingProducts(gemmNT: dotPassing, gemmPacked: passPacked, gemmNN: passRows, gemmTN: passColumns)
}

@inline(never)
func passRows(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ keep: UnsafeRawPointer,
    _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPassing(
        Scalars.self, m, n, k, a, aRow, 1, b, bRow, c, cRow, keep, scratch, next, nextRow, nextWidth)
}

@inline(never)
func passColumns(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ keep: UnsafeRawPointer,
    _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPassing(
        Scalars.self, m, n, k, a, 1, aRow, b, bRow, c, cRow, keep, scratch, next, nextRow, nextWidth)
}

#if !KERNEL_F64

/// K and V in BF16.
@inline(__always)
var passingBF16: PassingProducts {
    PassingProducts(
        gemmNT: dotPassingBF16, gemmPacked: passPackedBF16, gemmNN: passRowsBF16, gemmTN: passColumnsBF16)
}

@inline(never)
func passPackedBF16(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ panels: UnsafeRawPointer,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer,
    _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPacked(BFloat16s.self, m, n, k, a, aRow, panels, c, cRow, scratch, next, nextRow, nextWidth)
}

@inline(never)
func passRowsBF16(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ keep: UnsafeRawPointer,
    _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPassing(
        BFloat16s.self, m, n, k, a, aRow, 1, b, bRow, c, cRow, keep, scratch, next, nextRow, nextWidth)
}

@inline(never)
func passColumnsBF16(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ keep: UnsafeRawPointer,
    _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPassing(
        BFloat16s.self, m, n, k, a, 1, aRow, b, bRow, c, cRow, keep, scratch, next, nextRow, nextWidth)
}

/// K and V in F16.
@inline(__always)
var passingF16: PassingProducts {
    PassingProducts(
        gemmNT: dotPassingF16, gemmPacked: passPackedF16, gemmNN: passRowsF16, gemmTN: passColumnsF16)
}

@inline(never)
func passPackedF16(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ panels: UnsafeRawPointer,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer,
    _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPacked(Float16s.self, m, n, k, a, aRow, panels, c, cRow, scratch, next, nextRow, nextWidth)
}

@inline(never)
func passRowsF16(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ keep: UnsafeRawPointer,
    _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPassing(
        Float16s.self, m, n, k, a, aRow, 1, b, bRow, c, cRow, keep, scratch, next, nextRow, nextWidth)
}

@inline(never)
func passColumnsF16(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafeRawPointer, _ aRow: Int, _ b: UnsafeRawPointer, _ bRow: Int,
    _ c: UnsafeMutableRawPointer, _ cRow: Int, _ keep: UnsafeRawPointer,
    _ scratch: UnsafeMutableRawPointer, _ next: UnsafeRawPointer, _ nextRow: Int, _ nextWidth: Int
) {
    multiplyPassing(
        Float16s.self, m, n, k, a, 1, aRow, b, bRow, c, cRow, keep, scratch, next, nextRow, nextWidth)
}

#endif
#endif
