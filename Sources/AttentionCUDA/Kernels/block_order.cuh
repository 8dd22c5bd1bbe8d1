// Which tile a block works on: the order in which a launch visits the tiles of all heads.
#pragma once

#include "tile_plan.cuh"

// Blocks start in the order of their number. Under a causal mask the long tiles should start first, so that
// those which end the launch are short; but heads whose keys do not fit the L2 cache together should not run
// side by side. So heads are taken pairsAtOnce at a time, as many as fit, and among those all heads' longest
// tiles come first. Without a mask all tiles are equal and pairsAtOnce is 1. The host chooses it, since a
// division of 64 bits here would cost a short problem a hundredth of its time.
struct BlockOrder {
    int rank; // 0 for the longest tile of a head
    int pair; // batch entry and head

    __device__ BlockOrder(const AttentionLaunch &launch, int tiles, int pairs) {
        const unsigned block = blockIdx.x, group = launch.pairsAtOnce;
        if (group == 1) {
            pair = block / unsigned(tiles);
            rank = block - pair * tiles;
            return;
        }
        const unsigned first = block / (group * tiles) * group, width = min(group, pairs - first);
        const unsigned within = block - first * tiles;
        rank = within / width;
        pair = first + (within - rank * width);
    }
};
