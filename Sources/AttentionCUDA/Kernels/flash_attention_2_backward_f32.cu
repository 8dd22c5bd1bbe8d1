// FlashAttention-2, backward, F32: exact products (FFMA). A block per key tile, which keeps dK and dV in
// registers and visits the query tiles that see it; dQ is added in device memory.
//
// Source: Dao, arXiv 2307.08691, Algorithm 2.
//
//   1. rowTerms = lse, delta; dQ = 0; Qᵀ, dOᵀ, Kᵀ, Vᵀ      BackwardColumns, a launch before;
//                                                          not Shared: Kᵀ, Vᵀ by transposeKeys
//   2. for each query tile that visits key tile j:
//   3.   P = exp(Q Kᵀ - lse)                                streamTN, probabilities
//   4.   dS = P ∘ (dO Vᵀ - delta)                           streamTN, scoresGradient
//   5.   dV += Pᵀ dO by half of the warps,
//        dK += dSᵀ Q by the other                           streamTN
//   6.   dQ += dS K, atomically; left out if deterministic  streamNN, addQueryGradient
//
// All operands come through a ring of two chunks in shared memory: in 3. and 4. some columns of both, which
// lie transposed in device memory, in 5. some rows of dO and of Q, in 6. some of K. So a tile is as large as
// the registers and P and dS in shared memory allow, at any head size, and most products are made of 8 × 8
// values a thread. That a thread keeps either dV or dK leaves it registers for reading the next operands
// while these are multiplied.
//
// The key tiles that are left when every processor has had as many as the others would take the time of whole
// ones, most processors being idle. So without a mask the last splitTiles of all heads are taken by `splits`
// blocks each, which share out the query tiles and add dK and dV in device memory; BackwardColumns clears
// them before. Under a mask the last tiles are short. That is a kernel of its own (Shared): in one for both,
// the loops were up to 4 % slower.
//
// The products of a tile add 0 · x where a row does not see a key, which is NaN if x is NaN or infinite.
// Under a mask that shows in the result: then dK and dV are computed once more at the end, by the online
// softmax's steps, and what a tile adds to dQ before it is added, one product at a time.
//
// Where the first half of a tile's rows sees none of its keys from the middle, or from the first, on, that
// quarter or half of every product is left out. A thread has rows in both halves, so that all have less to
// do.
#include "block_order.cuh"
#include "flash_attention_2_backward_columns_f32.cuh"
#include "flash_attention_2_backward_passes_f32.cuh"
#include "flash_attention_2_backward_rows.cuh"
#include "flash_attention_2_backward_sums_f32.cuh"
#include "float_stream_products.cuh"
#include "float_stream_steps.cuh"
#include "kernel_entry.cuh"

// ScoreChunk: columns of a chunk of steps 3. and 4.; RowChunk: rows of a chunk of 5.; SumColumns and SumKeys:
// columns and keys of a chunk of 6.
template <
    int D, int QueryTile, int KeyTile, int ScoreChunk, int RowChunk, int SumColumns, int SumKeys, bool Shared>
struct FlashAttention2BackwardF32 {
    static constexpr int threads = 256, queryTile = QueryTile, keyTile = KeyTile;
    static constexpr int scoreRows = 8, scoreColumns = QueryTile * KeyTile / threads / scoreRows;
    static constexpr int gradientRows = 8, gradientColumns = KeyTile * D / (threads / 2) / gradientRows;
    // 8 × 8 values where so many threads find a part each, D 96 apart; beside 128 sums of dV or dK 8 × 4.
    static constexpr int sumRows = SumColumns == 96 ? 4 : 8;
    static constexpr int sumColumns = sumRows == 4 ? 12 : SumColumns % 64 || gradientColumns == 16 ? 4 : 8;
    using ScoreThreads = ProductThreads<threads, QueryTile, KeyTile, scoreRows, scoreColumns>;
    using GradientThreads = ProductThreads<threads, KeyTile, D, gradientRows, gradientColumns>;
    using SumThreads = ProductThreads<threads, QueryTile, SumColumns, sumRows, sumColumns>;
    static_assert(GradientThreads::groups == 2, "one half of the threads for dV, one for dK");

    // The steps of one query tile, a chunk each.
    static constexpr int scoreSteps = D / ScoreChunk, gradientSteps = QueryTile / RowChunk;
    static constexpr int firstSum = 2 * scoreSteps + gradientSteps;
    static constexpr int sumKeySteps = KeyTile / SumKeys, sumSteps = D / SumColumns * sumKeySteps;

    static constexpr int chunkPitch = QueryTile + KeyTile + 4, scorePitch = KeyTile + 4;
    static constexpr int scoreFloats = ScoreChunk * chunkPitch;
    static constexpr int rowFloats = 2 * RowChunk * D, sumFloats = SumKeys * SumColumns;
    static constexpr int largerFloats = rowFloats > sumFloats ? rowFloats : sumFloats;
    static constexpr int chunkFloats = scoreFloats > largerFloats ? scoreFloats : largerFloats;
    static constexpr int loopBytes = (QueryTile * (2 * scorePitch + 2) + 2 * chunkFloats) * 4;
    static constexpr int firstBytes = Shared ? 0 : transposeKeysBytes<D, KeyTile>;
    static constexpr int sharedBytes = loopBytes > firstBytes ? loopBytes : firstBytes;
    // Under a mask the first half of a tile's rows may see none of its keys from this one on: half of them in
    // the square tile on the diagonal, none in the first tiles that taller ones visit.
    static constexpr int seenKeys = QueryTile == KeyTile ? KeyTile / 2 : 0;
    using Plan = TilePlan<QueryTile, KeyTile>;
    using Scores = float[scoreRows][scoreColumns];
    using Gradient = float[gradientRows][gradientColumns];
    using Sum = float[sumRows][sumColumns];

    const AttentionLaunch &launch;
    float *const P, *const dS, *const ring;
    float2 *const terms; // lse and delta of the query tile
    const int batch, keyHead, j;
    const Plan plan;
    const TileShare share;

    // Grid: key tiles × Hkv × B, the last splitTiles of them as often as `splits` says.
    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char bytes[];
        const int keyTiles = tileCount(launch.keyLength, KeyTile),
                  pairs = launch.batch * launch.keyValueHeads;
        const TileShare share = Shared ? TileShare(launch, keyTiles * pairs) : TileShare();
        const BlockOrder order(launch, keyTiles, pairs, share.block);
        FlashAttention2BackwardF32(launch, reinterpret_cast<float *>(bytes), order, share).run();
    }

private:
    __device__ FlashAttention2BackwardF32(
        const AttentionLaunch &launch, float *memory, const BlockOrder &order, const TileShare &share)
        : launch(launch), P(memory), dS(P + QueryTile * scorePitch), ring(dS + QueryTile * scorePitch),
          terms(reinterpret_cast<float2 *>(ring + 2 * chunkFloats)), batch(order.pair / launch.keyValueHeads),
          keyHead(order.pair % launch.keyValueHeads), j(order.rank), plan(launch, batch), share(share) {}

    __device__ void run() {
        const TileRange tiles = share.of(plan.queryTiles(j), launch.splits);
        const int steps = firstSum + (launch.gradientSum ? sumSteps : 0);
        Gradient gradient; // dV or dK
        clear(gradient);
        int slot = 0;
        if (!Shared) transposeKeys<D, KeyTile, threads>(launch, P, batch, keyHead, j * KeyTile);
        if (plan.keyLength < (j + 1) * KeyTile)
            clearAbsentKeys<threads>(
                launch, batch, keyHead, max(plan.keyLength, j * KeyTile), (j + 1) * KeyTile);
        if (!tiles.isEmpty()) load(ring, keyHead * launch.groupSize, tiles.lower, 0);
        for (int g = 0; g < launch.groupSize; ++g)
#pragma unroll 1
            for (int i = tiles.lower; i < tiles.upper; ++i) {
                const int head = keyHead * launch.groupSize + g;
                const bool whole = plan.isWhole(i, j), last = i + 1 == tiles.upper;
                const bool part = !Shared && !whole &&
                    plan.visibleKeys(i * QueryTile + QueryTile / 2 - 1).upper <= j * KeyTile + seenKeys;
                // Rows that see no key of the tile add nothing to dV and dK.
                const int hiddenRows = max(plan.visibleQueries(j * KeyTile).lower - i * QueryTile, 0);
                const int firstGradient = 2 * scoreSteps + hiddenRows / RowChunk;
                // A step's chunk is there, and the next one is on its way.
                auto advance = [&](int step) {
                    waitForCopies<0>();
                    __syncthreads();
                    const float *chunk = ring + slot * chunkFloats;
                    slot ^= 1;
                    float *next = ring + slot * chunkFloats;
                    const int following = step + 1 == 2 * scoreSteps ? firstGradient : step + 1;
                    if (following < steps)
                        load(next, head, i, following);
                    else if (!last || g + 1 < launch.groupSize)
                        load(next, head + last, last ? tiles.lower : i + 1, 0);
                    return chunk;
                };
#pragma unroll 1
                for (int half = 0; half < 2; ++half) {
                    Scores c;
                    clear(c);
#pragma unroll 1
                    for (int step = 0; step < scoreSteps; ++step)
                        multiplyScores(c, advance(half * scoreSteps + step), part);
                    if (half)
                        whole ? scoresGradient<true>(c) : scoresGradient<false>(c);
                    else
                        whole ? probabilities<true>(c, i) : probabilities<false>(c, i);
                }
#pragma unroll 1
                for (int step = firstGradient; step < firstSum; ++step)
                    addGradient(gradient, advance(step), step - 2 * scoreSteps, part);
                if (!launch.gradientSum) continue;
#pragma unroll 1
                for (int pass = 0; pass < D / SumColumns; ++pass) {
                    Sum sum;
                    clear(sum);
#pragma unroll 1
                    for (int step = 0; step < sumKeySteps; ++step)
                        multiplyKeys(sum, advance(firstSum + pass * sumKeySteps + step), step, part);
                    if (!Shared && !whole && !isFinite(sum))
                        addVisible(head, i, pass);
                    else
                        addQueryGradient(sum, head, i, pass);
                }
            }
        if constexpr (!Shared) {
            if (__syncthreads_or(launch.mask != TileMaskFull && !isFinite(gradient))) {
                const int first = j * KeyTile, limit = min(first + KeyTile, launch.keyLength);
                recomputeKeyGradients<float>(
                    launch, batch * launch.keyValueHeads + keyHead, first + threadIdx.x / 32, limit,
                    threads / 32);
                return;
            }
        }
        if (GradientThreads::group())
            store(gradient, launch.keyGradient, launch.headSize, launch.softmaxScale);
        else
            store(gradient, launch.valueGradient, launch.valueHeadSize, 1);
    }

    // Starts the copy of a step's chunk.
    __device__ void load(float *chunk, int head, int i, int step) const {
        const int firstRow = i * QueryTile, firstKey = j * KeyTile, keyLimit = plan.keys(j).upper;
        const Rows<const float> gradientRows(launch.outputGradient, batch, head);
        const Rows<const float> queryRows(launch.query, batch, head);
        if (step < 2 * scoreSteps) {
            const bool second = step >= scoreSteps;
            const int column = (second ? step - scoreSteps : step) * ScoreChunk;
            const TransposedColumns<D> columns(launch);
            const int64_t rows = columns.queryRows(), keys = columns.keyRows();
            copyWhole<ScoreChunk, QueryTile, chunkPitch, threads>(
                chunk, columns.queries(batch * launch.heads + head, second) + column * rows + firstRow, rows);
            copyWhole<ScoreChunk, KeyTile, chunkPitch, threads>(
                chunk + QueryTile,
                columns.keys(batch * launch.keyValueHeads + keyHead, second) + column * keys + firstKey,
                keys);
        } else if (step < firstSum) {
            const int row = firstRow + (step - 2 * scoreSteps) * RowChunk;
            copyFloats<RowChunk, D, D, threads>(
                chunk, gradientRows, row, launch.queryLength, launch.valueHeadSize, launch.vectorised);
            copyFloats<RowChunk, D, D, threads>(
                chunk + RowChunk * D, queryRows, row, launch.queryLength, launch.headSize, launch.vectorised);
        } else {
            const int part = (step - firstSum) % sumKeySteps, pass = (step - firstSum) / sumKeySteps;
            copyFloats<SumKeys, SumColumns, SumColumns, threads>(
                chunk, Rows<const float>(launch.key, batch, keyHead), firstKey + part * SumKeys, keyLimit,
                launch.headSize, launch.vectorised, pass * SumColumns);
        }
        if (step == 0 && threadIdx.x < QueryTile) {
            const float2 *source = reinterpret_cast<const float2 *>(launch.rowTerms) +
                (int64_t(batch) * launch.heads + head) * paddedRowCount(launch);
            const int row = firstRow + threadIdx.x;
            copyAsyncSmall<8>(sharedAddress(terms + threadIdx.x), source + row, row < launch.queryLength);
        }
        commitCopies();
    }

    // c += A Bᵀ, both in the chunk: Q and K, or dO and V. Part, here and below: without the keys from
    // `seenKeys` on of the first half of the rows.
    __device__ static void multiplyScores(Scores &c, const float *chunk, bool part) {
        using Threads = ScoreThreads;
        const float *A = chunk + Threads::y() * 4, *B = chunk + QueryTile + Threads::x() * 4;
        constexpr int seen = seenKeys / Threads::X; // of the thread's columns
        if (part)
            streamTN<4 * Threads::Y, 4 * Threads::X, ScoreChunk, chunkPitch, chunkPitch, seen>(c, A, B);
        else
            streamTN<4 * Threads::Y, 4 * Threads::X, ScoreChunk, chunkPitch, chunkPitch>(c, A, B);
    }

    // P = exp2(scale S - lse).
    template <bool Whole>
    __device__ void probabilities(const Scores &S, int i) const {
        using Threads = ScoreThreads;
#pragma unroll
        for (int r = 0; r < scoreRows; ++r) {
            const int row = i * QueryTile + Threads::row(r);
            const float offset = terms[Threads::row(r)].x;
            TileRange visible = {0, 0};
            if (!Whole && row < launch.queryLength) visible = plan.visibleKeys(row);
#pragma unroll
            for (int c = 0; c < scoreColumns; c += 4) {
                float p[4];
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    p[q] = exp2Approximate(fmaf(S[r][c + q], launch.softmaxScaleLog2, -offset));
                    if (!Whole && !visible.contains(j * KeyTile + Threads::column(c) + q)) p[q] = hidden;
                }
                storeFour(P + Threads::row(r) * scorePitch + Threads::column(c), p);
            }
        }
    }

    // dS = P ∘ (dP - delta).
    template <bool Whole>
    __device__ void scoresGradient(const Scores &dP) const {
        using Threads = ScoreThreads;
#pragma unroll
        for (int r = 0; r < scoreRows; ++r) {
            const float delta = terms[Threads::row(r)].y;
#pragma unroll
            for (int c = 0; c < scoreColumns; c += 4) {
                const int at = Threads::row(r) * scorePitch + Threads::column(c);
                const float4 p = loadFour(P + at);
                float gradient[4];
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    gradient[q] = scoreGradient((&p.x)[q], dP[r][c + q], delta);
                    if (!Whole && isHidden((&p.x)[q])) gradient[q] = hidden;
                }
                storeFour(dS + at, gradient);
            }
        }
    }

    // dV += Pᵀ dO or dK += dSᵀ Q, over the rows of a chunk.
    __device__ void addGradient(Gradient &sum, const float *chunk, int step, bool part) const {
        using Threads = GradientThreads;
        const float *A = (Threads::group() ? dS : P) + step * RowChunk * scorePitch + Threads::y() * 4;
        const float *B = chunk + Threads::group() * RowChunk * D + Threads::x() * 4;
        if (part && seenKeys > 0 && step * RowChunk < QueryTile / 2) {
            constexpr int rows = RowChunk < QueryTile / 2 ? RowChunk : QueryTile / 2;
            streamTN<4 * Threads::Y, 4 * Threads::X, rows, scorePitch, D>(firstHalf(sum), A, B);
            if constexpr (rows < RowChunk)
                streamTN<4 * Threads::Y, 4 * Threads::X, RowChunk - rows, scorePitch, D>(
                    sum, A + rows * scorePitch, B + rows * D);
            return;
        }
        streamTN<4 * Threads::Y, 4 * Threads::X, RowChunk, scorePitch, D>(sum, A, B);
    }

    // dQ += dS K, over the keys of a chunk: each group of threads takes its part of them.
    __device__ void multiplyKeys(Sum &sum, const float *chunk, int step, bool part) const {
        using Threads = SumThreads;
        constexpr int keys = SumKeys / Threads::groups;
        const int first = Threads::group() * keys;
        const float *A = dS + Threads::y() * scorePitch + step * SumKeys + first;
        const float *B = chunk + first * SumColumns + Threads::x() * 4;
        if (part && step * SumKeys + first >= seenKeys)
            streamNN<Threads::Y, 4 * Threads::X, keys, scorePitch, SumColumns>(
                secondHalf(sum), A + QueryTile / 2 * scorePitch, B);
        else
            streamNN<Threads::Y, 4 * Threads::X, keys, scorePitch, SumColumns>(sum, A, B);
    }

    // The same addition to dQ as by multiplyKeys and addQueryGradient, one product at a time, of those that
    // the rows see: for sums that a hidden key's NaN or infinity is in.
    __device__ void addVisible(int head, int i, int pass) const {
        using Threads = SumThreads;
        constexpr int keys = SumKeys / Threads::groups;
        const Rows<float> rows(launch.queryGradient, batch, head);
        const Rows<const float> keyRows(launch.key, batch, keyHead);
#pragma unroll 1
        for (int r = 0; r < sumRows; ++r)
#pragma unroll 1
            for (int e = 0; e < sumColumns; ++e) {
                const int row = Threads::y() + r * Threads::Y;
                const int column = pass * SumColumns + Threads::column(e);
                if (i * QueryTile + row >= launch.queryLength || column >= launch.headSize) continue;
                float sum = 0;
#pragma unroll 1
                for (int key = 0; key < KeyTile; ++key) {
                    const float p = dS[row * scorePitch + key];
                    if (key % SumKeys / keys == Threads::group() && !isHidden(p))
                        sum = fmaf(p, keyRows.row(j * KeyTile + key)[column], sum);
                }
                atomicAdd(rows.row(i * QueryTile + row) + column, sum * launch.softmaxScale);
            }
    }

    // Adds scale · sum to the columns of dQ that a pass has.
    __device__ void addQueryGradient(const Sum &sum, int head, int i, int pass) const {
        const Rows<float> rows(launch.queryGradient, batch, head);
        const int first = i * QueryTile + SumThreads::y();
        const int column = pass * SumColumns + SumThreads::column(0);
        addScaled<SumThreads>(
            sum, launch.softmaxScale, rows.row(first) + column, rows.stride, launch.queryLength - first,
            launch.headSize - column, launch.vectorised);
    }

    // Writes dV or dK, or adds to it what other blocks have parts of.
    __device__ void store(const Gradient &sum, const TileOperand &gradient, int size, float factor) const {
        const Rows<float> rows(gradient, batch, keyHead);
        if constexpr (Shared)
            storeShared<GradientThreads>(
                sum, factor, rows, j * KeyTile, plan.keyLength, size, share.part >= 0);
        else
            storeScaled<GradientThreads>(sum, factor, rows, j * KeyTile, plan.keyLength, size);
    }
};

template <int D>
using Passes =
    LargestThatFits<FlashAttention2BackwardPassesF32<D, 64>, FlashAttention2BackwardPassesF32<D, 32>>;

// The tiles and chunks of FlashAttention2BackwardF32, and smaller ones where a block has less shared memory.
#define BACKWARD(D, LARGE, SMALL)                                                                            \
    template <bool Shared>                                                                                   \
    using Backward##D = LargestThatFits<                                                                     \
        FlashAttention2BackwardF32<D, LARGE, Shared>, FlashAttention2BackwardF32<D, SMALL, Shared>>;         \
    FATTN_ENTRY(fattn_fa2_backward_f32_d##D, run, 1, Backward##D<false>)                                     \
    FATTN_ENTRY(fattn_fa2_backward_shared_f32_d##D, run, 1, Backward##D<true>)                               \
    FATTN_ENTRY(fattn_fa2_backward_small_f32_d##D, run, 1, Passes<D>)                                        \
    FATTN_ENTRY(fattn_fa2_backward_query_f32_d##D, runQuery, 1, Passes<D>)                                   \
    FATTN_ENTRY(fattn_fa2_backward_prepare_f32_d##D, run, 1, BackwardPrepare<float, D>)                      \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_backward_prepare_columns_f32_d##D, run, 1, BackwardColumns<D, Backward##D<true>::keyTile>)
#define TILES(...) __VA_ARGS__

BACKWARD(32, TILES(128, 128, 32, 128, 32, 128), TILES(64, 128, 32, 64, 32, 128))
BACKWARD(64, TILES(128, 128, 32, 64, 64, 128), TILES(64, 128, 32, 64, 64, 64))
BACKWARD(96, TILES(128, 128, 32, 32, 96, 64), TILES(64, 128, 32, 32, 96, 64))
BACKWARD(128, TILES(256, 64, 32, 32, 64, 64), TILES(128, 64, 32, 32, 64, 64))
BACKWARD(192, TILES(256, 64, 32, 16, 64, 64), TILES(128, 64, 32, 16, 64, 64))
BACKWARD(256, TILES(128, 64, 64, 32, 64, 64), TILES(128, 64, 32, 16, 64, 64))
