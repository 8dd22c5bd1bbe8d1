/// The compiled kernel sources, base64: each is a property that a build with the trait `CUDA` writes from one
/// `.cu` file.
enum EmbeddedKernels {}
