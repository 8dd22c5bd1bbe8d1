#if CUDA
/// The compiled kernel sources, base64: each is a property that the build writes from one `.cu` file.
enum EmbeddedKernels {}
#endif
