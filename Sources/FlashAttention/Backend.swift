import AttentionCPU
import AttentionCUDA

/// The one place that turns an element type and options into a device's implementation.
func makeBackend<Element: AttentionElement>(
    shape: AttentionShape, options: AttentionOptions
) throws(AttentionError) -> any AttentionBackend<Element> {
    let backend: any AttentionBackend =
        switch (options.device, Element.self) {
        case (.cpu, is Float.Type): try CPUAttention<Float>(shape: shape, options: options)
        case (.cpu, is Double.Type): try CPUAttention<Double>(shape: shape, options: options)
        case (.cpu, is BFloat16.Type): try CPUAttention<BFloat16>(shape: shape, options: options)
        #if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
        case (.cpu, is Float16.Type): try CPUAttention<Float16>(shape: shape, options: options)
        #endif
        case (.cuda, _): try CUDAAttention<Element>(shape: shape, options: options)
        default: throw .invalidOption("expected a known element type, got \(Element.self)")
        }
    guard let backend = backend as? any AttentionBackend<Element> else {
        throw .invalidOption("expected a known element type, got \(Element.self)")
    }
    return backend
}
