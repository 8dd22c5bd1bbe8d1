import AttentionCore

/// The one place that says which kernels an algorithm's passes are.
extension LaunchProblem {
    private var heads: Int { shape.batch * shape.heads }
    private var keyHeads: Int { shape.batch * shape.keyValueHeads }
    private var bucketName: String { "\(format.rawValue)_d\(bucket ?? 0)" }
    private var isF32: Bool { format == .f32 }

    /// Forward, in order.
    package var forwardSteps: [LaunchStep] {
        let f = format.rawValue, s = shape
        switch algorithm {
        case .naive:
            return [
                step("naive_scores_\(f)", .naiveForward, .tiles(s.keyLength, s.queryLength, heads: heads)),
                step("naive_softmax", .naiveForward, .rows(s.queryLength, heads: heads)),
                step(
                    "naive_output_\(f)", .naiveForward,
                    .tiles(s.valueHeadSize, s.queryLength, heads: heads)),
            ]
        case .onlineSoftmax:
            return [step("online_forward_\(f)", .onlineSoftmaxForward, .rows(s.queryLength, heads: heads))]
        case .flashAttention1:
            return [step("fa1_forward_\(bucketName)", .flashAttention1Forward, .fixed(Grid(heads)))]
        case .flashAttention2:
            if let splits {
                let rowTiles = TilePlan.tiles(s.queryLength * s.groupSize, of: 16)
                return [
                    step(
                        "split_forward_\(bucketName)", .splitKeysForward,
                        .fixed(Grid(splits, s.keyValueHeads, s.batch * rowTiles))),
                    step("split_merge_\(f)", .splitKeysForward, .fixed(Grid(s.rowCount))),
                ]
            }
            return [
                step(
                    "fa2_forward_\(isSmall(.forward) ? "small_" : "")\(bucketName)",
                    isF32 ? .flashAttention2ForwardF32 : .flashAttention2Forward,
                    .queryTiles(rows: s.queryLength, heads: heads), pairs: heads,
                    pairBytes: keyBytes)
            ]
        }
    }

    /// Backward, in order.
    package var backwardSteps: [LaunchStep] {
        let f = format.rawValue, s = shape
        let tiles = GridRule.tiles(s.keyLength, s.queryLength, heads: heads)
        let queries = GridRule.rows(s.queryLength, heads: heads)
        switch algorithm {
        case .naive:
            return [
                prepare, step("naive_scores_\(f)", .naiveForward, tiles),
                step("naive_probabilities", .naiveBackward, queries),
                step(
                    "naive_value_gradient_\(f)", .naiveBackward,
                    .tiles(s.valueHeadSize, s.keyLength, heads: keyHeads)),
                step("naive_scores_gradient_\(f)", .naiveBackward, tiles),
                step(
                    "naive_key_gradient_\(f)", .naiveBackward,
                    .tiles(s.headSize, s.keyLength, heads: keyHeads)),
                step(
                    "naive_query_gradient_\(f)", .naiveBackward,
                    .tiles(s.headSize, s.queryLength, heads: heads)),
            ]
        case .onlineSoftmax:
            return [
                prepare, step("online_backward_query_\(f)", .onlineSoftmaxBackward, queries),
                step(
                    "online_backward_keys_\(f)", .onlineSoftmaxBackward,
                    .rows(s.keyLength, heads: keyHeads)),
            ]
        case .flashAttention1:
            return [
                prepare, step("fa1_backward_\(bucketName)", .flashAttention1Backward, .fixed(Grid(keyHeads))),
            ]
        case .flashAttention2:
            let module: KernelModule = isF32 ? .flashAttention2BackwardF32 : .flashAttention2Backward
            return [
                step("fa2_backward_prepare_\(bucketName)", module, .rows(paddedRows, heads: heads)),
                step(
                    "fa2_backward_\(isSmall(.backward) ? "small_" : "")\(bucketName)", module,
                    .keyTiles(keys: s.keyLength, heads: keyHeads), pairs: keyHeads, pairBytes: queryBytes),
                deterministic
                    ? step(
                        "fa2_backward_query_\(bucketName)", module,
                        .queryTiles(rows: s.queryLength, heads: heads), pairs: heads, pairBytes: keyBytes)
                    : step("fa2_backward_finish_\(bucketName)", module, .rows(paddedRows, heads: heads)),
            ]
        }
    }

    /// lse and delta of every row, for the algorithms that sum dQ in another way than FlashAttention-2.
    private var prepare: LaunchStep {
        let rows = GridRule.rows(paddedRows, heads: heads)
        if isF32 { return step("naive_backward_prepare_f32", .naiveBackward, rows) }
        // FA1 has fewer buckets, each of them one of FA2's.
        return step("fa2_backward_prepare_\(bucketName)", .flashAttention2Backward, rows)
    }

    /// What all query tiles of one head read, as far as it should stay in the cache: in F32 tiles of 128 rows
    /// read 0.9 TB/s at the speed that they have on an H100, which device memory gives.
    private var keyBytes: Int {
        guard !isF32 else { return 0 }
        return shape.keyLength * (shape.headSize + shape.valueHeadSize) * format.byteCount
            / max(shape.groupSize, 1)
    }
    /// What all key tiles of one key/value head read, likewise.
    private var queryBytes: Int {
        guard !isF32 else { return 0 }
        return shape.queryLength * (shape.headSize + shape.valueHeadSize) * format.byteCount * shape.groupSize
    }

    private func step(
        _ name: String, _ module: KernelModule, _ grid: GridRule, pairs: Int = 1, pairBytes: Int = 0
    ) -> LaunchStep {
        LaunchStep(name: name, module: module, grid: grid, pairs: pairs, pairBytes: pairBytes)
    }
}

extension LaunchStep {
    /// Heads whose blocks run side by side: about as many as a third of an H100's L2 holds, one without a
    /// mask. All groups are of one size if up to twice as many make that possible: a small last group ends
    /// with its long tiles, most processors being idle.
    package func pairsAtOnce(_ mask: AttentionMask) -> Int {
        if mask == .full { return 1 }
        let fitting = max(1, min(pairs, (16 << 20) / max(pairBytes, 1)))
        return (fitting...min(2 * fitting, max(pairs, 1))).first { pairs % $0 == 0 } ?? fitting
    }
}
