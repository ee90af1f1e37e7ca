// The CUDA built-ins that our kernels use, for g++: no races, no memory model, no speed, but the kernels' arithmetic.
//
// A launch runs one thread after the other, blocks in order. A thread that comes to __syncthreads() waits there in a
// context of its own (ucontext) while the others of its block run: shared memory and barriers mean what they mean on a
// GPU. A barrier that some threads of a block never reach, because they have returned, is reported as an error.
// `backwards` runs blocks and threads last to first: what depends on their order then differs.
#include <math.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>
using std::max;
using std::min;

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3 { unsigned x, y, z; };
struct uint3 { unsigned x, y, z; };
static dim3 gridDim, blockDim;
static uint3 blockIdx, threadIdx;

struct float2 { float x, y; };
struct float3 { float x, y, z; };
struct float4 { float x, y, z, w; };
struct uchar2 { unsigned char x, y; };
struct uchar4 { unsigned char x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

typedef _Float16 __half;
static inline float __half2float(__half value) { return (float)value; }
static inline __half __float2half_rn(float value) { return (__half)value; }
static inline __half __float2half(float value) { return (__half)value; }

static inline unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }
static inline float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
static inline int __float2int_rn(float value) { return (int)rintf(value); }
static inline int __float2int_rd(float value) { return (int)floorf(value); }
static inline int __float2int_ru(float value) { return (int)ceilf(value); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __saturatef(float value) { return fminf(fmaxf(value, 0.f), 1.f); }
template <class T> static inline T __ldg(const T* from) { return *from; }

template <class T> static T atomicMin(T* at, T value) { T old = *at; *at = min(old, value); return old; }
template <class T> static T atomicMax(T* at, T value) { T old = *at; *at = max(old, value); return old; }
template <class T> static T atomicAdd(T* at, T value) { T old = *at; *at = old + value; return old; }

// A texture object: half4 texels (given as the floats they are), clamped, normalised coordinates, linear.
struct HostTexture { const float* texels; int width, height; };
typedef unsigned long long cudaTextureObject_t;

// The weights have 8 bits behind the point, as a GPU's texture unit has them (CUDA C++ Programming Guide, "Linear
// Filtering").
template <class T> T tex2D(cudaTextureObject_t texture, float u, float v) {
  const HostTexture* t = (const HostTexture*)texture;
  float x = u * t->width - .5f, y = v * t->height - .5f, left = floorf(x), top = floorf(y);
  float a = floorf((x - left) * 256.f + .5f) / 256.f, b = floorf((y - top) * 256.f + .5f) / 256.f;
  auto texel = [&](float column, float row) {
    int i = (int)min(max(column, 0.f), t->width - 1.f), j = (int)min(max(row, 0.f), t->height - 1.f);
    return t->texels + 4 * (j * (size_t)t->width + i);
  };
  const float *p = texel(left, top), *q = texel(left + 1, top), *r = texel(left, top + 1), *s = texel(left + 1, top + 1);
  auto mix = [&](int c) { return (1 - a) * (1 - b) * p[c] + a * (1 - b) * q[c] + (1 - a) * b * r[c] + a * b * s[c]; };
  return T{mix(0), mix(1), mix(2), mix(3)};
}

namespace host {

struct Launch { unsigned grid[3], block[3]; int backwards; };
static const char* error = nullptr;

// A context that runs threads of the block, one after the other, until one of them has to wait.
struct Runner { ucontext_t context; std::unique_ptr<char[]> stack; unsigned thread; bool waits; };
static const size_t STACK_BYTES = 64 << 10;
static std::vector<std::unique_ptr<Runner>> runners;
static ucontext_t scheduler;
static Runner* running = nullptr;
static unsigned started, threads;  // of the block
static bool last_first;
static void (*body)(void*) = nullptr;
static void* body_argument = nullptr;

static void place_thread(unsigned i) {
  threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
}

static void runner_main() {
  for (;;) {
    Runner* self = running;
    while (started < threads) {
      unsigned n = started++;
      self->thread = last_first ? threads - 1 - n : n;
      place_thread(self->thread);
      body(body_argument);
    }
    swapcontext(&self->context, &scheduler);
  }
}

static void resume(Runner* runner) {
  running = runner;
  runner->waits = false;
  swapcontext(&scheduler, &runner->context);
  running = nullptr;
}

static Runner* new_runner() {
  runners.emplace_back(new Runner);
  Runner* runner = runners.back().get();
  runner->stack.reset(new char[STACK_BYTES]);
  getcontext(&runner->context);
  runner->context.uc_stack.ss_sp = runner->stack.get();
  runner->context.uc_stack.ss_size = STACK_BYTES;
  runner->context.uc_link = nullptr;
  makecontext(&runner->context, runner_main, 0);
  return runner;
}

static void run_block() {
  started = 0;
  size_t waiting = 0, used = 0;
  while (started < threads) {  // each thread to its first barrier, or to its end
    Runner* runner = used < runners.size() ? runners[used].get() : new_runner();
    resume(runner);
    used += runner->waits;
  }
  waiting = used;
  bool ended = waiting && waiting < threads;
  while (waiting && !ended) {  // those that wait to their next one
    size_t still = 0;
    for (size_t n = 0; n < used; n++) {
      place_thread(runners[n]->thread);
      resume(runners[n].get());
      still += runners[n]->waits;
    }
    ended = still && still < waiting;
    waiting = still;
  }
  if (ended) {
    error = "some threads of a block returned before a __syncthreads() of the others";
    runners.clear();  // with the threads that wait for ever
  }
}

static void run(const Launch& launch, void (*thread)(void*), void* argument) {
  gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
  blockDim = {launch.block[0], launch.block[1], launch.block[2]};
  unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
  threads = blockDim.x * blockDim.y * blockDim.z;
  body = thread, body_argument = argument, error = nullptr, last_first = launch.backwards;
  for (unsigned n = 0; n < blocks && !error; n++) {
    unsigned i = last_first ? blocks - 1 - n : n;
    blockIdx = {i % gridDim.x, i / gridDim.x % gridDim.y, i / (gridDim.x * gridDim.y)};
    run_block();
  }
}

// Arguments come as the CUDA driver takes them: an array of pointers to the values.
template <class... A, size_t... I>
void call(void (*kernel)(A...), void** values, std::index_sequence<I...>) { kernel(*(A*)values[I]...); }

template <class... A> void launch(void (*kernel)(A...), const Launch& how, void** values) {
  auto thread = [&] { call(kernel, values, std::index_sequence_for<A...>()); };
  run(how, [](void* f) { (*(decltype(thread)*)f)(); }, &thread);
}

// A parameter's type in numpy's words, "f4" or "u8"; "V120" for a struct, with * behind it for a pointer.
template <class T> struct Name {
  static std::string text() {
    bool real = std::is_floating_point<T>::value || std::is_same<T, __half>::value;
    const char* kind = real ? "f" : std::is_class<T>::value ? "V" : std::is_signed<T>::value ? "i" : "u";
    return kind + std::to_string(sizeof(T));
  }
};
template <class T> struct Name<T*> {
  static std::string text() { return Name<typename std::remove_const<T>::type>::text() + "*"; }
};
template <class... A> const char* signature(void (*)(A...)) {
  static const std::string text = ((Name<A>::text() + " ") + ... + "");
  return text.c_str();
}

}  // namespace host

static inline void __syncthreads() {
  host::running->waits = true;
  swapcontext(&host::running->context, &host::scheduler);
}
static inline void __syncwarp(unsigned = ~0u) { __syncthreads(); }  // more than is asked, on condition that all reach it
static inline void __threadfence() {}

extern "C" const char* host_error() { return host::error; }
