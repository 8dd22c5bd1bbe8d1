// Forward for few query rows over many keys (decoding): the keys are split among blocks and warps.
//
// Source: Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context inference", 2023; the merge is the
// associative one of Milakov and Gimelshein, arXiv 1805.02867, section 3.1.
//
//   1. A block takes one range of keys of one key/value head, and up to 16 rows of queries: all query heads
//      of the group and their positions together, so that K and V are read once for the whole group.
//   2. Its warps take the range's tiles of 16 keys in turn, each with m, l and O of its own: no barriers. A
//      warp's tiles of K and V alternate in a ring.
//   3. For each tile: scores, maskTile, onlineSoftmax, rescale, accumulate.
//   4. The warps' (m, l, O) are merged; the block writes them in F32, m in log2 units.
//   5. A second launch merges the ranges s: m = max m_s, l = sum of 2^(m_s - m) l_s,
//      O = sum of 2^(m_s - m) O_s / l, lse = m + log2 l.
//
// Ranges are not normalised: an lse of F32 is rounded to 2^-24 of itself, and a weight 2^lse would carry ten
// times that. The work is the reading of K and V, so the copies run several tiles ahead.
// Shared memory: 16 D + Warps · Slots · 16 D elements.
#include "forward_tile_steps.cuh"
#include "kernel_entry.cuh"
#include "online_softmax_rows.cuh"

// What a range of keys has found of one row: where it lies in partialOutput and partialStatistics.
struct RangeRow {
    float *O, *m, *l;

    // - row: of all batches, heads and queries.
    __device__ RangeRow(const AttentionLaunch &launch, int64_t range, int64_t row) {
        const int64_t rows = int64_t(launch.batch) * launch.heads * launch.queryLength;
        O = reinterpret_cast<float *>(launch.partialOutput) + (range * rows + row) * launch.valueHeadSize;
        m = reinterpret_cast<float *>(launch.partialStatistics) + 2 * range * rows + row;
        l = m + rows;
    }
};

// Slots: tiles of a warp's ring, all but one of which are being filled.
template <typename T, int D, int Warps, int Slots>
struct SplitKeysForward {
    static constexpr int threads = Warps * 32, tileKeys = 16, packedRows = 16;
    static constexpr int queryTile = packedRows, keyTile = tileKeys;
    static constexpr int tileBytes = SharedTile<T, D>::bytes(tileKeys);
    static constexpr int ringBytes = Slots * tileBytes;
    static constexpr int queryBytes = SharedTile<T, D>::bytes(packedRows);
    static constexpr int mergeBytes = packedRows * D * 4 + packedRows * 8; // O, then (m, l), of one warp
    static constexpr int copyBytes = queryBytes + Warps * ringBytes;
    static constexpr int sharedBytes = copyBytes > Warps * mergeBytes ? copyBytes : Warps * mergeBytes;
    using Plan = TilePlan<packedRows, tileKeys>;

    // Grid (splits, Hkv, B · ceil(Nq H / Hkv / 16)).
    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const int rowCount = launch.queryLength * launch.groupSize;
        const int rowTiles = tileCount(rowCount, packedRows);
        const int batch = blockIdx.z / rowTiles, firstRow = blockIdx.z % rowTiles * packedRows;
        const int keyHead = blockIdx.y;
        const Plan plan(launch, batch);
        // Packed row r is query r / groupSize of head r % groupSize of the group.
        auto query = [&](int r) { return min(firstRow + r, rowCount - 1) / launch.groupSize; };
        auto head = [&](int r) {
            return keyHead * launch.groupSize + min(firstRow + r, rowCount - 1) % launch.groupSize;
        };

        const TileRange visible = plan.visibleKeys({query(0), query(packedRows - 1) + 1});
        const int allTiles = tileCount(visible.upper, tileKeys);
        const int tilesOfSplit = (allTiles + launch.splits - 1) / launch.splits;
        const TileRange tiles = {
            int(blockIdx.x) * tilesOfSplit, min((int(blockIdx.x) + 1) * tilesOfSplit, allTiles)};

        const uint32_t Qs = sharedAddress(memory), ring = Qs + queryBytes + warp * ringBytes;
        // Starts the copy of the warp's next tile of K or V; which of them is known when this is compiled.
        auto load = [&](int j, int slot, bool isValue) {
            if (j < tiles.upper) {
                int entry = batch; // the rows' addresses are computed for each copy: no register is left
                asm volatile("" : "+r"(entry));
                const Rows<const T> rows(isValue ? launch.value : launch.key, entry, keyHead);
                copyTile<T, D, tileKeys, 32>(
                    ring + slot * tileBytes, rows, j * tileKeys, visible.upper,
                    isValue ? launch.valueHeadSize : launch.headSize, launch.vectorised, lane);
            }
            commitCopies();
        };
        const int first = tiles.lower + warp;
#pragma unroll
        for (int s = 0; s < Slots - 1; ++s) load(first + s / 2 * Warps, s, s % 2 != 0);
        for (int index = threadIdx.x; index < packedRows * D; index += threads) {
            const int r = index / D, d = index % D;
            T element = Format<T>::narrow(0);
            if (firstRow + r < rowCount && d < launch.headSize)
                element = Rows<const T>(launch.query, batch, head(r)).row(query(r))[d];
            *reinterpret_cast<T *>(memory + SharedTile<T, D>::elementOffset(r, d)) = element;
        }
        __syncthreads();
        if (launch.softmaxScaleLog2 < 0) {
            negateTile<T>(Qs, queryBytes);
            __syncthreads();
        }

        const FragmentReader<T, D> Q(Qs, laneRowA(lane), laneHalfA(lane));
        const FragmentReader<T, D> K0(ring, laneRowB(lane), laneHalfB(lane));
        Steps steps;
        steps.reset();
        int slot = 0;
        // The slot of K (0) or V (1) of tile j, once it has come; the one read before is filled again.
        auto next = [&](int j, int operand) {
            waitForCopies<Slots - 2>();
            __syncwarp();
            constexpr int ahead = Slots - 1;
            load(j + (operand + ahead) / 2 * Warps, slot == 0 ? ahead : slot - 1, (operand + ahead) % 2 != 0);
            const int current = slot;
            slot = slot == ahead ? 0 : slot + 1;
            return current * tileBytes;
        };
#pragma unroll 1
        for (int j = first; j < tiles.upper; j += Warps) {
            steps.scores(Q, K0.advanced(next(j, 0)));
            if (plan.visibleKeys(query(0)).upper < (j + 1) * tileKeys)
                steps.maskTile([&](int row) { return plan.visibleKeys(query(row)); }, j * tileKeys, lane);
            steps.onlineSoftmax(launch.positiveScaleLog2);
            int reader = lane; // V's addresses, too, are computed for each tile
            asm volatile("" : "+r"(reader));
            steps.accumulate(TransposedReader<T, D>(ring + next(j, 1), 0, reader));
        }
        waitForCopies<0>();
        __syncthreads();
        deposit(steps, reinterpret_cast<float *>(memory + warp * mergeBytes), lane);
        __syncthreads();
        for (int r = warp; r < packedRows && firstRow + r < rowCount; r += Warps)
            mergeWarps(launch, reinterpret_cast<const float *>(memory), r, batch, head(r), query(r), lane);
    }

private:
    using Steps = ForwardTileSteps<T, D, tileKeys, 1, D / stepColumns<T>>;

    // A warp's O, [16][D], then m and l of its rows.
    __device__ static void deposit(const Steps &steps, float *target, int lane) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = 8 * r + lane / 4;
            float sum = steps.l[0][r];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            if (lane % 4 == 0) {
                target[packedRows * D + 2 * row] = steps.m[0][r];
                target[packedRows * D + 2 * row + 1] = sum;
            }
#pragma unroll
            for (int f = 0; f < D / 8; ++f)
#pragma unroll
                for (int e = 0; e < 2; ++e)
                    target[row * D + columnOfProduct<T>(f, e, lane)] = steps.O[0][f][2 * r + e];
        }
    }

    __device__ static void mergeWarps(
        const AttentionLaunch &launch, const float *parts, int row, int batch, int head, int query,
        int lane) {
        constexpr int part = mergeBytes / 4;
        float maximum = -INFINITY, sum = 0, weights[Warps];
        for (int w = 0; w < Warps; ++w) maximum = fmaxf(maximum, parts[w * part + packedRows * D + 2 * row]);
#pragma unroll
        for (int w = 0; w < Warps; ++w) {
            const float *statistics = parts + w * part + packedRows * D + 2 * row;
            weights[w] = statistics[1] == 0 ? 0 : exp2Approximate(statistics[0] - maximum);
            sum += weights[w] * statistics[1];
        }
        const RangeRow range(
            launch, blockIdx.x, (int64_t(batch) * launch.heads + head) * launch.queryLength + query);
        for (int d = lane; d < launch.valueHeadSize; d += 32) {
            float value = 0;
#pragma unroll
            for (int w = 0; w < Warps; ++w) value += weights[w] * parts[w * part + row * D + d];
            range.O[d] = value;
        }
        if (lane == 0) *range.m = maximum, *range.l = sum;
    }
};

// Step 5. Grid (B H Nq): a block merges the ranges of one row, which its warps take in turn.
template <typename T>
struct SplitKeysMerge {
    static constexpr int warps = 4, threads = warps * 32, sharedBytes = 0, queryTile = 1, keyTile = 0;

    __device__ static void run(const AttentionLaunch &launch) {
        __shared__ float parts[warps][32 * WarpRow::parts];
        const int64_t row = blockIdx.x;
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        // m and l, in every warp. A range without keys has no weight. One with a NaN has it in l.
        float m = -INFINITY, l = 0;
        for (int s = lane; s < launch.splits; s += 32) m = fmaxf(m, *RangeRow(launch, s, row).m);
        m = warpMaximum(m);
        auto weight = [&](const RangeRow &range) {
            return *range.l == 0 ? 0 : exp2Approximate(*range.m - m);
        };
        for (int s = lane; s < launch.splits; s += 32) {
            const RangeRow range(launch, s, row);
            l += weight(range) * *range.l;
        }
        l = warpSum(l);

        WarpRow part = WarpRow::zero();
        for (int s = warp; s < launch.splits; s += warps) {
            const RangeRow range(launch, s, row);
            if (*range.l != 0) part.update(1, weight(range), WarpRow::load(range.O, launch.valueHeadSize));
        }
        part.store(parts[warp], 32 * WarpRow::parts, 1);
        __syncthreads();

        const int query = row % launch.queryLength, pair = row / launch.queryLength;
        T *O = Rows<T>(launch.output, pair / launch.heads, pair % launch.heads).row(query);
        bool fails = false;
        for (int d = threadIdx.x; d < launch.valueHeadSize; d += threads) {
            float value = 0;
#pragma unroll
            for (int w = 0; w < warps; ++w) value += parts[w][d];
            value = l == 0 ? 0 : value / l;
            fails |= !(value * 0 == 0);
            O[d] = Format<T>::narrow(value);
        }
        // Such a row may have it from a key that it does not see: see online_softmax_rows.cuh.
        if (__syncthreads_or(fails) && mayLeak<T>(launch)) {
            if (warp == 0) recomputeRows<T>(launch, pair, query, query + 1);
            return;
        }
        if (threadIdx.x == 0)
            reinterpret_cast<float *>(launch.logSumExp)[row] =
                l == 0 ? -INFINITY : (m + log2f(l)) * 0.6931471805599453f;
    }
};

// With a slot less where a block has less shared memory.
template <typename T, int D, int Warps, int Slots>
using MostSlots =
    LargestThatFits<SplitKeysForward<T, D, Warps, Slots>, SplitKeysForward<T, D, Warps, Slots - 1>>;
// The same with two warps less.
template <int D, int Warps>
using MostWarps =
    LargestThatFits<SplitKeysForward<float, D, Warps, 2>, SplitKeysForward<float, D, Warps - 2, 2>>;

// Warps and slots. GB/s of K and V on an H100 at 8,32/8,1,16384,D (copy: 3008), with two ranges a head; then
// with four warps, the slots that fit, and four ranges (*: of another run; at D 256 in F32 they spill):
//   bf16   D 64: 2734, 2673   D 96: 2816, 2762   D 128: 2898, 2839    D 192: 2929, 2870    D 256: 2985, 2932
//   f32    D 64: 2884, 2813   D 96: 2916, 2872   D 128: 3002, 2909*   D 192: 2953, 2942*   D 256: 2839, 2869*
#define SPLIT_KEYS(format, T)                                                                                \
    FATTN_ENTRY(fattn_split_forward_##format##_d32, run, 2, SplitKeysForward<T, 32, 8, 6>)                   \
    FATTN_ENTRY(fattn_split_forward_##format##_d64, run, 2, SplitKeysForward<T, 64, 8, 4>)                   \
    FATTN_ENTRY(fattn_split_forward_##format##_d96, run, 2, SplitKeysForward<T, 96, 8, 4>)                   \
    FATTN_ENTRY(fattn_split_forward_##format##_d128, run, 2, SplitKeysForward<T, 128, 8, 3>)                 \
    FATTN_ENTRY(fattn_split_forward_##format##_d192, run, 1, MostSlots<T, 192, 8, 4>)                        \
    FATTN_ENTRY(fattn_split_forward_##format##_d256, run, 1, MostSlots<T, 256, 8, 3>)                        \
    FATTN_ENTRY(fattn_split_merge_##format, run, 1, SplitKeysMerge<T>)

SPLIT_KEYS(bf16, __nv_bfloat16)
SPLIT_KEYS(f16, __half)

FATTN_ENTRY(fattn_split_forward_f32_d32, run, 2, SplitKeysForward<float, 32, 8, 4>)
FATTN_ENTRY(fattn_split_forward_f32_d64, run, 2, SplitKeysForward<float, 64, 8, 3>)
FATTN_ENTRY(fattn_split_forward_f32_d96, run, 1, MostSlots<float, 96, 8, 4>)
FATTN_ENTRY(fattn_split_forward_f32_d128, run, 1, MostSlots<float, 128, 8, 3>)
FATTN_ENTRY(fattn_split_forward_f32_d192, run, 1, MostWarps<192, 8>)
FATTN_ENTRY(fattn_split_forward_f32_d256, run, 1, MostWarps<256, 6>)
FATTN_ENTRY(fattn_split_merge_f32, run, 1, SplitKeysMerge<float>)
