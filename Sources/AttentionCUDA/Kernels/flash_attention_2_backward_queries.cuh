// What the two forms of the backward kernel share: a block's key tile, and the query tiles that it walks
// through.
#pragma once

#include "backward_tile_steps.cuh"
#include "block_order.cuh"
#include "online_softmax_rows.cuh"

// The key tile of one key/value head that a block owns: K and V on their way in, dK and dV on their way out.
template <typename T, int D, int QueryTile, int KeyTile>
struct OwnedKeys {
    using Plan = TilePlan<QueryTile, KeyTile>;
    const AttentionLaunch &launch;
    const BlockOrder order;
    const int j, batch, keyHead;
    const Plan plan;
    const TileRange keys;

    __device__ explicit OwnedKeys(const AttentionLaunch &launch)
        : launch(launch),
          order(launch, tileCount(launch.keyLength, KeyTile), launch.batch * launch.keyValueHeads),
          j(order.rank), batch(order.pair / launch.keyValueHeads), keyHead(order.pair % launch.keyValueHeads),
          plan(launch, batch), keys(plan.keys(j)) {}

    // Starts the copies of Kj and Vj; a key that no row sees is not read.
    template <int Threads>
    __device__ void load(uint32_t K, uint32_t V) const {
        copyTile<T, D, KeyTile, Threads>(
            K, Rows<const T>(launch.key, batch, keyHead), keys.lower, plan.visibleKeysOfTile(j).upper,
            launch.headSize, launch.vectorised);
        copyTile<T, D, KeyTile, Threads>(
            V, Rows<const T>(launch.value, batch, keyHead), keys.lower, plan.visibleKeysOfTile(j).upper,
            launch.valueHeadSize, launch.vectorised);
    }

    // Writes RowCount rows of dK and dV, from row `first` of the tiles on, by Threads threads.
    template <int RowCount, int Threads>
    __device__ void store(uint32_t dK, uint32_t dV, int first, int thread) const {
        storeTile<T, D, RowCount, Threads>(
            dK + SharedTile<T, D>::bytes(first), Rows<T>(launch.keyGradient, batch, keyHead),
            j * KeyTile + first, launch.keyLength, launch.headSize, launch.vectorised, thread);
        storeTile<T, D, RowCount, Threads>(
            dV + SharedTile<T, D>::bytes(first), Rows<T>(launch.valueGradient, batch, keyHead),
            j * KeyTile + first, launch.keyLength, launch.valueHeadSize, launch.vectorised, thread);
    }
};

// The visits of one block: for each query head of a key/value head, each query tile that meets key tile j.
template <typename T, int D, int QueryTile, int KeyTile, int Threads>
struct QueryVisits {
    using Plan = TilePlan<QueryTile, KeyTile>;
    static constexpr int queryBytes = SharedTile<T, D>::bytes(QueryTile);
    static constexpr int termBytes = QueryTile * 8;

    // One query tile of one head.
    struct Visit {
        int head, tile;
    };

    const AttentionLaunch &launch;
    const int batch, paddedRows;
    const TileRange tiles;
    const TileRange rows; // those that see some key of the tile: others are not read
    const int count;
    const Visit first;

    __device__ QueryVisits(const AttentionLaunch &launch, const Plan &plan, int batch, int keyHead, int j)
        : launch(launch), batch(batch),
          paddedRows(paddedRowCount(launch)), tiles(plan.queryTiles(j)),
          rows(plan.queriesOfKeys(plan.keys(j))),
          count((tiles.upper - tiles.lower) * launch.groupSize),
          first{keyHead * launch.groupSize, tiles.lower} {}

    __device__ Visit next(Visit v) const {
        const bool last = v.tile + 1 == tiles.upper;
        return {v.head + last, last ? tiles.lower : v.tile + 1};
    }
    // The tile's first row among all padded rows.
    __device__ int64_t paddedRow(Visit v) const {
        return (int64_t(batch) * launch.heads + v.head) * paddedRows + v.tile * QueryTile;
    }
    // dQ's sum of the tile.
    __device__ float *gradientSum(Visit v) const {
        return reinterpret_cast<float *>(launch.gradientSum) + paddedRow(v) * D;
    }

    // Starts the copy of Qi.
    __device__ void loadQueries(Visit v, uint32_t Q) const {
        copyTile<T, D, QueryTile, Threads, RowsOf>(
            Q, Rows<const T>(launch.query, batch, v.head), v.tile * QueryTile, rows, launch.headSize,
            launch.vectorised);
    }
    // Starts the copies of dOi and its row terms.
    __device__ void loadGradients(Visit v, uint32_t dO, uint32_t terms) const {
        copyTile<T, D, QueryTile, Threads, RowsOf>(
            dO, Rows<const T>(launch.outputGradient, batch, v.head), v.tile * QueryTile, rows,
            launch.valueHeadSize, launch.vectorised);
        const float *source = reinterpret_cast<const float *>(launch.rowTerms) + paddedRow(v) * 2;
        if (threadIdx.x < termBytes / 16)
            copyAsync16(terms + threadIdx.x * 16, source + threadIdx.x * 4, true);
    }
    __device__ void load(Visit v, uint32_t Q, uint32_t dO, uint32_t terms) const {
        loadQueries(v, Q);
        loadGradients(v, dO, terms);
    }
};
