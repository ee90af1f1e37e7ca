// Mesh to canvas: which triangle each pixel shows, then the network's input. The oracles are engine.render.raster,
// .mask and .canvas; bit for bit but for the texture unit's weights.

#define NOTHING_U64 0xffffffffffffffffull
#define NOTHING_U32 0xffffffffu
#define TEETH_LOWER 0x80000000u  // bit of a visible lower tooth: behind every upper one
#define LAYER_CAVITY 1
#define LAYER_LOWER_TEETH 2
#define LANES 32  // threads that share a triangle's box

struct Corners {
  float x0, y0, x1, y1, x2, y2, area;
};

struct Weights {
  float i, j, h;
};

__device__ __forceinline__ Corners corners_of(const float* vertices, const int* triangle) {
  const float *a = vertices + 3 * triangle[0], *b = vertices + 3 * triangle[1], *c = vertices + 3 * triangle[2];
  Corners t = {a[0], a[1], b[0], b[1], c[0], c[1], 0.f};
  t.area = (t.y1 - t.y2) * (t.x0 - t.x2) + (t.x2 - t.x1) * (t.y0 - t.y2);
  return t;
}

// Barycentric coordinates of a pixel's centre, in the CPU's order of operations.
__device__ __forceinline__ Weights weights_at(const Corners& t, int x, int y) {
  float px = (float)x + .5f, py = (float)y + .5f;
  float i = ((t.y1 - t.y2) * (px - t.x2) + (t.x2 - t.x1) * (py - t.y2)) / t.area;
  float j = ((t.y2 - t.y0) * (px - t.x2) + (t.x0 - t.x2) * (py - t.y2)) / t.area;
  return {i, j, 1.f - i - j};
}

__device__ __forceinline__ float mixed(const Weights& w, float a, float b, float c) {
  return w.i * a + w.j * b + w.h * c;
}

// An order of unsigned numbers that is the order of floats, the smaller the nearer. Adding 0 makes -0 and 0 one depth.
__device__ __forceinline__ u32 depth_key(float z) {
  u32 bits = __float_as_uint(z + 0.f);
  return (bits & 0x80000000u) ? ~bits : (bits | 0x80000000u);
}

// vis u64[n] and teeth u32[n]: nothing anywhere.
extern "C" __global__ void clear_raster(u64* vis, u32* teeth, int n) {
  for (int p = first_index(); p < n; p += index_stride()) {
    vis[p] = NOTHING_U64;
    teeth[p] = NOTHING_U32;
  }
}

// vertices f32[V][3] crop px, smaller z nearer; triangles i32[count][3] sorted by layer; layers i32[count].
// vis keeps the smallest (depth key, triangle) of skin and cavity: the nearest, of equals the first. teeth keeps the
// first upper tooth, else the last lower one: the order in which the CPU paints. Both are atomic minima, so the order
// of threads is nothing to the result. LANES threads share a triangle: count * LANES threads do all in one pass.
extern "C" __global__ void raster_triangles(const float* vertices, const int* triangles, const int* layers, int count,
                                            u64* vis, u32* teeth, int S) {
  for (int n = first_index(); n < count * LANES; n += index_stride()) {
    int k = n / LANES;
    const int* triangle = triangles + 3 * k;
    Corners t = corners_of(vertices, triangle);
    if (!(fabsf(t.area) >= 1e-8f)) continue;
    // clamped as floats: a far vertex has no int
    int left = (int)clampf(ceilf(fminf(fminf(t.x0, t.x1), t.x2) - .5f), 0.f, (float)S);
    int right = (int)clampf(floorf(fmaxf(fmaxf(t.x0, t.x1), t.x2) - .5f), -1.f, (float)(S - 1));
    int top = (int)clampf(ceilf(fminf(fminf(t.y0, t.y1), t.y2) - .5f), 0.f, (float)S);
    int bottom = (int)clampf(floorf(fmaxf(fmaxf(t.y0, t.y1), t.y2) - .5f), -1.f, (float)(S - 1));
    int width = right - left + 1, height = bottom - top + 1;
    if (width <= 0 || height <= 0) continue;
    int layer = layers[k];
    float z0 = vertices[3 * triangle[0] + 2], z1 = vertices[3 * triangle[1] + 2], z2 = vertices[3 * triangle[2] + 2];
    for (int cell = n % LANES; cell < width * height; cell += LANES) {
      int x = left + cell % width, y = top + cell / width;
      Weights w = weights_at(t, x, y);
      if (!(w.i >= 0.f && w.j >= 0.f && w.h >= 0.f)) continue;
      size_t p = (size_t)y * S + x;
      if (layer <= LAYER_CAVITY) {
        float z = mixed(w, z0, z1, z2);
        if (z < 1e9f) atomicMin(&vis[p], ((u64)depth_key(z) << 32) | (u32)k);
      } else {
        atomicMin(&teeth[p], layer == LAYER_LOWER_TEETH ? TEETH_LOWER | (0x7ffffffeu - (u32)k) : (u32)k);
      }
    }
  }
}

// The triangle that a pixel shows, -1 for none: teeth only where the cavity is what one sees.
__device__ __forceinline__ int shown_triangle(u64 visible, u32 tooth, const int* layers) {
  if (visible == NOTHING_U64) return -1;
  int k = (int)(u32)visible;
  if (tooth == NOTHING_U32 || layers[k] != LAYER_CAVITY) return k;
  return (tooth & TEETH_LOWER) ? (int)(0x7ffffffeu - (tooth & 0x7fffffffu)) : (int)tooth;
}

__device__ __forceinline__ float soft_mask_at(const FrameParams* params, const float* half_planes, int planes, int x,
                                              int y) {
  float px = (float)x + .5f, py = (float)y + .5f, farthest = -1e9f;
  for (int k = 0; k < planes; k++) {
    const float* plane = half_planes + 3 * k;
    float distance = plane[0] * px + (plane[1] * py - plane[2]);
    farthest = distance > farthest ? distance : farthest;
  }
  return clampf((params->margin_px - farthest) * params->slope, 0.f, 1.f);
}

// What resolve_canvas reads of the mesh and the actor.
struct Shown {
  const u64* vis;
  const u32* teeth;
  const float* vertices;
  const int *triangles, *layers;
  const float* uv;
  cudaTextureObject_t texture[4];
  const u8 *bent, *reference;
};

__device__ __forceinline__ void put_texels(const Shown& from, int k, int x, int y, CANVAS_T* to) {
  const int* triangle = from.triangles + 3 * k;
  Weights w = weights_at(corners_of(from.vertices, triangle), x, y);
  const float *a = from.uv + 2 * triangle[0], *b = from.uv + 2 * triangle[1], *c = from.uv + 2 * triangle[2];
  float u = mixed(w, a[0], b[0], c[0]), v = mixed(w, a[1], b[1], c[1]);
#pragma unroll
  for (int q = 0; q < TEXTURE_CHANNELS / 4; q++) {
    float4 texel = tex2D<float4>(from.texture[q], u, v);
    put(to, 4 * q, texel.x);
    put(to, 4 * q + 1, texel.y);
    put(to, 4 * q + 2, texel.z);
    put(to, 4 * q + 3, texel.w);
  }
}

__device__ __forceinline__ void put_pixel(const Shown& from, float soft, int p, int S, CANVAS_T* to) {
  int k = soft > 0.f ? shown_triangle(from.vis[p], from.teeth[p], from.layers) : -1;
  if (k >= 0) put_texels(from, k, p % S, p / S, to);
  else for (int c = 0; c < TEXTURE_CHANNELS; c++) put(to, c, 0.f);
  float around = (1.f - soft) * (1.f / 255.f);
  for (int c = 0; c < 3; c++) {
    put(to, TEXTURE_CHANNELS + c, (float)from.bent[3 * p + c] * around);
    put(to, TEXTURE_CHANNELS + 3 + c, (float)from.reference[3 * p + c] / 255.f);
  }
  put(to, CANVAS_CHANNELS - 1, soft);
}

#define RESOLVE_THREADS 256  // of a block, at most

// t0..t3: the texture's 16 channels as half4 texture objects, linear, clamped, normalised. bent, reference u8[S][S][3].
// Written: canvas CANVAS_T[S][S][23] = texture 16, source * (1 - mask) 3, reference 3, mask 1; and mask f32[S][S].
// A pixel has 23 elements: threads that each wrote their own would scatter, so a block collects and writes in order.
extern "C" __global__ void __launch_bounds__(RESOLVE_THREADS)
    resolve_canvas(const FrameParams* params, const float* half_planes, const u64* vis, const u32* teeth,
                   const float* vertices, const int* triangles, const int* layers, const float* uv,
                   cudaTextureObject_t t0, cudaTextureObject_t t1, cudaTextureObject_t t2, cudaTextureObject_t t3,
                   const u8* bent, const u8* reference, CANVAS_T* canvas, float* mask, int S) {
  __shared__ CANVAS_T pixels[RESOLVE_THREADS * CANVAS_CHANNELS];
  Shown from = {vis, teeth, vertices, triangles, layers, uv, {t0, t1, t2, t3}, bent, reference};
  int planes = clampi(params->planes, 0, MAX_PLANES), n = S * S;
  for (int first = blockIdx.x * blockDim.x; first < n; first += index_stride()) {
    int p = first + threadIdx.x;
    if (p < n) {
      float soft = soft_mask_at(params, half_planes, planes, p % S, p / S);
      mask[p] = soft;
      put_pixel(from, soft, p, S, pixels + threadIdx.x * CANVAS_CHANNELS);
    }
    __syncthreads();
    int elements = min((int)blockDim.x, n - first) * CANVAS_CHANNELS;
    for (int e = threadIdx.x; e < elements; e += blockDim.x) canvas[(size_t)first * CANVAS_CHANNELS + e] = pixels[e];
    __syncthreads();
  }
}
