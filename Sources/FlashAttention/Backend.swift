import AttentionCPU
#if CUDA
import AttentionCUDA
#endif

/// The one place that turns an element type and options into a device's implementation.
func makeBackend<Element: AttentionElement>(
    shape: AttentionShape, options: AttentionOptions
) throws(AttentionError) -> any AttentionBackend<Element> {
    let backend: any AttentionBackend =
        switch (options.device, Element.self) {
        case (.cpu, is Float.Type): try CPUAttention<Float>(shape: shape, options: options)
        case (.cpu, is Double.Type): try CPUAttention<Double>(shape: shape, options: options)
        #if CUDA
        case (.cuda, is Float.Type): try CUDAAttention(shape: shape, options: options)
        case (.cuda, _): throw .invalidOption("cuda: element type must be Float, got \(Element.self)")
        #else
        case (.cuda, _): throw .deviceUnavailable("cuda: this build does not have it (trait CUDA)")
        #endif
        default: throw .invalidOption("element type must be Float or Double, got \(Element.self)")
        }
    guard let backend = backend as? any AttentionBackend<Element> else {
        throw .invalidOption("element type must be Float or Double, got \(Element.self)")
    }
    return backend
}
