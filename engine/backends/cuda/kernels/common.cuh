// What all kernels of a frame share. common.cuh, geometry.cu, crop.cu and composite.cu are compiled as one program,
// in that order: by NVRTC for a GPU, and by g++ (HOST_CUDA is defined, a shim stands for the built-ins) for tests
// without one.
//
// Every kernel is a grid-stride loop, right for any number of blocks of up to 256 threads: the launch is captured
// once and serves every size of region. Whoever compiles this turns the fusing of multiply-adds off (NVRTC
// --fmad=false, g++ -ffp-contract=off): then the sums that decide which pixel belongs to which triangle have the
// CPU's bits, and a GPU's frame differs from a CPU's only by the texture unit's weights and by half precision.
#ifndef HOST_CUDA
#include <cuda_fp16.h>
#endif

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define MAX_SIDE 1536  // longest side of a square, luma px, even; pitch of every luma plane of a region
#define MAX_PLANES 256  // half planes of the mask's hull
#define TEXTURE_CHANNELS 16
#define CANVAS_CHANNELS 23  // texture 16, source 3, reference 3, mask 1
#define PICTURE_CHANNELS 4  // red, green, blue, alpha
#ifndef CANVAS_T
#define CANVAS_T __half
#endif
#ifndef PICTURE_T
#define PICTURE_T __half
#endif

// One per frame; engine.backends.cuda.params.FRAME_PARAMS is the same in numpy.
struct FrameParams {
  int part_x, part_y, part_w, part_h;  // what of the square is in the frame, luma px from its corner; x, y even
  int side;                            // of the square, luma px, even
  int planes;                          // half planes of the mask's hull, at most MAX_PLANES
  float margin_px, slope;              // of the soft mask, px of the crop: (margin - distance) * slope
  float level;                         // 0..1, how much of the dub shows
  int bends;                           // 0: the displacement is nothing
  float to_rgb[12];                    // rows of a 3x4 affine: rgb = A (y u v 1), all 0..255
  float to_yuv[12];                    // the other way
};

__device__ __forceinline__ int first_index() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int index_stride() { return gridDim.x * blockDim.x; }

__device__ __forceinline__ int clampi(int value, int low, int high) { return min(max(value, low), high); }
__device__ __forceinline__ float clampf(float value, float low, float high) { return fminf(fmaxf(value, low), high); }

// Rounded half to even and saturated, as OpenCV's saturate_cast<uchar>.
__device__ __forceinline__ u8 to_u8(float value) { return (u8)(int)rintf(clampf(value, 0.f, 255.f)); }

// Row 0, 1 or 2 of a 3x4 affine applied to (a b c 1).
__device__ __forceinline__ float affine(const float* matrix, int row, float a, float b, float c) {
  const float* m = matrix + 4 * row;
  return m[0] * a + m[1] * b + m[2] * c + m[3];
}

__device__ __forceinline__ float get(const float* from, size_t at) { return from[at]; }
__device__ __forceinline__ float get(const __half* from, size_t at) { return __half2float(from[at]); }
__device__ __forceinline__ void put(float* to, size_t at, float value) { to[at] = value; }
__device__ __forceinline__ void put(__half* to, size_t at, float value) { to[at] = __float2half_rn(value); }
