// The query tiles that a backward block walks through: which they are and how they come in.
#pragma once

#include "backward_tile_steps.cuh"
#include "block_order.cuh"
#include "online_softmax_rows.cuh"

// The visits of one block: for each query head of a key/value head, each query tile that meets key tile j.
template <typename T, int D, int QueryTile, int KeyTile, int Threads>
struct QueryVisits {
    using Plan = TilePlan<QueryTile, KeyTile>;
    static constexpr int queryBytes = SharedTile<D>::bytes(QueryTile);
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
          paddedRows((launch.queryLength + TileRowPadding - 1) / TileRowPadding * TileRowPadding),
          tiles(plan.queryTiles(j)), rows(plan.queriesOfKeys(plan.keys(j))), count((tiles.upper - tiles.lower) * launch.groupSize),
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
        if (threadIdx.x < termBytes / 16) copyAsync16(terms + threadIdx.x * 16, source + threadIdx.x * 4, true);
    }
    __device__ void load(Visit v, uint32_t Q, uint32_t dO, uint32_t terms) const {
        loadQueries(v, Q);
        loadGradients(v, dO, terms);
    }
};
