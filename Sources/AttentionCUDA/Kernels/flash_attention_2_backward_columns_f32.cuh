// Q, dO, K and V transposed in device memory, for the products of the F32 backward kernel that read them
// across k.
//
// Every block reads the columns of several tiles. Transposed on their way to shared memory, they came in
// copies of four bytes, which took a tenth of the time and made shared loads wait; one pass before costs 2 %
// at N 2048, and less the longer the sequence is.
#pragma once

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

// Writes them, and clears dK and dV where several blocks of the kernel after, of that KeyTile, add to them. A
// block takes 32 rows of K and V or of Q and dO; grid: padded Nk / 32 · B · Hkv, and then padded
// Nq / 32 · B · H.
template <int D, int KeyTile>
struct BackwardColumns {
    static constexpr int threads = 256, tile = 32, pitch = tile + 1; // the odd pitch: all banks, both ways
    static constexpr int sharedBytes = 2 * tile * pitch * 4, queryTile = tile, keyTile = tile;

    __device__ static void run(const AttentionLaunch &launch) {
        const TransposedColumns<D> columns(launch);
        const int keyTiles = columns.keyRows() / tile, queryTiles = columns.queryRows() / tile;
        const int keyBlocks = keyTiles * launch.batch * launch.keyValueHeads, block = blockIdx.x;
        if (block < keyBlocks) {
            const int pair = block / keyTiles, first = block % keyTiles * tile;
            const int batch = pair / launch.keyValueHeads, head = pair % launch.keyValueHeads;
            transpose(launch, launch.key, batch, head, first, launch.keyLength, launch.headSize,
                      columns.keys(pair, false) + first, columns.keyRows());
            transpose(launch, launch.value, batch, head, first, launch.keyLength, launch.valueHeadSize,
                      columns.keys(pair, true) + first, columns.keyRows());
            const int tilesOfHead = tileCount(launch.keyLength, KeyTile);
            const int tilesAfter =
                tilesOfHead * (launch.batch * launch.keyValueHeads - pair) - first / KeyTile;
            if (tilesAfter <= launch.splitTiles) {
                clear(Rows<float>(launch.keyGradient, batch, head), first, launch.keyLength, launch.headSize);
                clear(
                    Rows<float>(launch.valueGradient, batch, head), first, launch.keyLength,
                    launch.valueHeadSize);
            }
        } else {
            const int pair = (block - keyBlocks) / queryTiles,
                      first = (block - keyBlocks) % queryTiles * tile;
            const int batch = pair / launch.heads, head = pair % launch.heads;
            transpose(launch, launch.query, batch, head, first, launch.queryLength, launch.headSize,
                      columns.queries(pair, false) + first, columns.queryRows());
            transpose(
                launch, launch.outputGradient, batch, head, first, launch.queryLength, launch.valueHeadSize,
                columns.queries(pair, true) + first, columns.queryRows());
        }
    }

private:
    __device__ static void clear(const Rows<float> &rows, int first, int limit, int size) {
#pragma unroll 1
        for (int index = threadIdx.x; index < tile * size; index += threads)
            if (first + index / size < limit) rows.row(first + index / size)[index % size] = 0;
    }

    __device__ static void transpose(
        const AttentionLaunch &launch, const TileOperand &operand, int batch, int head, int first, int limit,
        int size, float *target, int64_t stride) {
        extern __shared__ __align__(1024) unsigned char bytes[];
        float *memory = reinterpret_cast<float *>(bytes);
        const int row = threadIdx.x / 8, four = threadIdx.x % 8 * 4;
        const bool exists = first + row < limit;
        const float *source = Rows<const float>(operand, batch, head).row(first + row) + four;
        target += row * stride + four;
        float x[D / tile][4] = {};
#pragma unroll
        for (int part = 0; part < D / tile; ++part) {
            const int column = part * tile;
            if (launch.vectorised && exists && column + four < size) {
                const float4 v = *reinterpret_cast<const float4 *>(source + column);
                x[part][0] = v.x, x[part][1] = v.y, x[part][2] = v.z, x[part][3] = v.w;
            } else if (exists) {
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    if (column + four + e < size) x[part][e] = source[column + e];
            }
        }
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
};
