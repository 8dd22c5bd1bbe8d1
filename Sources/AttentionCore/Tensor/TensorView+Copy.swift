extension MutableTensorView {
    /// Copies the elements of a tensor of the same extents.
    package func copyRows(of source: TensorView<Element>) {
        guard extents.count > 0 else { return }
        for b in 0..<extents.batch {
            for h in 0..<extents.heads {
                for n in 0..<extents.length {
                    row(b, h, n).update(from: source.row(b, h, n), count: extents.size)
                }
            }
        }
    }
}
