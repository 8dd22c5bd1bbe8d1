extension Int {
    /// The smallest multiple of `unit` that is no less than this count: a length padded to whole units.
    ///
    /// - Parameters:
    ///   - unit: 1 or more.
    package func roundedUp(toMultipleOf unit: Int) -> Int { TilePlan.tiles(self, of: unit) * unit }
}
