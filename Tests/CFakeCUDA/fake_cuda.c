#include "fake_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Tests that use the driver run one after the other, so that nothing here is locked.
enum { maximumCalls = 4096, lineLength = 96 };

static FakeCUDALive live;
static char lines[maximumCalls][lineLength];
static long lineCount;
static long streamCount;
static struct {
    char name[64];
    long number;
    int error;
} failure;

struct CUDAStreamStorage {
    long number;
};
struct CUDAFunctionStorage {
    char name[64];
    struct CUDAFunctionStorage *next;
};
struct CUDAModuleStorage {
    struct CUDAFunctionStorage *functions;
};

void fake_cuda_reset(void) {
    lineCount = 0;
    streamCount = 0;
    failure.number = 0;
}

FakeCUDALive fake_cuda_live(void) { return live; }

void fake_cuda_fail(const char *name, long number, int error) {
    snprintf(failure.name, sizeof failure.name, "%s", name);
    failure.number = number;
    failure.error = error;
}

long fake_cuda_is_waiting_to_fail(void) { return failure.number; }

const char *fake_cuda_call(long index) { return index < lineCount ? lines[index] : NULL; }

static void note(const char *name, CUDAStreamHandle stream, const char *what) {
    if (lineCount == maximumCalls) return;
    if (stream)
        snprintf(
            lines[lineCount++], lineLength, "%s s%ld%s%s", name, stream->number, what ? " " : "",
            what ? what : "");
    else
        snprintf(lines[lineCount++], lineLength, "%s%s%s", name, what ? " " : "", what ? what : "");
}

// Counts a call towards the failure asked for; what it is to return.
static CUDAResult outcome(const char *name) {
    if (failure.number > 0 && strcmp(name, failure.name) == 0 && --failure.number == 0) return failure.error;
    return 0;
}

#define BEGIN(name)                                                                                          \
    CUDAResult result = outcome(name);                                                                       \
    if (result) return result

static CUDAResult initialise(unsigned flags) { return (void)flags, 0; }
static CUDAResult version(int *version) { return *version = 13000, 0; }
static CUDAResult errorName(CUDAResult error, const char **name) {
    *name = error == CUDAOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_ILLEGAL_ADDRESS";
    return 0;
}
static CUDAResult errorText(CUDAResult error, const char **text) {
    return (void)error, *text = "of the fake", 0;
}
static CUDAResult deviceCount(int *count) { return *count = 2, 0; }
static CUDAResult device(CUDADeviceID *device, int ordinal) { return *device = ordinal, 0; }
static CUDAResult deviceName(char *name, int length, CUDADeviceID device) {
    snprintf(name, length, "Fake %d", device);
    return 0;
}
static CUDAResult attribute(int *value, int attribute, CUDADeviceID device) {
    (void)device;
    *value = attribute == CUDAAttributeMultiprocessorCount            ? 132
             : attribute == CUDAAttributeComputeCapabilityMajor ? 9
                                                                : 0;
    return 0;
}
static CUDAResult totalMemory(size_t *bytes, CUDADeviceID device) {
    return (void)device, *bytes = 1 << 30, 0;
}
static CUDAResult retainContext(CUDAContext *context, CUDADeviceID device) {
    BEGIN("cuDevicePrimaryCtxRetain");
    *context = (CUDAContext)(intptr_t)(device + 1);
    ++live.contexts;
    return 0;
}
static CUDAResult releaseContext(CUDADeviceID device) { return (void)device, --live.contexts, 0; }
static CUDAResult setContext(CUDAContext context) { return (void)context, 0; }

static CUDAResult loadModule(CUDAModule *module, const void *image) {
    BEGIN("cuModuleLoadData");
    (void)image;
    *module = calloc(1, sizeof **module);
    ++live.modules;
    note("cuModuleLoadData", NULL, NULL);
    return 0;
}
static CUDAResult unloadModule(CUDAModule module) {
    for (struct CUDAFunctionStorage *f = module->functions; f;) {
        struct CUDAFunctionStorage *next = f->next;
        free(f);
        f = next;
    }
    free(module);
    --live.modules;
    return 0;
}
static CUDAResult function(CUDAFunction *function, CUDAModule module, const char *name) {
    BEGIN("cuModuleGetFunction");
    *function = calloc(1, sizeof **function);
    snprintf((*function)->name, sizeof (*function)->name, "%s", name);
    (*function)->next = module->functions;
    module->functions = *function;
    return 0;
}
// The geometry beside every kernel: threads, shared bytes, Br, Bc.
static CUDAResult global(uint64_t *address, size_t *bytes, CUDAModule module, const char *name) {
    static int32_t geometry[4] = {128, 1024, 64, 32};
    BEGIN("cuModuleGetGlobal");
    (void)module, (void)name;
    *address = (uint64_t)(uintptr_t)geometry;
    *bytes = sizeof geometry;
    return 0;
}
static CUDAResult setFunctionAttribute(CUDAFunction function, int attribute, int value) {
    (void)attribute, (void)value;
    note("cuFuncSetAttribute", NULL, function->name);
    return 0;
}

static CUDAResult createPool(CUDAPoolHandle *pool, const CUDAPoolProperties *properties) {
    BEGIN("cuMemPoolCreate");
    *pool = (CUDAPoolHandle)(intptr_t)(properties->device + 1);
    ++live.pools;
    return 0;
}
static CUDAResult destroyPool(CUDAPoolHandle pool) { return (void)pool, --live.pools, 0; }
static CUDAResult setPoolAttribute(CUDAPoolHandle pool, int attribute, void *value) {
    BEGIN("cuMemPoolSetAttribute");
    return (void)pool, (void)attribute, (void)value, 0;
}
static CUDAResult trimPool(CUDAPoolHandle pool, size_t bytes) {
    char kept[24];
    BEGIN("cuMemPoolTrimTo");
    (void)pool;
    snprintf(kept, sizeof kept, "%zu", bytes);
    note("cuMemPoolTrimTo", NULL, kept);
    return 0;
}
static CUDAResult allocate(uint64_t *address, size_t bytes, CUDAPoolHandle pool, CUDAStreamHandle stream) {
    BEGIN("cuMemAllocFromPoolAsync");
    (void)pool;
    void *memory = NULL;
    if (posix_memalign(&memory, 256, bytes)) return CUDAOutOfMemory;
    *address = (uint64_t)(uintptr_t)memory;
    ++live.memory;
    note("cuMemAllocFromPoolAsync", stream, NULL);
    return 0;
}
static CUDAResult freeMemory(uint64_t address, CUDAStreamHandle stream) {
    free((void *)(uintptr_t)address);
    --live.memory;
    note("cuMemFreeAsync", stream, NULL);
    return 0;
}
static CUDAResult toDevice(uint64_t target, const void *source, size_t bytes, CUDAStreamHandle stream) {
    BEGIN("cuMemcpyHtoDAsync");
    memcpy((void *)(uintptr_t)target, source, bytes);
    note("cuMemcpyHtoDAsync", stream, NULL);
    return 0;
}
static CUDAResult toHost(void *target, uint64_t source, size_t bytes, CUDAStreamHandle stream) {
    BEGIN("cuMemcpyDtoHAsync");
    memcpy(target, (const void *)(uintptr_t)source, bytes);
    note("cuMemcpyDtoHAsync", stream, NULL);
    return 0;
}
static CUDAResult onDevice(uint64_t target, uint64_t source, size_t bytes, CUDAStreamHandle stream) {
    BEGIN("cuMemcpyDtoDAsync");
    memcpy((void *)(uintptr_t)target, (const void *)(uintptr_t)source, bytes);
    note("cuMemcpyDtoDAsync", stream, NULL);
    return 0;
}
static CUDAResult allocateHost(void **address, size_t bytes, unsigned flags) {
    BEGIN("cuMemHostAlloc");
    (void)flags;
    *address = malloc(bytes);
    ++live.pinned;
    note("cuMemHostAlloc", NULL, NULL);
    return 0;
}
static CUDAResult freeHost(void *address) {
    free(address);
    --live.pinned;
    note("cuMemFreeHost", NULL, NULL);
    return 0;
}

static CUDAResult createStream(CUDAStreamHandle *stream, unsigned flags) {
    BEGIN("cuStreamCreate");
    (void)flags;
    *stream = calloc(1, sizeof **stream);
    (*stream)->number = ++streamCount;
    ++live.streams;
    return 0;
}
static CUDAResult destroyStream(CUDAStreamHandle stream) {
    free(stream);
    --live.streams;
    return 0;
}
static CUDAResult synchronizeStream(CUDAStreamHandle stream) {
    BEGIN("cuStreamSynchronize");
    note("cuStreamSynchronize", stream, NULL);
    return 0;
}
static CUDAResult waitForEvent(CUDAStreamHandle stream, CUDAEventHandle event, unsigned flags) {
    BEGIN("cuStreamWaitEvent");
    (void)event, (void)flags;
    note("cuStreamWaitEvent", stream, NULL);
    return 0;
}
static CUDAResult createEvent(CUDAEventHandle *event, unsigned flags) {
    BEGIN("cuEventCreate");
    (void)flags;
    *event = malloc(1);
    ++live.events;
    return 0;
}
static CUDAResult destroyEvent(CUDAEventHandle event) {
    free(event);
    --live.events;
    return 0;
}
static CUDAResult recordEvent(CUDAEventHandle event, CUDAStreamHandle stream) {
    BEGIN("cuEventRecord");
    (void)event;
    note("cuEventRecord", stream, NULL);
    return 0;
}
static CUDAResult queryEvent(CUDAEventHandle event) {
    BEGIN("cuEventQuery");
    return (void)event, 0;
}
static CUDAResult synchronizeEvent(CUDAEventHandle event) { return (void)event, 0; }
static CUDAResult elapsedTime(float *milliseconds, CUDAEventHandle start, CUDAEventHandle end) {
    return (void)start, (void)end, *milliseconds = 1, 0;
}
static CUDAResult launch(
    CUDAFunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY,
    unsigned blockZ, unsigned sharedBytes, CUDAStreamHandle stream, void **parameters, void **extra) {
    BEGIN("cuLaunchKernel");
    (void)gridX, (void)gridY, (void)gridZ, (void)blockX, (void)blockY, (void)blockZ, (void)sharedBytes;
    (void)parameters, (void)extra;
    note("cuLaunchKernel", stream, function->name);
    return 0;
}

void fake_cuda_functions(CUDADriverFunctions *functions) {
    *functions = (CUDADriverFunctions){
        .init = initialise,
        .driverGetVersion = version,
        .getErrorName = errorName,
        .getErrorString = errorText,
        .deviceGetCount = deviceCount,
        .deviceGet = device,
        .deviceGetName = deviceName,
        .deviceGetAttribute = attribute,
        .deviceTotalMem = totalMemory,
        .primaryContextRetain = retainContext,
        .primaryContextRelease = releaseContext,
        .contextSetCurrent = setContext,
        .moduleLoadData = loadModule,
        .moduleUnload = unloadModule,
        .moduleGetFunction = function,
        .moduleGetGlobal = global,
        .functionSetAttribute = setFunctionAttribute,
        .poolCreate = createPool,
        .poolDestroy = destroyPool,
        .poolSetAttribute = setPoolAttribute,
        .poolTrim = trimPool,
        .memoryAllocate = allocate,
        .memoryFree = freeMemory,
        .copyToDevice = toDevice,
        .copyToHost = toHost,
        .copyOnDevice = onDevice,
        .hostAllocate = allocateHost,
        .hostFree = freeHost,
        .streamCreate = createStream,
        .streamDestroy = destroyStream,
        .streamSynchronize = synchronizeStream,
        .streamWaitEvent = waitForEvent,
        .eventCreate = createEvent,
        .eventDestroy = destroyEvent,
        .eventRecord = recordEvent,
        .eventQuery = queryEvent,
        .eventSynchronize = synchronizeEvent,
        .eventElapsedTime = elapsedTime,
        .launchKernel = launch,
    };
}
