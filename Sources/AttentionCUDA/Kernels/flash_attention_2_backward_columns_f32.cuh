// Q, dO, K and V transposed in device memory, for the products of the F32 backward kernel that read them
// across k.
//
// Every block reads the columns of several tiles. Transposed on their way to shared memory, they came in
// copies of four bytes, which took a tenth of the time and made shared loads wait; one pass before costs 3 %
// at N 2048, and less the longer the sequence is. Under a mask, which halves what follows but not that pass,
// the main kernel's blocks transpose K and V themselves, each its own tile.
#pragma once

#include "flash_attention_2_backward_rows.cuh"
#include "float_stream_steps.cuh"
#include "float_tile_steps.cuh"

// Where a head's columns lie. Rows are padded to a multiple of the largest tile's and columns to D, with
// zeros.
template <int D>
struct TransposedColumns {
    const AttentionLaunch &launch;

    __device__ explicit TransposedColumns(const AttentionLaunch &launch) : launch(launch) {}

    __device__ static int64_t padded(int rows) {
        return tileCount(rows, TileColumnPadding) * int64_t(TileColumnPadding);
    }
    __device__ int64_t queryRows() const { return padded(launch.queryLength); }
    __device__ int64_t keyRows() const { return padded(launch.keyLength); }

    // Of Q, or of dO. Pair: batch entry and head.
    __device__ float *queries(int pair, bool gradient) const {
        const int64_t pairs = launch.batch * launch.heads;
        return base() + ((gradient ? pairs : 0) + pair) * queryRows() * D;
    }
    // Of K, or of V. Pair: batch entry and key/value head.
    __device__ float *keys(int pair, bool value) const {
        const int64_t pairs = launch.batch * launch.keyValueHeads,
                      before = 2 * int64_t(launch.batch * launch.heads);
        return base() + before * queryRows() * D + ((value ? pairs : 0) + pair) * keyRows() * D;
    }

private:
    __device__ float *base() const { return reinterpret_cast<float *>(launch.transposed); }
};

// All that comes before the main kernel: the columns, rowTerms = (lse, delta), dQ cleared where it is added
// to (gradientSum), and dK and dV cleared where several blocks of the kernel after, of that KeyTile, add to
// them. One launch, so that dO is read once. A block takes 32 rows of K and V or of Q, dO and O, eight lanes
// a row; grid: padded Nq / 32 · B · H, and then, where the main kernel's blocks share key tiles, padded
// Nk / 32 · B · Hkv.
template <int D, int KeyTile>
struct BackwardColumns {
    static constexpr int threads = 256, tile = 32, pitch = tile + 1; // the odd pitch: all banks, both ways
    static constexpr int sharedBytes = 2 * tile * pitch * 4, queryTile = tile, keyTile = tile;
    using Elements = float[D / tile][4]; // a thread's: columns 4 · lane + {0 … 3} of every 32

    __device__ static void run(const AttentionLaunch &launch) {
        const TransposedColumns<D> columns(launch);
        const int keyTiles = columns.keyRows() / tile, queryTiles = columns.queryRows() / tile;
        const int queryBlocks = queryTiles * launch.batch * launch.heads, block = blockIdx.x;
        if (block < queryBlocks)
            queries(launch, columns, block / queryTiles, block % queryTiles * tile);
        else
            keys(launch, columns, (block - queryBlocks) / keyTiles, (block - queryBlocks) % keyTiles * tile);
    }

private:
    __device__ static void keys(
        const AttentionLaunch &launch, const TransposedColumns<D> &columns, int pair, int first) {
        const int batch = pair / launch.keyValueHeads, head = pair % launch.keyValueHeads;
        Elements k = {}, v = {};
        load(k, launch, launch.key, batch, head, first, launch.keyLength, launch.headSize);
        load(v, launch, launch.value, batch, head, first, launch.keyLength, launch.valueHeadSize);
        transpose(k, columns.keys(pair, false) + first, columns.keyRows());
        transpose(v, columns.keys(pair, true) + first, columns.keyRows());
        const int tilesOfHead = tileCount(launch.keyLength, KeyTile);
        const int tilesAfter = tilesOfHead * (launch.batch * launch.keyValueHeads - pair) - first / KeyTile;
        if (tilesAfter > launch.splitTiles) return;
        clear(launch, launch.keyGradient, batch, head, first, launch.keyLength, launch.headSize);
        clear(launch, launch.valueGradient, batch, head, first, launch.keyLength, launch.valueHeadSize);
    }

    __device__ static void queries(
        const AttentionLaunch &launch, const TransposedColumns<D> &columns, int pair, int first) {
        const int batch = pair / launch.heads, head = pair % launch.heads, row = first + threadIdx.x / 8;
        const int rows = launch.queryLength;
        Elements q = {}, dO = {}, O = {};
        load(q, launch, launch.query, batch, head, first, rows, launch.headSize);
        load(dO, launch, launch.outputGradient, batch, head, first, rows, launch.valueHeadSize);
        load(O, launch, launch.output, batch, head, first, rows, launch.valueHeadSize);
        const float *lse = reinterpret_cast<const float *>(launch.logSumExp) + int64_t(pair) * rows;
        const float offset = row < rows ? backwardOffset(lse[row]) : INFINITY;
        transpose(q, columns.queries(pair, false) + first, columns.queryRows());
        transpose(dO, columns.queries(pair, true) + first, columns.queryRows());
        const float delta = dot(dO, O);
        if (threadIdx.x % 8 == 0 && row < paddedRowCount(launch))
            reinterpret_cast<float2 *>(launch.rowTerms)[int64_t(pair) * paddedRowCount(launch) + row] =
                make_float2(offset, delta);
        if (launch.gradientSum)
            clear(launch, launch.queryGradient, batch, head, first, rows, launch.headSize);
    }

    // The product of two rows, in the order of dP's sum: where a row sees one key, O is V, and so delta is dP
    // to the last bit and dS is 0, as it should be.
    __device__ static float dot(const Elements &a, const Elements &b) {
        float sum = 0;
#pragma unroll
        for (int part = 0; part < D / tile; ++part)
#pragma unroll
            for (int lane = 0; lane < 8; ++lane) {
                float next = sum;
#pragma unroll
                for (int e = 0; e < 4; ++e) next = fmaf(a[part][e], b[part][e], next);
                sum = __shfl_sync(~0u, next, lane, 8);
            }
        return sum;
    }

    __device__ static void load(
        Elements &x, const AttentionLaunch &launch, const TileOperand &operand, int batch, int head,
        int first, int limit, int size) {
        const int row = first + threadIdx.x / 8, four = threadIdx.x % 8 * 4;
        if (row >= limit) return;
        const float *source = Rows<const float>(operand, batch, head).row(row);
#pragma unroll
        for (int part = 0; part < D / tile; ++part) {
            const int column = part * tile + four;
            if (launch.vectorised && column < size) {
                const float4 v = *reinterpret_cast<const float4 *>(source + column);
                x[part][0] = v.x, x[part][1] = v.y, x[part][2] = v.z, x[part][3] = v.w;
            } else {
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    if (column + e < size) x[part][e] = source[column + e];
            }
        }
    }

    __device__ static void transpose(const Elements &x, float *target, int64_t stride) {
        extern __shared__ __align__(1024) unsigned char bytes[];
        float *memory = reinterpret_cast<float *>(bytes);
        const int row = threadIdx.x / 8, four = threadIdx.x % 8 * 4;
        target += row * stride + four;
#pragma unroll
        for (int part = 0; part < D / tile; ++part) {
            float *buffer = memory + part % 2 * (tile * pitch);
#pragma unroll
            for (int e = 0; e < 4; ++e) buffer[(four + e) * pitch + row] = x[part][e];
            __syncthreads();
            const float *column = buffer + row * pitch + four;
            *reinterpret_cast<float4 *>(target + part * tile * stride) =
                make_float4(column[0], column[1], column[2], column[3]);
        }
        __syncthreads();
    }

    __device__ static void clear(
        const AttentionLaunch &launch, const TileOperand &operand, int batch, int head, int first, int limit,
        int size) {
        const int row = first + threadIdx.x / 8, four = threadIdx.x % 8 * 4;
        if (row >= limit) return;
        float *target = Rows<float>(operand, batch, head).row(row);
#pragma unroll 1
        for (int column = four; column < size; column += tile) {
            if (launch.vectorised) {
                *reinterpret_cast<float4 *>(target + column) = make_float4(0, 0, 0, 0);
            } else {
                for (int e = column; e < min(column + 4, size); ++e) target[e] = 0;
            }
        }
    }
};

// Kᵀ and Vᵀ of a key tile that one block of the main kernel reads, by that block before it starts: through
// shared memory, where nothing is yet, into device memory, whose cache has them from then on. Inline: called,
// it took up to 1.7 % of the block's time more.
template <int D, int KeyTile>
constexpr int transposeKeysBytes = 2 * D * (KeyTile + 4) * 4;
template <int D, int KeyTile, int Threads>
__device__ __forceinline__ void transposeKeys(
    const AttentionLaunch &launch, float *memory, int batch, int keyHead, int first) {
    constexpr int pitch = KeyTile + 4, fours = KeyTile / 4, rowsAtOnce = Threads / fours;
    const int row = threadIdx.x / fours, four = threadIdx.x % fours * 4;
    copyTransposed<KeyTile, D, pitch, Threads>(
        memory, Rows<const float>(launch.key, batch, keyHead), first, launch.keyLength, launch.headSize, 0);
    copyTransposed<KeyTile, D, pitch, Threads>(
        memory + D * pitch, Rows<const float>(launch.value, batch, keyHead), first, launch.keyLength,
        launch.valueHeadSize, 0);
    commitCopies();
    waitForCopies<0>();
    __syncthreads();
    const TransposedColumns<D> columns(launch);
    const int64_t keys = columns.keyRows();
    for (int value = 0; value < 2; ++value) {
        float *target = columns.keys(batch * launch.keyValueHeads + keyHead, value) + first + four;
        const float *source = memory + value * D * pitch + four;
#pragma unroll 4
        for (int column = row; column < D; column += rowsAtOnce)
            *reinterpret_cast<float4 *>(target + column * keys) =
                *reinterpret_cast<const float4 *>(source + column * pitch);
    }
    __syncthreads();
}

// dK = dV = 0 for keys first … limit, which are past the length of their batch entry. Out of line, so that
// the kernel's loops keep their registers.
template <int Threads>
__device__ __noinline__ void clearAbsentKeys(
    const AttentionLaunch &launch, int batch, int keyHead, int first, int limit) {
    const Rows<float> dK(launch.keyGradient, batch, keyHead), dV(launch.valueGradient, batch, keyHead);
    for (int key = first; key < min(limit, launch.keyLength); ++key) {
        for (int column = threadIdx.x; column < launch.headSize; column += Threads) dK.row(key)[column] = 0;
        for (int column = threadIdx.x; column < launch.valueHeadSize; column += Threads)
            dV.row(key)[column] = 0;
    }
}
