// TilePlan on the device: which keys a row sees and which tiles a tile visits.
//
// The same law as TilePlan.swift, line by line, and like there the one owner of every bound: no kernel
// computes a causal limit of its own. A window or a packed sequence changes `visibleKeys` and
// `visibleQueries` here, and the zones follow.
#pragma once

#include "tile_abi.h"

struct TileRange {
    int lower, upper;

    __device__ bool isEmpty() const { return lower >= upper; }
    __device__ bool contains(int x) const { return x >= lower && x < upper; }
};

// Tiles that cover so many rows or keys.
__device__ inline int tileCount(int length, int tile) { return (length + tile - 1) / tile; }

template <int QueryTile, int KeyTile>
struct TilePlan {
    int queryLength, keyLength, mask;

    // The plan of one batch entry. Keys past its length do not exist: bottom-right alignment counts from
    // those that do.
    __device__ TilePlan(const AttentionLaunch &launch, int batch)
        : queryLength(launch.queryLength), keyLength(launch.keyLength), mask(launch.mask) {
        // Lengths that come from device memory have been checked by nobody. (The other order of min and max
        // makes ptxas spill in FlashAttention-2's backward kernel at D 256.)
        if (launch.keyLengths)
            keyLength =
                max(min(reinterpret_cast<const int *>(launch.keyLengths)[batch], launch.keyLength), 0);
    }

    // MARK: The mask's geometry.

    __device__ int diagonal() const {
        return mask == TileMaskCausalBottomRight ? keyLength - queryLength : 0;
    }

    // The keys that a query row may see. Both bounds grow with the row.
    __device__ TileRange visibleKeys(int row) const {
        if (mask == TileMaskFull) return {0, keyLength};
        return {0, min(max(row + diagonal() + 1, 0), keyLength)};
    }

    // The query rows that may see a key. Both bounds grow with the key.
    __device__ TileRange visibleQueries(int key) const {
        if (mask == TileMaskFull) return {0, queryLength};
        return {min(max(key - diagonal(), 0), queryLength), queryLength};
    }

    // MARK: Tiles.

    // The rows of query tile i.
    __device__ TileRange queries(int i) const {
        return {i * QueryTile, min((i + 1) * QueryTile, queryLength)};
    }

    // The keys of key tile j.
    __device__ TileRange keys(int j) const { return {j * KeyTile, min((j + 1) * KeyTile, keyLength)}; }

    // The keys that at least one of these rows sees.
    __device__ TileRange visibleKeys(TileRange rows) const {
        if (rows.isEmpty()) return {0, 0};
        return {visibleKeys(rows.lower).lower, visibleKeys(rows.upper - 1).upper};
    }

    // The key tiles that query tile i visits, in order.
    __device__ TileRange keyTiles(int i) const { return covering(visibleKeys(queries(i)), KeyTile); }

    // The query tiles that visit key tile j, in order.
    __device__ TileRange queryTiles(int j) const { return covering(queriesOfKeys(keys(j)), QueryTile); }

    // The query rows that see at least one of these keys.
    __device__ TileRange queriesOfKeys(TileRange k) const {
        if (k.isEmpty()) return {0, 0};
        return {visibleQueries(k.lower).lower, visibleQueries(k.upper - 1).upper};
    }

    // The keys of key tile j that at least one query row sees.
    __device__ TileRange visibleKeysOfTile(int j) const {
        TileRange k = keys(j), visible = visibleKeys(TileRange{0, queryLength});
        return {max(k.lower, visible.lower), min(k.upper, visible.upper)};
    }

    // MARK: Zones. A tile that is not whole goes through the masking step, which also cuts its edge.

    // The key tiles of query tile i that need no test at all: those that its first row sees whole.
    __device__ TileRange wholeKeyTiles(int i) const {
        TileRange rows = queries(i);
        if (rows.isEmpty()) return {0, 0};
        TileRange first = visibleKeys(rows.lower), last = visibleKeys(rows.upper - 1);
        return {tileCount(last.lower, KeyTile), first.upper / KeyTile};
    }

    // Whether the tile where query tile i meets key tile j needs no test at all.
    __device__ bool isWhole(int i, int j) const {
        TileRange rows = queries(i);
        return rows.upper - rows.lower == QueryTile && wholeKeyTiles(i).contains(j);
    }

private:
    __device__ static TileRange covering(TileRange range, int size) {
        if (range.isEmpty()) return {0, 0};
        return {range.lower / size, tileCount(range.upper, size)};
    }
};
