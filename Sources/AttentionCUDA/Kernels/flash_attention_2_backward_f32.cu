// FlashAttention-2, backward, F32: exact products (FFMA). A block per key tile, which keeps dK and dV in registers and
// visits the query tiles that see it; dQ is added in device memory.
//
// Source: Dao, arXiv 2307.08691, Algorithm 2.
//
//   1. rowTerms = lse, delta; dQ = 0                        BackwardPrepare, a launch before
//   2. for each query tile that visits key tile j:
//   3.   P = exp(Q Kᵀ - lse)                                streamNT, probabilities
//   4.   dS = P ∘ (dO Vᵀ - delta)                           streamNT, scoresGradient
//   5.   dV += Pᵀ dO by half of the warps,
//        dK += dSᵀ Q by the other                           streamTN
//   6.   dQ += dS K, atomically; left out if deterministic  streamNN, addQueryGradient
//
// All operands come through a ring of two chunks in shared memory: in 3. and 4. some columns of both, in 5. some rows of
// dO and of Q, in 6. some of K. So a tile is as large as the registers and P and dS in shared memory allow, at any head
// size, and every product is made of 8 × 8 values a thread or more (D 32: 8 × 4). That a thread keeps either dV or dK
// leaves it registers for reading the next operands while these are multiplied.
#include "block_order.cuh"
#include "flash_attention_2_backward_passes_f32.cuh"
#include "flash_attention_2_backward_rows.cuh"
#include "float_stream_steps.cuh"
#include "kernel_entry.cuh"

// ScoreChunk: columns of a chunk of steps 3. and 4.; RowChunk: rows of a chunk of 5.; SumColumns and SumKeys: columns and
// keys of a chunk of 6.
template <int D, int QueryTile, int KeyTile, int ScoreChunk, int RowChunk, int SumColumns, int SumKeys>
struct FlashAttention2BackwardF32 {
    static constexpr int threads = 256, queryTile = QueryTile, keyTile = KeyTile;
    static constexpr int scoreRows = 8, scoreColumns = QueryTile * KeyTile / threads / scoreRows;
    static constexpr int gradientRows = 8, gradientColumns = KeyTile * D / (threads / 2) / gradientRows;
    static constexpr int sumRows = SumColumns == 96 ? 4 : 8, sumColumns = sumRows == 4 ? 12 : SumColumns % 64 ? 4 : 8;
    using ScoreThreads = ProductThreads<threads, QueryTile, KeyTile, scoreRows, scoreColumns>;
    using GradientThreads = ProductThreads<threads, KeyTile, D, gradientRows, gradientColumns>;
    using SumThreads = ProductThreads<threads, QueryTile, SumColumns, sumRows, sumColumns>;
    static_assert(GradientThreads::groups == 2, "one half of the threads for dV, one for dK");

    // The steps of one query tile, a chunk each.
    static constexpr int scoreSteps = D / ScoreChunk, gradientSteps = QueryTile / RowChunk;
    static constexpr int firstSum = 2 * scoreSteps + gradientSteps;
    static constexpr int sumKeySteps = KeyTile / SumKeys, sumSteps = D / SumColumns * sumKeySteps;

    static constexpr int chunkPitch = ScoreChunk + 4, scorePitch = KeyTile + 8;
    static constexpr int scoreFloats = (QueryTile + KeyTile) * chunkPitch;
    static constexpr int rowFloats = 2 * RowChunk * D, sumFloats = SumKeys * SumColumns;
    static constexpr int largerFloats = rowFloats > sumFloats ? rowFloats : sumFloats;
    static constexpr int chunkFloats = scoreFloats > largerFloats ? scoreFloats : largerFloats;
    static constexpr int sharedBytes = (QueryTile * (2 * scorePitch + 2) + 2 * chunkFloats) * 4;
    using Plan = TilePlan<QueryTile, KeyTile>;
    using Scores = float[scoreRows][scoreColumns];
    using Gradient = float[gradientRows][gradientColumns];
    using Sum = float[sumRows][sumColumns];

    const AttentionLaunch &launch;
    float *const P, *const dS, *const ring;
    float2 *const terms; // lse and delta of the query tile
    const int batch, keyHead, j;
    const Plan plan;

    // Grid: key tiles × Hkv × B.
    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char bytes[];
        const BlockOrder order(launch, (launch.keyLength + KeyTile - 1) / KeyTile, launch.batch * launch.keyValueHeads);
        FlashAttention2BackwardF32(launch, reinterpret_cast<float *>(bytes), order).run();
    }

private:
    __device__ FlashAttention2BackwardF32(const AttentionLaunch &launch, float *memory, const BlockOrder &order)
        : launch(launch), P(memory), dS(P + QueryTile * scorePitch), ring(dS + QueryTile * scorePitch),
          terms(reinterpret_cast<float2 *>(ring + 2 * chunkFloats)), batch(order.pair / launch.keyValueHeads),
          keyHead(order.pair % launch.keyValueHeads), j(order.rank), plan(launch, batch) {}

    __device__ void run() {
        const TileRange tiles = plan.queryTiles(j);
        const int steps = firstSum + (launch.gradientSum ? sumSteps : 0);
        Gradient gradient; // dV or dK
        clear(gradient);
        int slot = 0;
        if (!tiles.isEmpty()) load(ring, keyHead * launch.groupSize, tiles.lower, 0);
        for (int g = 0; g < launch.groupSize; ++g)
#pragma unroll 1
            for (int i = tiles.lower; i < tiles.upper; ++i) {
                const int head = keyHead * launch.groupSize + g;
                const bool whole = plan.isWhole(i, j), last = i + 1 == tiles.upper;
                // A step's chunk is there, and the next one is on its way.
                auto advance = [&](int step) {
                    waitForCopies<0>();
                    __syncthreads();
                    const float *chunk = ring + slot * chunkFloats;
                    slot ^= 1;
                    float *next = ring + slot * chunkFloats;
                    if (step + 1 < steps)
                        load(next, head, i, step + 1);
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
                        multiplyScores(c, advance(half * scoreSteps + step));
                    if (half)
                        scoresGradient(c);
                    else
                        probabilities(c, i, whole);
                }
#pragma unroll 1
                for (int step = 0; step < gradientSteps; ++step)
                    addGradient(gradient, advance(2 * scoreSteps + step), step, whole);
                if (!launch.gradientSum) continue;
#pragma unroll 1
                for (int pass = 0; pass < D / SumColumns; ++pass) {
                    Sum sum;
                    clear(sum);
#pragma unroll 1
                    for (int step = 0; step < sumKeySteps; ++step)
                        multiplyKeys(sum, advance(firstSum + pass * sumKeySteps + step), step, whole);
                    addQueryGradient(sum, head, i, pass);
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
            const int size = second ? launch.valueHeadSize : launch.headSize;
            copyFloats<QueryTile, ScoreChunk, chunkPitch, threads>(
                chunk, second ? gradientRows : queryRows, firstRow, launch.queryLength, size, launch.vectorised, column);
            copyFloats<KeyTile, ScoreChunk, chunkPitch, threads>(
                chunk + QueryTile * chunkPitch, Rows<const float>(second ? launch.value : launch.key, batch, keyHead),
                firstKey, keyLimit, size, launch.vectorised, column);
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
            copyAsync8(sharedAddress(terms + threadIdx.x), source + row, row < launch.queryLength);
        }
        commitCopies();
    }

    // c += A Bᵀ, both in the chunk: Q and K, or dO and V.
    __device__ static void multiplyScores(Scores &c, const float *chunk) {
        using Threads = ScoreThreads;
        streamNT<Threads::Y, Threads::X, ScoreChunk, chunkPitch, chunkPitch>(
            c, chunk + Threads::y() * chunkPitch, chunk + (QueryTile + Threads::x()) * chunkPitch);
    }

    // A thread's row and column of the scores.
    __device__ static int scoreRow(int r) { return ScoreThreads::y() + r * ScoreThreads::Y; }
    __device__ static int scoreColumn(int c) { return ScoreThreads::x() + c * ScoreThreads::X; }

    // P = exp2(scale S - lse).
    __device__ void probabilities(const Scores &S, int i, bool whole) const {
#pragma unroll
        for (int r = 0; r < scoreRows; ++r) {
            const int row = i * QueryTile + scoreRow(r);
            const float offset = terms[scoreRow(r)].x;
            const TileRange visible = row < launch.queryLength ? plan.visibleKeys(row) : TileRange{0, 0};
#pragma unroll
            for (int c = 0; c < scoreColumns; ++c) {
                const float p = exp2Approximate(fmaf(S[r][c], launch.softmaxScaleLog2, -offset));
                const bool seen = whole || visible.contains(j * KeyTile + scoreColumn(c));
                P[scoreRow(r) * scorePitch + scoreColumn(c)] = seen ? p : hidden;
            }
        }
    }

    // dS = P ∘ (dP - delta).
    __device__ void scoresGradient(const Scores &dP) const {
#pragma unroll
        for (int r = 0; r < scoreRows; ++r) {
            const float delta = terms[scoreRow(r)].y;
#pragma unroll
            for (int c = 0; c < scoreColumns; ++c) {
                const int at = scoreRow(r) * scorePitch + scoreColumn(c);
                const float p = P[at];
                dS[at] = isHidden(p) ? hidden : scoreGradient(p, dP[r][c], delta);
            }
        }
    }

    // dV += Pᵀ dO or dK += dSᵀ Q, over the rows of a chunk.
    __device__ void addGradient(Gradient &sum, const float *chunk, int part, bool whole) const {
        using Threads = GradientThreads;
        const float *A = (Threads::group() ? dS : P) + part * RowChunk * scorePitch + Threads::y() * 4;
        const float *B = chunk + Threads::group() * RowChunk * D + Threads::x() * 4;
        if (whole)
            streamTN<4 * Threads::Y, 4 * Threads::X, RowChunk, scorePitch, D, false>(sum, A, B);
        else
            streamTN<4 * Threads::Y, 4 * Threads::X, RowChunk, scorePitch, D, true>(sum, A, B);
    }

    // dQ += dS K, over the keys of a chunk: each group of threads takes its part of them.
    __device__ void multiplyKeys(Sum &sum, const float *chunk, int part, bool whole) const {
        using Threads = SumThreads;
        constexpr int keys = SumKeys / Threads::groups;
        const int first = Threads::group() * keys;
        const float *A = dS + Threads::y() * scorePitch + part * SumKeys + first;
        const float *B = chunk + first * SumColumns + Threads::x() * 4;
        if (whole)
            streamNN<Threads::Y, 4 * Threads::X, keys, scorePitch, SumColumns, false>(sum, A, B);
        else
            streamNN<Threads::Y, 4 * Threads::X, keys, scorePitch, SumColumns, true>(sum, A, B);
    }

    // Adds scale · sum to the columns of dQ that a pass has.
    __device__ void addQueryGradient(const Sum &sum, int head, int i, int pass) const {
        using Threads = SumThreads;
        const Rows<float> rows(launch.queryGradient, batch, head);
#pragma unroll
        for (int r = 0; r < sumRows; ++r) {
            const int row = i * QueryTile + Threads::y() + r * Threads::Y;
            if (row < launch.queryLength) addRow(sum[r], rows.row(row), pass * SumColumns);
        }
    }
    template <int Count>
    __device__ void addRow(const float (&sum)[Count], float *target, int firstColumn) const {
        const float scale = launch.softmaxScale;
#pragma unroll
        for (int e = 0; e < Count; e += 4) {
            const int column = firstColumn + SumThreads::column(e);
            if (launch.vectorised && column < launch.headSize)
                addToMemory(
                    target + column, sum[e] * scale, sum[e + 1] * scale, sum[e + 2] * scale, sum[e + 3] * scale);
            if (launch.vectorised) continue;
#pragma unroll
            for (int q = 0; q < 4; ++q)
                if (column + q < launch.headSize) atomicAdd(target + column + q, sum[e + q] * scale);
        }
    }

    __device__ void store(const Gradient &sum, const TileOperand &gradient, int size, float factor) const {
        const Rows<float> rows(gradient, batch, keyHead);
#pragma unroll
        for (int r = 0; r < gradientRows; ++r) {
            const int key = j * KeyTile + GradientThreads::row(r);
            if (key >= launch.keyLength) continue;
            float *target = rows.row(key);
#pragma unroll
            for (int c = 0; c < gradientColumns; ++c)
                if (GradientThreads::column(c) < size) target[GradientThreads::column(c)] = sum[r][c] * factor;
        }
    }
};

template <int D>
using Passes = LargestThatFits<FlashAttention2BackwardPassesF32<D, 64>, FlashAttention2BackwardPassesF32<D, 32>>;

// Query tiles of half as many rows where a block has less shared memory.
template <int D, int QueryTile, int KeyTile, int... Chunks>
using Tiles = LargestThatFits<
    FlashAttention2BackwardF32<D, QueryTile, KeyTile, Chunks...>,
    FlashAttention2BackwardF32<D, QueryTile / 2, KeyTile, Chunks...>>;

#define BACKWARD(D, ...)                                                                                              \
    using Backward##D = Tiles<D, __VA_ARGS__>;                                                                        \
    FATTN_ENTRY(fattn_fa2_backward_f32_d##D, run, 1, Backward##D)                                                     \
    FATTN_ENTRY(fattn_fa2_backward_small_f32_d##D, run, 1, Passes<D>)                                                 \
    FATTN_ENTRY(fattn_fa2_backward_query_f32_d##D, runQuery, 1, Passes<D>)                                            \
    FATTN_ENTRY(fattn_fa2_backward_prepare_f32_d##D, run, 1, BackwardPrepare<float, D>)

BACKWARD(32, 128, 128, 16, 64, 32, 128)
BACKWARD(64, 128, 128, 32, 64, 64, 128)
BACKWARD(96, 128, 128, 32, 32, 96, 64)
BACKWARD(128, 256, 64, 16, 32, 64, 64)
BACKWARD(192, 256, 64, 16, 16, 64, 64)
BACKWARD(256, 256, 64, 16, 8, 64, 64)
