// What the machine can do at best, measured with the same registers that the kernels use.

import CVectorInstructions

/// Chains of multiply-adds, as many as the register tile has accumulators, so that neither latency nor
/// memory limits them: the ceiling against which every speed is given.
@inline(never)
func multiplyAddLoop(_ rounds: Int, _ out: UnsafeMutableRawPointer) -> Int {
    var sum = InlineArray<12, Vector>(repeating: .zero)
    for chain in 0..<12 { sum[unchecked: chain] = broadcast(Scalar(chain)) }
    let x = broadcast(scalars(out).pointee)
    let y = broadcast(scalars(out).pointee + 1)
    for _ in 0..<rounds {
        for chain in 0..<12 { sum[unchecked: chain] = step(sum[unchecked: chain], x, y) }
    }
    var total = Vector.zero
    for chain in 0..<12 { total += sum[unchecked: chain] }
    scalars(out).pointee = horizontalSum(total)
    return rounds * 12 * lanes * flopsPerLane
}

#if KERNEL_BF16
/// A step of a chain: two products and two sums.
@inline(__always)
private func step(_ sum: Vector, _ x: Vector, _ y: Vector) -> Vector { multiplyAdd(x, y, sum) }
@inline(__always) private var flopsPerLane: Int { 4 }
#else
/// A step of a chain: a product, which depends on the step before, and a sum.
@inline(__always)
private func step(_ sum: Vector, _ x: Vector, _ y: Vector) -> Vector { fma(sum, x, y) }
@inline(__always) private var flopsPerLane: Int { 2 }
#endif

@inline(never)
func readStream(_ n: Int, _ src: UnsafeRawPointer, _ out: UnsafeMutableRawPointer) {
    let p = scalars(src)
    var sum = InlineArray<8, Vector>(repeating: .zero)
    var i = 0
    while i + 8 * lanes <= n {
        // 16 kB ahead: the processor's own prefetching ends with a page of memory.
        for chain in 0..<8 { prefetch_line(p + i + chain * lanes + 16384 / MemoryLayout<Scalar>.size) }
        for chain in 0..<8 { sum[unchecked: chain] += load(p + i + chain * lanes) }
        i += 8 * lanes
    }
    var total = Vector.zero
    for chain in 0..<8 { total += sum[unchecked: chain] }
    scalars(out).pointee = horizontalSum(total)
}
