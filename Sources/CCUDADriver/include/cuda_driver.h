// The part of the CUDA driver API that we call, opened at run time.
//
// Nothing of CUDA is needed to build or to start the program: the driver's library is looked for when the
// first device is asked for. Names and numbers are those of the driver's documented, stable interface.
#ifndef CUDA_DRIVER_H
#define CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef int CUDAResult; // 0 is success
typedef int CUDADeviceID;
typedef struct CUDAContextStorage *CUDAContext;
typedef struct CUDAModuleStorage *CUDAModule;
typedef struct CUDAFunctionStorage *CUDAFunction;
typedef struct CUDAStreamStorage *CUDAStreamHandle;
typedef struct CUDAEventStorage *CUDAEventHandle;
typedef struct CUDAPoolStorage *CUDAPoolHandle;

enum {
    CUDAAttributeMultiprocessorCount = 16,
    CUDAAttributeComputeCapabilityMajor = 75,
    CUDAAttributeComputeCapabilityMinor = 76,
    CUDAFunctionMaxDynamicSharedBytes = 8,
    CUDAStreamNonBlocking = 1,
    CUDAEventDisableTiming = 2,
    CUDAHostPortable = 1,
    CUDAPoolReleaseThreshold = 4
};

// Results that mean something to us beyond their name.
enum { CUDAOutOfMemory = 2, CUDANotReady = 600 };

// CUmemPoolProps: ordinary memory of one device, not to be shared with other processes.
typedef struct {
    int allocationType; // 1, pinned to the device
    int handleTypes;    // 0, none
    int locationType;   // 1, a device
    int device;
    void *securityAttributes;
    size_t maximumBytes; // 0, no limit
    unsigned char reserved[56];
} CUDAPoolProperties;

typedef struct {
    CUDAResult (*init)(unsigned flags);
    CUDAResult (*driverGetVersion)(int *version);
    CUDAResult (*getErrorName)(CUDAResult error, const char **name);
    CUDAResult (*getErrorString)(CUDAResult error, const char **text);
    CUDAResult (*deviceGetCount)(int *count);
    CUDAResult (*deviceGet)(CUDADeviceID *device, int ordinal);
    CUDAResult (*deviceGetName)(char *name, int length, CUDADeviceID device);
    CUDAResult (*deviceGetAttribute)(int *value, int attribute, CUDADeviceID device);
    CUDAResult (*deviceTotalMem)(size_t *bytes, CUDADeviceID device);
    CUDAResult (*primaryContextRetain)(CUDAContext *context, CUDADeviceID device);
    CUDAResult (*primaryContextRelease)(CUDADeviceID device);
    CUDAResult (*contextSetCurrent)(CUDAContext context);
    CUDAResult (*moduleLoadData)(CUDAModule *module, const void *image);
    CUDAResult (*moduleUnload)(CUDAModule module);
    CUDAResult (*moduleGetFunction)(CUDAFunction *function, CUDAModule module, const char *name);
    CUDAResult (*moduleGetGlobal)(uint64_t *address, size_t *bytes, CUDAModule module, const char *name);
    CUDAResult (*functionSetAttribute)(CUDAFunction function, int attribute, int value);
    CUDAResult (*poolCreate)(CUDAPoolHandle *pool, const CUDAPoolProperties *properties);
    CUDAResult (*poolDestroy)(CUDAPoolHandle pool);
    CUDAResult (*poolSetAttribute)(CUDAPoolHandle pool, int attribute, void *value);
    CUDAResult (*poolTrim)(CUDAPoolHandle pool, size_t bytesToKeep);
    CUDAResult (*memoryAllocate)(
        uint64_t *address, size_t bytes, CUDAPoolHandle pool, CUDAStreamHandle stream);
    CUDAResult (*memoryFree)(uint64_t address, CUDAStreamHandle stream);
    CUDAResult (*copyToDevice)(uint64_t target, const void *source, size_t bytes, CUDAStreamHandle stream);
    CUDAResult (*copyToHost)(void *target, uint64_t source, size_t bytes, CUDAStreamHandle stream);
    CUDAResult (*copyOnDevice)(uint64_t target, uint64_t source, size_t bytes, CUDAStreamHandle stream);
    CUDAResult (*hostAllocate)(void **address, size_t bytes, unsigned flags);
    CUDAResult (*hostFree)(void *address);
    CUDAResult (*streamCreate)(CUDAStreamHandle *stream, unsigned flags);
    CUDAResult (*streamDestroy)(CUDAStreamHandle stream);
    CUDAResult (*streamSynchronize)(CUDAStreamHandle stream);
    CUDAResult (*streamWaitEvent)(CUDAStreamHandle stream, CUDAEventHandle event, unsigned flags);
    CUDAResult (*eventCreate)(CUDAEventHandle *event, unsigned flags);
    CUDAResult (*eventDestroy)(CUDAEventHandle event);
    CUDAResult (*eventRecord)(CUDAEventHandle event, CUDAStreamHandle stream);
    CUDAResult (*eventQuery)(CUDAEventHandle event);
    CUDAResult (*eventSynchronize)(CUDAEventHandle event);
    CUDAResult (*eventElapsedTime)(float *milliseconds, CUDAEventHandle start, CUDAEventHandle end);
    CUDAResult (*launchKernel)(
        CUDAFunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
        unsigned blockY, unsigned blockZ, unsigned sharedBytes, CUDAStreamHandle stream, void **parameters,
        void **extra);
} CUDADriverFunctions;

// Opens the driver's library and finds every function. Returns null, or what is missing: the loader's words
// or the name of the function, in memory of the loader or of the program's constants.
const char *cuda_driver_open(CUDADriverFunctions *functions);

#endif
