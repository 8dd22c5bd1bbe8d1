// FlashAttention-2, forward, F32: exact products (FFMA), no tensor cores.
//
// Source and steps: flash_attention_2_forward.cu. K and V come in chunks, K a few columns of all the tile's
// keys at a time and V a few keys, through a ring of two: one chunk is copied while the one before is
// multiplied. P passes through shared memory, transposed, but only within a warp, which holds whole rows. Q
// lies transposed, once for all tiles. Shared memory: D (Br + 4) floats, 4 Bc (Br / 4 + 8) and two chunks.
#include "block_order.cuh"
#include "float_stream_products.cuh"
#include "float_stream_steps.cuh"
#include "kernel_entry.cuh"
#include "online_softmax_rows.cuh"

// X threads share a row of Bc = X · KeysOfThread keys. KeyChunk: columns of K, ValueChunk: keys of V that
// come at once.
template <int D, int X, int KeysOfThread, int KeyChunk, int ValueChunk, int RowsOfThread = 8>
struct FlashAttention2ForwardF32 {
    static constexpr int rowsOfThread = RowsOfThread, columnsOfThread = D / X;
    using Threads = StreamThreads<X, rowsOfThread>;
    static constexpr int QueryTile = Threads::blockRows, KeyTile = X * KeysOfThread;
    static constexpr int pitch = QueryTile + 4, scorePitch = Threads::warpRows + (X == 8 ? 8 : 4),
                         keyPitch = KeyChunk + 4;
    static constexpr int keyChunks = D / KeyChunk, valueChunks = KeyTile / ValueChunk;
    static constexpr int keyFloats = KeyTile * keyPitch, valueFloats = ValueChunk * D;
    static constexpr int chunkFloats = keyFloats > valueFloats ? keyFloats : valueFloats;
    static constexpr int threads = streamThreads, queryTile = QueryTile, keyTile = KeyTile;
    static constexpr int scoreFloats = KeyTile * scorePitch; // of a warp
    static constexpr int sharedBytes = (D * pitch + threads / 32 * scoreFloats + 2 * chunkFloats) * 4;
    // Where a key tile is shorter than half of Br, or as long: under a causal mask the first half sees none
    // of the last.
    static constexpr bool halvesRows = rowsOfThread == 8 && 2 * KeyTile <= QueryTile;
    using Plan = TilePlan<QueryTile, KeyTile>;
    using Scores = float[rowsOfThread][KeysOfThread];
    using Product = float[rowsOfThread][columnsOfThread];

    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        float *Qi = reinterpret_cast<float *>(memory), *P = Qi + D * pitch;
        float *const ring = P + threads / 32 * scoreFloats;
        const int queryTiles = tileCount(launch.queryLength, QueryTile);
        const BlockOrder order(launch, queryTiles, launch.batch * launch.heads);
        const int i = queryTiles - 1 - order.rank;
        const int batch = order.pair / launch.heads, head = order.pair % launch.heads;
        const Plan plan(launch, batch);
        const TileRange rows = plan.queries(i), tiles = plan.keyTiles(i), whole = plan.wholeKeyTiles(i);
        // What no row sees is not read. Computed for each copy: no register is left to keep it in.
        auto keyLimit = [&] {
            int last = rows.upper - 1;
            asm volatile("" : "+r"(last));
            return plan.visibleKeys(last).upper;
        };
        const int keyHead = head / launch.groupSize;
        int slot = 0;
        // A tile's chunks: those of K, and those of V that hold a key which a row sees.
        auto chunksOf = [&](int j) {
            if (valueChunks == 1 || whole.contains(j)) return keyChunks + valueChunks;
            return keyChunks + min(valueChunks, tileCount(keyLimit() - j * KeyTile, ValueChunk));
        };
        // Starts the copy of a chunk of tile j into the ring's other half; past the tile's is the first of
        // tile j + 1.
        auto load = [&](int j, int chunk, int chunks) {
            float *target = ring + (slot ^ 1) * chunkFloats;
            if (chunk == chunks) ++j, chunk = 0;
            if (j < tiles.upper) {
                if (chunk < keyChunks)
                    copyFloats<KeyTile, KeyChunk, keyPitch>(
                        target, Rows<const float>(launch.key, batch, keyHead), j * KeyTile, keyLimit(),
                        launch.headSize, launch.vectorised, chunk * KeyChunk);
                else
                    copyFloats<ValueChunk, D, D>(
                        target, Rows<const float>(launch.value, batch, keyHead),
                        j * KeyTile + (chunk - keyChunks) * ValueChunk, keyLimit(), launch.valueHeadSize,
                        launch.vectorised);
            }
            commitCopies();
        };
        // The chunk that was on its way is there, and the next one is on its way.
        auto advance = [&](int j, int chunk, int chunks) {
            waitForCopies<0>();
            __syncthreads();
            slot ^= 1;
            load(j, chunk + 1, chunks);
            return ring + slot * chunkFloats;
        };

        copyTransposed<QueryTile, D, pitch, threads>(
            Qi, Rows<const float>(launch.query, batch, head), rows.lower, rows.upper, launch.headSize, 0);
        load(tiles.lower, 0, keyChunks + valueChunks);
        const float *const Qr = Qi + Threads::row(0);
        // Pᵀ of this warp's rows, from this thread's first row on.
        float *const Pr = P + threadIdx.x / 32 * scoreFloats + Threads::rowOfWarp(0);
        // The keys that the first half of the rows sees.
        const int firstHalfSees =
            halvesRows ? plan.visibleKeys(rows.lower + QueryTile / 2 - 1).upper : INT_MAX;
        Product O;
        float m[rowsOfThread], l[rowsOfThread];
        clear(O);
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) m[r] = -INFINITY, l[r] = 0;

#pragma unroll 1
        for (int j = tiles.lower; j < tiles.upper; ++j) {
            const int chunks = chunksOf(j);
            const bool halfHidden = firstHalfSees <= j * KeyTile;
            Scores S;
            clear(S);
#pragma unroll 1
            for (int chunk = 0; chunk < keyChunks; ++chunk) {
                const float *K = advance(j, chunk, chunks) + Threads::x() * keyPitch;
                multiplyKeys<KeysOfThread>(
                    S, Qr + chunk * KeyChunk * pitch, K, keyLimit() - j * KeyTile, halfHidden);
            }
            if (launch.softmaxScaleLog2 < 0) negate(S);
            if (!whole.contains(j)) maskTile(S, plan, rows.lower, j * KeyTile);
            onlineSoftmax(S, O, m, l, launch.positiveScaleLog2);
            __syncwarp();
#pragma unroll
            for (int c = 0; c < KeysOfThread; ++c)
#pragma unroll
                for (int r = 0; r < rowsOfThread; r += 4)
                    *reinterpret_cast<float4 *>(
                        Pr + (Threads::x() + X * c) * scorePitch + r / 4 * Threads::stripRows) =
                        make_float4(S[r][c], S[r + 1][c], S[r + 2][c], S[r + 3][c]);
            __syncwarp();
#pragma unroll 1
            for (int chunk = keyChunks; chunk < chunks; ++chunk) {
                const float *V = advance(j, chunk, chunks) + Threads::x() * 4;
                const float *Pk = Pr + (chunk - keyChunks) * ValueChunk * scorePitch;
                multiplyValues(O, Pk, V, halfHidden);
            }
        }
        waitForCopies<0>();
        if (launch.mask != TileMaskFull && __any_sync(~0u, mayHaveLeaked(O, l))) {
            for (int s = 0; s < Threads::strips; ++s) {
                const int first = rows.lower + Threads::strip(s);
                recomputeRows<float>(launch, order.pair, first, min(first + Threads::stripRows, rows.upper));
            }
            return;
        }
        finalize(launch, O, m, l, Rows<float>(launch.output, batch, head), order.pair, rows);
    }

private:
    // S += Q Kᵀ, over a chunk of K's columns. Of a tile that is much longer than Br, only the half which
    // holds all keys that some row sees: the first so many of each thread. halfHidden: only the second half
    // of the rows.
    template <int Count>
    __device__ static void multiplyKeys(
        Scores &S, const float *Q, const float *K, int seen, bool halfHidden) {
        if constexpr (Count > 1 && Count * X > 2 * QueryTile) {
            if (seen <= Count / 2 * X) return multiplyKeys<Count / 2>(S, Q, K, seen, halfHidden);
        }
        if constexpr (halvesRows) {
            if (halfHidden)
                return streamTT<Threads::stripStep, X, KeyChunk, pitch, keyPitch, Count>(
                    secondHalf(S), Q + Threads::stripStep, K);
        }
        streamTT<Threads::stripStep, X, KeyChunk, pitch, keyPitch, Count>(S, Q, K);
    }

    // O += P V, over a chunk of keys.
    __device__ static void multiplyValues(Product &O, const float *P, const float *V, bool halfHidden) {
        if constexpr (halvesRows) {
            if (halfHidden)
                return streamTN<Threads::stripRows, 4 * X, ValueChunk, scorePitch, D>(
                    secondHalf(O), P + Threads::stripRows, V);
        }
        streamTN<Threads::stripRows, 4 * X, ValueChunk, scorePitch, D>(O, P, V);
    }

    // S = -S, for a negative scale.
    __device__ static void negate(Scores &S) {
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r)
#pragma unroll
            for (int c = 0; c < KeysOfThread; ++c) S[r][c] = -S[r][c];
    }

    // S = -inf where the row does not see the key.
    __device__ static void maskTile(Scores &S, const Plan &plan, int firstRow, int firstKey) {
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            const TileRange visible = plan.visibleKeys(firstRow + Threads::row(r));
#pragma unroll
            for (int c = 0; c < KeysOfThread; ++c)
                if (!visible.contains(firstKey + Threads::x() + X * c)) S[r][c] = -INFINITY;
        }
    }

    // S becomes P; O and l move to the new maximum; l holds this thread's part of the row sum.
    __device__ static void onlineSoftmax(
        Scores &S, Product &O, float (&m)[rowsOfThread], float (&l)[rowsOfThread], float scaleLog2) {
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            float maximum = S[r][0];
#pragma unroll
            for (int c = 1; c < KeysOfThread; ++c) maximum = fmaxf(maximum, S[r][c]);
            const float old = m[r];
            m[r] = fmaxf(old, Threads::maximum(maximum) * scaleLog2);
            const float subtrahend = m[r] == -INFINITY ? 0 : m[r];
            const float correction = exp2Approximate(old - subtrahend);
            l[r] *= correction;
#pragma unroll
            for (int c = 0; c < columnsOfThread; ++c) O[r][c] *= correction;
#pragma unroll
            for (int c = 0; c < KeysOfThread; ++c) {
                S[r][c] = exp2Approximate(fmaf(S[r][c], scaleLog2, -subtrahend));
                l[r] += S[r][c];
            }
        }
    }

    // As in forward_tile_steps.cuh.
    __device__ static bool mayHaveLeaked(const Product &O, const float (&l)[rowsOfThread]) {
        bool leaked = false;
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            float sum = 0;
#pragma unroll
            for (int c = 0; c < columnsOfThread; ++c) sum = fmaf(O[r][c], 0, sum);
            leaked |= sum != 0 && l[r] == l[r];
        }
        return leaked;
    }

    __device__ static void finalize(
        const AttentionLaunch &launch, const Product &O, const float (&m)[rowsOfThread],
        const float (&l)[rowsOfThread], const Rows<float> &output, int pair, TileRange rows) {
        float *lse = reinterpret_cast<float *>(launch.logSumExp) + int64_t(pair) * launch.queryLength;
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            const int row = rows.lower + Threads::row(r);
            const float sum = Threads::sum(l[r]), inverse = sum == 0 ? 0 : 1 / sum;
            if (row >= rows.upper) continue;
            if (Threads::x() == 0)
                lse[row] = sum == 0 ? -INFINITY : (m[r] + log2f(sum)) * 0.6931471805599453f;
            float *target = output.row(row);
#pragma unroll
            for (int c = 0; c < columnsOfThread; c += 4) {
                float x[4];
#pragma unroll
                for (int q = 0; q < 4; ++q) x[q] = O[r][c + q] * inverse;
                if (launch.vectorised) {
                    if (Threads::column(c) < launch.valueHeadSize) storeFour(target + Threads::column(c), x);
                } else {
                    storeColumns(target, x, Threads::column(c), launch.valueHeadSize);
                }
            }
        }
    }
};

// X, keys of a thread, columns of K and keys of V that come at once, for each head size. Share of the FFMA
// peak in the same run on an H100, B8 H16 N2048 full:
//   D 64   8, 8, 64, 64: 0.65     8, 8, 32, 32: 0.63     16, 8, 32, 32: 0.58
//   D 128  16, 8, 32, 32: 0.65    16, 4, 64, 32: 0.63    16, 8, 16, 16: 0.59    32, 8, 16, 32: 0.55
//   D 256  32, 4, 32, 16: 0.61    32, 8, 16, 16: 0.59    16, 4, 32, 8: 0.55
FATTN_ENTRY(fattn_fa2_forward_f32_d32, run, 2, FlashAttention2ForwardF32<32, 8, 8, 32, 64>)
FATTN_ENTRY(fattn_fa2_forward_f32_d64, run, 2, FlashAttention2ForwardF32<64, 8, 8, 64, 64>)
FATTN_ENTRY(fattn_fa2_forward_f32_d96, run, 2, FlashAttention2ForwardF32<96, 8, 4, 96, 32>)
FATTN_ENTRY(fattn_fa2_forward_f32_d128, run, 2, FlashAttention2ForwardF32<128, 16, 8, 32, 32>)
FATTN_ENTRY(fattn_fa2_forward_f32_d192, run, 2, FlashAttention2ForwardF32<192, 16, 4, 64, 16>)
FATTN_ENTRY(fattn_fa2_forward_f32_d256, run, 2, FlashAttention2ForwardF32<256, 32, 4, 32, 16>)

// For problems that leave most processors idle: tiles of 32 rows (D 32: 64), which are quick to do.
FATTN_ENTRY(fattn_fa2_forward_small_f32_d32, run, 2, FlashAttention2ForwardF32<32, 8, 8, 32, 64, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d64, run, 2, FlashAttention2ForwardF32<64, 16, 4, 64, 64, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d96, run, 2, FlashAttention2ForwardF32<96, 8, 4, 96, 32, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d128, run, 2, FlashAttention2ForwardF32<128, 16, 4, 64, 32, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d192, run, 2, FlashAttention2ForwardF32<192, 16, 4, 64, 16, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d256, run, 2, FlashAttention2ForwardF32<256, 32, 4, 64, 16, 4>)
