import AttentionCPU

/// The one place that turns an element type and options into a device's implementation.
func makeBackend<Element: AttentionElement>(
    shape: AttentionShape, options: AttentionOptions
) throws(AttentionError) -> any AttentionBackend<Element> {
    let backend: any AttentionBackend =
        switch Element.self {
        case is Float.Type: try CPUAttention<Float>(shape: shape, options: options)
        case is Double.Type: try CPUAttention<Double>(shape: shape, options: options)
        default: throw .invalidOption("element type must be Float or Double, got \(Element.self)")
        }
    guard let backend = backend as? any AttentionBackend<Element> else {
        throw .invalidOption("element type must be Float or Double, got \(Element.self)")
    }
    return backend
}
