// Forward for few query rows over many keys (decoding): the keys are split among blocks and warps.
//
// Source: Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context inference", 2023; the merge is the
// associative one of Milakov and Gimelshein, arXiv 1805.02867, section 3.1.
//
//   1. A block takes one range of keys of one key/value head, and up to 16 rows of queries: all query heads
//      of the group and their positions together, so that K and V are read once for the whole group.
//   2. Its warps take the range's tiles of 16 keys in turn, each with m, l and O of its own: no barriers.
//   3. For each tile: scores, maskTile, onlineSoftmax, rescale, accumulate.
//   4. The warps' (m, l, O) are merged; the block writes O / l in F32 and lse in log2 units.
//   5. A second launch merges the ranges: O = sum of O_s 2^(lse_s - lse), lse = log2 sum 2^lse_s.
//
// The work is the reading of K and V, so the copies run several tiles ahead.
// Shared memory: 16 D + Warps · Stages · 32 D elements of 2 bytes.
#include "forward_tile_steps.cuh"
#include "kernel_entry.cuh"
#include "online_softmax_rows.cuh"

template <typename T, int D, int Warps, int Stages>
struct SplitKeysForward {
    static constexpr int threads = Warps * 32, tileKeys = 16, packedRows = 16;
    static constexpr int queryTile = packedRows, keyTile = tileKeys;
    static constexpr int tileBytes = SharedTile<T, D>::bytes(tileKeys);
    static constexpr int ringBytes = Stages * 2 * tileBytes;
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
        const Rows<const T> K(launch.key, batch, keyHead), V(launch.value, batch, keyHead);
        auto load = [&](int j, int slot) {
            if (j < tiles.upper) {
                const uint32_t tile = ring + slot * 2 * tileBytes;
                copyTile<T, D, tileKeys, 32>(
                    tile, K, j * tileKeys, visible.upper, launch.headSize, launch.vectorised, lane);
                copyTile<T, D, tileKeys, 32>(
                    tile + tileBytes, V, j * tileKeys, visible.upper, launch.valueHeadSize, launch.vectorised,
                    lane);
            }
            commitCopies();
        };
#pragma unroll
        for (int s = 0; s < Stages - 1; ++s) load(tiles.lower + warp + s * Warps, s);
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
        const TransposedReader<T, D> V0(ring + tileBytes, 0, lane);
        ForwardTileSteps<T, D, tileKeys, 1> steps;
        steps.reset();
        int slot = 0;
#pragma unroll 1
        for (int j = tiles.lower + warp; j < tiles.upper; j += Warps) {
            waitForCopies<Stages - 2>();
            __syncwarp();
            load(j + (Stages - 1) * Warps, slot == 0 ? Stages - 1 : slot - 1);
            steps.scores(Q, K0.advanced(slot * 2 * tileBytes));
            if (plan.visibleKeys(query(0)).upper < (j + 1) * tileKeys)
                steps.maskTile([&](int row) { return plan.visibleKeys(query(row)); }, j * tileKeys, lane);
            steps.onlineSoftmax(launch.positiveScaleLog2);
            steps.accumulate(V0.advanced(slot * 2 * tileBytes));
            slot = slot + 1 == Stages ? 0 : slot + 1;
        }
        waitForCopies<0>();
        __syncthreads();
        deposit(steps, reinterpret_cast<float *>(memory + warp * mergeBytes), lane);
        __syncthreads();
        for (int r = warp; r < packedRows && firstRow + r < rowCount; r += Warps)
            mergeWarps(launch, reinterpret_cast<const float *>(memory), r, batch, head(r), query(r), lane);
    }

private:
    using Steps = ForwardTileSteps<T, D, tileKeys, 1>;

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
            for (int f = 0; f < D / 8; ++f) {
                target[row * D + 8 * f + 2 * (lane % 4)] = steps.O[0][f][2 * r];
                target[row * D + 8 * f + 2 * (lane % 4) + 1] = steps.O[0][f][2 * r + 1];
            }
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
        const float inverse = sum == 0 ? 0 : 1 / sum;
        const int64_t rows = int64_t(launch.batch) * launch.heads * launch.queryLength;
        const int64_t target =
            blockIdx.x * rows + (int64_t(batch) * launch.heads + head) * launch.queryLength + query;
        float *O = reinterpret_cast<float *>(launch.partialOutput) + target * launch.valueHeadSize;
        for (int d = lane; d < launch.valueHeadSize; d += 32) {
            float value = 0;
#pragma unroll
            for (int w = 0; w < Warps; ++w) value += weights[w] * parts[w * part + row * D + d];
            O[d] = value * inverse;
        }
        if (lane == 0)
            reinterpret_cast<float *>(launch.partialLogSumExp)[target] =
                sum == 0 ? -INFINITY : maximum + log2f(sum);
    }
};

// Step 5. Grid (B H Nq), 128 threads: a block merges the ranges of one row.
template <typename T>
struct SplitKeysMerge {
    static constexpr int threads = 128, sharedBytes = 0, queryTile = 1, keyTile = 0;

    __device__ static void run(const AttentionLaunch &launch) {
        const int64_t row = blockIdx.x, rows = int64_t(launch.batch) * launch.heads * launch.queryLength;
        const float *lse = reinterpret_cast<const float *>(launch.partialLogSumExp) + row;
        float maximum = -INFINITY, sum = 0;
        for (int s = 0; s < launch.splits; ++s) maximum = fmaxf(maximum, lse[s * rows]);
        // A range without keys has no weight. One with a NaN has it for lse too: fmaxf passes it over, the
        // sum takes it.
        auto weight = [&](int s) {
            return lse[s * rows] == -INFINITY ? 0 : exp2Approximate(lse[s * rows] - maximum);
        };
        for (int s = 0; s < launch.splits; ++s) sum += weight(s);
        const int query = row % launch.queryLength, pair = row / launch.queryLength;
        bool fails = false;
        T *O = Rows<T>(launch.output, pair / launch.heads, pair % launch.heads).row(query);
        const float *parts =
            reinterpret_cast<const float *>(launch.partialOutput) + row * launch.valueHeadSize;
        for (int d = threadIdx.x; d < launch.valueHeadSize; d += threads) {
            float value = 0;
            for (int s = 0; s < launch.splits; ++s) {
                const float w = weight(s);
                if (w != 0) value += w * parts[s * rows * launch.valueHeadSize + d];
            }
            value = sum == 0 ? 0 : value / sum;
            fails |= !(value * 0 == 0);
            O[d] = Format<T>::narrow(value);
        }
        // Under a mask a row of several has it computed anew: see online_softmax_rows.cuh.
        if (__syncthreads_or(fails) && launch.mask != TileMaskFull) {
            if (threadIdx.x < 32) recomputeRows<T>(launch, pair, query, query + 1);
            return;
        }
        if (threadIdx.x == 0)
            reinterpret_cast<float *>(launch.logSumExp)[row] =
                sum == 0 ? -INFINITY : (maximum + log2f(sum)) * 0.6931471805599453f;
    }
};

template <typename T>
using SplitKeysForward256 = LargestThatFits<SplitKeysForward<T, 256, 4, 3>, SplitKeysForward<T, 256, 4, 2>>;

// Warps and stages: what keeps 96 to 128 KiB of copies under way on a processor.
#define SPLIT_KEYS(format, T)                                                                                \
    FATTN_ENTRY(fattn_split_forward_##format##_d32, run, 2, SplitKeysForward<T, 32, 4, 6>)                   \
    FATTN_ENTRY(fattn_split_forward_##format##_d64, run, 2, SplitKeysForward<T, 64, 4, 4>)                   \
    FATTN_ENTRY(fattn_split_forward_##format##_d96, run, 2, SplitKeysForward<T, 96, 4, 4>)                   \
    FATTN_ENTRY(fattn_split_forward_##format##_d128, run, 2, SplitKeysForward<T, 128, 4, 3>)                 \
    FATTN_ENTRY(fattn_split_forward_##format##_d192, run, 1, SplitKeysForward<T, 192, 4, 3>)                 \
    FATTN_ENTRY(fattn_split_forward_##format##_d256, run, 1, SplitKeysForward256<T>)                         \
    FATTN_ENTRY(fattn_split_merge_##format, run, 1, SplitKeysMerge<T>)

SPLIT_KEYS(bf16, __nv_bfloat16)
SPLIT_KEYS(f16, __half)
