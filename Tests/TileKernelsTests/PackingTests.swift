import AttentionCPU
import AttentionCore
import Testing
import TileKernelTable

@Suite("Packing")
struct PackingTests {
    private func pack<S: TestScalar>(_ type: S.Type, _ set: KernelSet) {
        let table = S.tileKernels(set)
        let width = table.panelWidth
        for n in table.interestingColumns {
            for k in [0, 1, 3, table.lanes - 1, table.lanes, table.lanes + 1, 2 * table.lanes + 3] {
                let source = Matrix<S>.random(n, k, stride: k + 3, seed: 4)
                let panels = Matrix<S>(1, table.packedCount(rows: n, depth: k))
                table.packTransposed(n, k, source.memory, source.stride, panels.memory)
                var wrong = 0
                for column in 0..<n.roundedUp(toMultipleOf: width) {
                    for d in 0..<k {
                        let found = panels[0, column / width * width * k + d * width + column % width]
                        if found != (column < n ? source[column, d] : 0) { wrong += 1 }
                    }
                }
                #expect(wrong == 0, "\(S.self) n \(n) k \(k)")
                #expect(panels.isUntouched(), "\(S.self) n \(n) k \(k)")
            }
        }
    }

    @Test(arguments: kernelSets)
    func rows_becomeColumnsOfPanels_paddedWithZeros(set: KernelSet) {
        pack(Float.self, set)
        pack(Double.self, set)
    }

    @Test(arguments: kernelSets)
    func table_isTheOneAskedFor(set: KernelSet) {
        for (size, table) in [(4, Float.tileKernels(set)), (8, Double.tileKernels(set))] {
            #expect("\(table.name)" == set.rawValue)
            #expect(table.scalarSize == size)
            #expect(table.panelWidth % table.lanes == 0 && table.registerRows > 0)
        }
    }
}
