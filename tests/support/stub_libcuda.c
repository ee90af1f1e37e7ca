// An NVIDIA driver without a device: what cuda.core and cuda.bindings call, as far as CudaDriver needs it. Device memory is
// host memory, streams do their copies at once, kernels and graphs do nothing. Every call is a line in the file that
// STUB_CUDA_LOG names. Compiled by tests against the real cuda.h, so the prototypes are NVIDIA's.
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void says(const char* format, ...) {
  FILE* log = fopen(getenv("STUB_CUDA_LOG"), "a");
  va_list values;
  va_start(values, format);
  vfprintf(log, format, values);
  va_end(values);
  fputc('\n', log);
  fclose(log);
}

// STUB_CUDA_FAILS names a call that fails.
static CUresult answer(const char* call) {
  const char* fails = getenv("STUB_CUDA_FAILS");
  return fails && !strcmp(fails, call) ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
}

static char context, pool, library, kernel, captured, executable;
static int made;
static CUstream capturing;

CUresult cuGetProcAddress(const char* name, void** function, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult* status) {
  static const char* endings[] = {"_v4", "_v3", "_v2", ""};
  Dl_info mine, found;
  dladdr((void*)cuGetProcAddress, &mine);
  *function = NULL;
  for (int i = 0; i < 4 && !*function; i++) {
    char whole[128];
    snprintf(whole, sizeof whole, "%s%s", name, endings[i]);
    void* symbol = dlsym(RTLD_DEFAULT, whole);
    if (symbol && dladdr(symbol, &found) && found.dli_fbase == mine.dli_fbase) *function = symbol;
  }
  if (status) *status = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuInit(unsigned flags) { return CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult error, const char** name) { *name = "CUDA_ERROR_LAUNCH_FAILED"; return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char** text) { *text = "unspecified launch failure"; return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) { *version = 13000; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice* device, int number) { *device = number; return number ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int* count) { *count = 1; return CUDA_SUCCESS; }
CUresult cuDeviceGetName(char* name, int size, CUdevice device) { snprintf(name, size, "Stub 9000"); return CUDA_SUCCESS; }

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice device) {
  *value = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 9
           : which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? 0 : 1;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* held, CUdevice device) { *held = (CUcontext)&context; return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRelease(CUdevice device) { return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext held) { return answer("cuCtxSetCurrent"); }
CUresult cuCtxGetCurrent(CUcontext* held) { *held = (CUcontext)&context; return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice* device) { *device = 0; return CUDA_SUCCESS; }
CUresult cuCtxSynchronize(void) { says("cuCtxSynchronize"); return answer("cuCtxSynchronize"); }
CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) { *least = 0; *greatest = -5; return CUDA_SUCCESS; }
CUresult cuMemGetInfo(size_t* free_bytes, size_t* total) { *free_bytes = 1u << 30; *total = 1u << 31; return CUDA_SUCCESS; }

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int priority) {
  *stream = (CUstream)(size_t)(0x1000 + 16 * ++made);
  says("cuStreamCreate flags=%u", flags);
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) { says("cuStreamDestroy"); return CUDA_SUCCESS; }
CUresult cuStreamSynchronize(CUstream stream) { says("cuStreamSynchronize"); return answer("cuStreamSynchronize"); }
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) { says("cuStreamWaitEvent"); return CUDA_SUCCESS; }
CUresult cuStreamGetCtx(CUstream stream, CUcontext* held) { *held = (CUcontext)&context; return CUDA_SUCCESS; }
CUresult cuStreamGetFlags(CUstream stream, unsigned* flags) { *flags = CU_STREAM_NON_BLOCKING; return CUDA_SUCCESS; }
CUresult cuStreamGetPriority(CUstream stream, int* priority) { *priority = 0; return CUDA_SUCCESS; }

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  says("cuStreamBeginCapture mode=%d", mode);
  capturing = stream;
  return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  says("cuStreamEndCapture");
  capturing = NULL;
  if (graph) *graph = (CUgraph)&captured;
  return answer("cuStreamEndCapture");
}
CUresult cuStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph,
                                const CUgraphNode** nodes, const CUgraphEdgeData** edges, size_t* count) {
  *status = stream == capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  if (id) *id = 1;
  if (graph) *graph = (CUgraph)&captured;
  if (count) *count = 0;
  return CUDA_SUCCESS;
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  *status = stream == capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}
CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) { return CUDA_SUCCESS; }

CUresult cuGraphInstantiateWithParams(CUgraphExec* made_of, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  says("cuGraphInstantiate flags=%llu", (unsigned long long)params->flags);
  *made_of = (CUgraphExec)&executable;
  params->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
  return answer("cuGraphInstantiate");
}
CUresult cuUserObjectCreate(CUuserObject* object, void* what, CUhostFn destroy, unsigned count, unsigned flags) {
  *object = (CUuserObject)&pool;
  return CUDA_SUCCESS;
}
CUresult cuUserObjectRetain(CUuserObject object, unsigned count) { return CUDA_SUCCESS; }
CUresult cuUserObjectRelease(CUuserObject object, unsigned count) { return CUDA_SUCCESS; }
CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned count, unsigned flags) { return CUDA_SUCCESS; }
CUresult cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned count) { return CUDA_SUCCESS; }
CUresult cuGraphUpload(CUgraphExec graph, CUstream stream) { says("cuGraphUpload"); return answer("cuGraphUpload"); }
CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) { says("cuGraphLaunch"); return answer("cuGraphLaunch"); }
CUresult cuGraphExecDestroy(CUgraphExec graph) { says("cuGraphExecDestroy"); return CUDA_SUCCESS; }
CUresult cuGraphDestroy(CUgraph graph) { says("cuGraphDestroy"); return CUDA_SUCCESS; }

CUresult cuEventCreate(CUevent* event, unsigned flags) {
  *event = (CUevent)(size_t)(0x2000 + 16 * ++made);
  says("cuEventCreate flags=%u", flags);
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) { says("cuEventDestroy"); return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream stream) { says("cuEventRecord"); return CUDA_SUCCESS; }
CUresult cuEventSynchronize(CUevent event) { says("cuEventSynchronize"); return answer("cuEventSynchronize"); }
CUresult cuEventQuery(CUevent event) { return CUDA_ERROR_NOT_READY; }
CUresult cuEventElapsedTime(float* ms, CUevent start, CUevent end) { *ms = .5f; return CUDA_SUCCESS; }

static CUresult allocated(CUdeviceptr* at, size_t size, const char* call) {
  *at = (CUdeviceptr)aligned_alloc(256, (size + 255) / 256 * 256);
  memset((void*)*at, 0xa5, size);
  says("%s %zu", call, size);
  return answer(call);
}
CUresult cuMemAlloc(CUdeviceptr* at, size_t size) { return allocated(at, size, "cuMemAlloc"); }
CUresult cuMemAllocFromPoolAsync(CUdeviceptr* at, size_t size, CUmemoryPool from, CUstream stream) {
  return allocated(at, size, "cuMemAllocAsync");
}
CUresult cuMemAllocHost(void** at, size_t size) { return allocated((CUdeviceptr*)at, size, "cuMemAllocHost"); }
CUresult cuMemFree(CUdeviceptr at) { says("cuMemFree"); free((void*)at); return CUDA_SUCCESS; }
CUresult cuMemFreeAsync(CUdeviceptr at, CUstream stream) { says("cuMemFreeAsync"); free((void*)at); return CUDA_SUCCESS; }
CUresult cuMemFreeHost(void* at) { says("cuMemFreeHost"); free(at); return CUDA_SUCCESS; }
CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t size, CUstream stream) {
  memset((void*)at, value, size);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t size, CUstream stream) {
  says("cuMemcpyHtoDAsync %zu", size);
  memcpy((void*)to, from, size);
  return answer("cuMemcpyHtoDAsync");
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t size) {
  says("cuMemcpyDtoH %zu", size);
  memcpy(to, (void*)from, size);
  return answer("cuMemcpyDtoH");
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
  says("cuMemcpyAsync %zu", size);
  if (!capturing) memcpy((void*)to, (void*)from, size);
  return answer("cuMemcpyAsync");
}
CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* of, CUdevice device) { *of = (CUmemoryPool)&pool; return CUDA_SUCCESS; }
CUresult cuDeviceGetMemPool(CUmemoryPool* of, CUdevice device) { *of = (CUmemoryPool)&pool; return CUDA_SUCCESS; }
CUresult cuMemPoolGetAttribute(CUmemoryPool of, CUmemPool_attribute which, void* value) {
  *(cuuint64_t*)value = 0;
  return CUDA_SUCCESS;
}
CUresult cuMemPoolSetAttribute(CUmemoryPool of, CUmemPool_attribute which, void* value) { return CUDA_SUCCESS; }
CUresult cuMemPoolSetAccess(CUmemoryPool of, const CUmemAccessDesc* access, size_t count) { return CUDA_SUCCESS; }
CUresult cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool of, CUmemLocation* location) {
  *flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return CUDA_SUCCESS;
}

CUresult cuArray3DCreate(CUarray* array, const CUDA_ARRAY3D_DESCRIPTOR* how) {
  says("cuArrayCreate %zu x %zu x %zu format=%d channels=%u flags=%u", how->Width, how->Height, how->Depth,
       how->Format, how->NumChannels, how->Flags);
  *array = (CUarray)malloc(1);
  return CUDA_SUCCESS;
}
CUresult cuArrayCreate(CUarray* array, const CUDA_ARRAY_DESCRIPTOR* how) {
  says("cuArrayCreate %zu x %zu x 0 format=%d channels=%u flags=0", how->Width, how->Height, how->Format, how->NumChannels);
  *array = (CUarray)malloc(1);
  return CUDA_SUCCESS;
}
CUresult cuArrayDestroy(CUarray array) { says("cuArrayDestroy"); free(array); return CUDA_SUCCESS; }
CUresult cuMemcpy3DAsync(const CUDA_MEMCPY3D* copy, CUstream stream) {
  const unsigned short* from = copy->srcHost;
  says("cuMemcpy3D %zu x %zu pitch=%zu first=%u last=%u", copy->WidthInBytes, copy->Height, copy->srcPitch, from[0],
       from[copy->WidthInBytes * copy->Height / 2 - 1]);
  return CUDA_SUCCESS;
}
CUresult cuTexObjectCreate(CUtexObject* texture, const CUDA_RESOURCE_DESC* from, const CUDA_TEXTURE_DESC* how,
                           const CUDA_RESOURCE_VIEW_DESC* view) {
  says("cuTexObjectCreate type=%d address=%d,%d filter=%d flags=%u", from->resType, how->addressMode[0],
       how->addressMode[1], how->filterMode, how->flags);
  *texture = 0x3000 + ++made;
  return CUDA_SUCCESS;
}
CUresult cuTexObjectDestroy(CUtexObject texture) { says("cuTexObjectDestroy"); return CUDA_SUCCESS; }

CUresult cuLibraryLoadData(CUlibrary* loaded, const void* code, CUjit_option* a, void** b, unsigned c,
                           CUlibraryOption* d, void** e, unsigned f) {
  says("cuLibraryLoadData %.3s", (const char*)code + 1);
  *loaded = (CUlibrary)&library;
  return answer("cuLibraryLoadData");
}
CUresult cuLibraryUnload(CUlibrary loaded) { says("cuLibraryUnload"); return CUDA_SUCCESS; }
CUresult cuLibraryGetKernel(CUkernel* found, CUlibrary loaded, const char* name) {
  says("cuLibraryGetKernel %s", name);
  *found = (CUkernel)&kernel;
  return CUDA_SUCCESS;
}
CUresult cuKernelGetLibrary(CUlibrary* of, CUkernel found) { *of = (CUlibrary)&library; return CUDA_SUCCESS; }
CUresult cuKernelGetAttribute(int* value, CUfunction_attribute which, CUkernel found, CUdevice device) {
  *value = 0;
  return CUDA_SUCCESS;
}
// With STUB_CUDA_VALUES the arguments are said, too, as those of a kernel(float*, int, float, cudaTextureObject_t).
CUresult cuLaunchKernelEx(const CUlaunchConfig* how, CUfunction function, void** values, void** extra) {
  char given[64] = "";
  if (getenv("STUB_CUDA_VALUES"))
    snprintf(given, sizeof given, " values=%d,%g,%llu", *(int*)values[1], *(float*)values[2],
             *(unsigned long long*)values[3]);
  says("cuLaunchKernel %ux%ux%u of %ux%ux%u shared=%u%s", how->gridDimX, how->gridDimY, how->gridDimZ, how->blockDimX,
       how->blockDimY, how->blockDimZ, how->sharedMemBytes, given);
  return answer("cuLaunchKernel");
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void** values, void** extra) {
  CUlaunchConfig how = {gx, gy, gz, bx, by, bz, shared, stream, NULL, 0};
  return cuLaunchKernelEx(&how, function, values, extra);
}
