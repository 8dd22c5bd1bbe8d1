import ArgumentParser
import SafeTensors

/// Options of the contract that this version does not have. They are recognised so that nobody takes a result
/// without them for one with them.
struct LaterOptions: ParsableArguments {
    @Option(parsing: .unconditional, help: .hidden) var window: String?
    @Option(parsing: .unconditional, help: .hidden) var softcap: String?
    @Option(parsing: .unconditional, help: .hidden) var dropout: String?
    @Option(parsing: .unconditional, help: .hidden) var seed: String?
    @Option(parsing: .unconditional, help: .hidden) var emit: String?
    @Option(parsing: .unconditional, help: .hidden) var blockMaskSize: String?

    /// - Throws: `CommandError.usage` if one of them was given.
    func refuse() throws {
        for (name, value) in [
            ("window", window), ("softcap", softcap), ("dropout", dropout), ("seed", seed), ("emit", emit),
            ("block-mask-size", blockMaskSize),
        ] {
            if let value {
                throw CommandError.usage(
                    "--\(name): expected none, for it is not there yet, got '\(value)'")
            }
        }
    }
}

/// Tensors of the contract that this version does not read. Any other name is none of ours and is passed
/// over.
private let laterTensors = [
    "bias", "mask", "alibi_slopes", "sinks", "cu_seqlens_q", "cu_seqlens_k", "block_table", "block_mask",
]

/// - Throws: `CommandError.data` if the file holds one that would change the result.
func refuseLaterTensors(_ file: SafeTensorsFile) throws {
    for name in laterTensors {
        if let info = file.tensors[name] {
            throw CommandError.data(
                "tensor \(name): expected none, for it is not there yet, got \(info.dataType.rawValue) "
                    + "of shape \(describe(info.shape))")
        }
    }
}
