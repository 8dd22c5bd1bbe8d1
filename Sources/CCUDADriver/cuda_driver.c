#include "cuda_driver.h"

#include <dlfcn.h>
#include <string.h>

// The names under which the driver exports the functions, in the order of the table.
static const char *const names[] = {
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuModuleGetGlobal_v2",
    "cuFuncSetAttribute",
    "cuMemPoolCreate",
    "cuMemPoolDestroy",
    "cuMemPoolSetAttribute",
    "cuMemPoolTrimTo",
    "cuMemAllocFromPoolAsync",
    "cuMemFreeAsync",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventQuery",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuLaunchKernel",
};

_Static_assert(
    sizeof(CUDADriverFunctions) == sizeof(names) / sizeof(names[0]) * sizeof(void *),
    "one name for each function");

const char *cuda_driver_open(CUDADriverFunctions *functions) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return dlerror();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); ++i) {
        void *address = dlsym(library, names[i]);
        if (!address) {
            dlclose(library);
            return names[i];
        }
        memcpy((char *)functions + i * sizeof(void *), &address, sizeof(void *));
    }
    return NULL;
}
