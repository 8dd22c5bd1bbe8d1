/// The size of a tile of scores.
public struct TileSizes: Hashable, Sendable {
    /// Br, query rows.
    public var queries: Int
    /// Bc, key columns.
    public var keys: Int

    /// Br query rows by Bc keys.
    public init(queries: Int, keys: Int) {
        self.queries = queries
        self.keys = keys
    }
}
