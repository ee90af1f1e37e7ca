// The frame's region in, the crop that the network sees, and the crop bent to the expression. The oracles are
// engine.image.resize.read_square and engine.composite.bend.bend; at most two grey levels from them.
//
// A region holds the part of the square that lies in the frame, from element (0, 0) on. Beyond the part its border goes
// on, as on the CPU; chroma is so continued at the part's edge too, where the CPU, if the frame goes on there, takes
// a quarter of the next sample.

#define CHROMA_PITCH (MAX_SIDE / 2)

struct alignas(16) Chunk {
  u32 words[4];
};

// One plane of a part, and where in the plane's square it lies.
struct Plane {
  const u8* bytes;
  int pitch, x, y, w, h, side;
};

// How one place between two samples is mixed; positions are exact: the pixels of sizes up to 20000 fit an int.
struct Taps {
  int first;    // the second is the next
  float share;  // of the second
};

__device__ __forceinline__ int luma_w(const FrameParams* p) { return clampi(p->part_w, 0, MAX_SIDE); }
__device__ __forceinline__ int luma_h(const FrameParams* p) { return clampi(p->part_h, 0, MAX_SIDE); }
__device__ __forceinline__ int chroma_of(int luma) { return (luma + 1) >> 1; }

__device__ __forceinline__ Plane luma_plane(const FrameParams* p, const u8* bytes) {
  return {bytes, MAX_SIDE, p->part_x, p->part_y, luma_w(p), luma_h(p), p->side};
}

__device__ __forceinline__ Plane chroma_plane(const FrameParams* p, const u8* bytes) {
  int w = chroma_of(luma_w(p)), h = chroma_of(luma_h(p));
  return {bytes, CHROMA_PITCH, p->part_x >> 1, p->part_y >> 1, w, h, p->side >> 1};
}

// By its own columns and rows; beyond the edge the border goes on.
__device__ __forceinline__ float part_sample(const Plane& p, int column, int row) {
  return (float)p.bytes[(size_t)clampi(row, 0, p.h - 1) * p.pitch + clampi(column, 0, p.w - 1)];
}

// By the square's columns and rows.
__device__ __forceinline__ float square_sample(const Plane& p, int column, int row) {
  return part_sample(p, column - p.x, row - p.y);
}

// Where pixel `i` of `to` pixels lies among `from` pixels, as in cv2.resize: centres on centres. May begin at -1.
__device__ __forceinline__ Taps taps_at(int i, int from, int to) {
  int above = (2 * i + 1) * from - to, below = 2 * to, first = above / below;
  first -= above < first * below;  // rounded down, not towards 0
  return {first, (float)(above - first * below) / (float)below};
}

// Weights of the four pixels around a place: cv2's bicubic, a = -0.75.
__device__ __forceinline__ void cubic_weights(float share, float* w) {
  const float a = -.75f;
  float far = share + 1.f, other = 1.f - share;
  w[0] = ((a * far - 5.f * a) * far + 8.f * a) * far - 4.f * a;
  w[1] = ((a + 2.f) * share - (a + 3.f)) * share * share + 1.f;
  w[2] = ((a + 2.f) * other - (a + 3.f)) * other * other + 1.f;
  w[3] = 1.f - w[0] - w[1] - w[2];
}

// How much of pixel `i` of `from` pixels is in pixel `k` of `to` pixels: `from` in all.
__device__ __forceinline__ u32 overlap(int i, int k, int from, int to) {
  return (u32)(min((i + 1) * to, (k + 1) * from) - max(i * to, k * from));
}

__device__ __forceinline__ int first_under(int k, int from, int to) { return k * from / to; }
__device__ __forceinline__ int end_under(int k, int from, int to) { return ((k + 1) * from + to - 1) / to; }

// A square of a plane, shrunk: the mean of what the pixel covers, in whole numbers.
__device__ __forceinline__ float shrunk_sample(const Plane& p, int x, int y, int S) {
  u32 sum = 0, whole = (u32)p.side * (u32)p.side;
  for (int row = first_under(y, p.side, S); row < end_under(y, p.side, S); row++) {
    u32 across = 0;
    for (int column = first_under(x, p.side, S); column < end_under(x, p.side, S); column++)
      across += overlap(column, x, p.side, S) * (u32)square_sample(p, column, row);
    sum += overlap(row, y, p.side, S) * across;
  }
  return (float)((sum + whole / 2) / whole);
}

// A square of a plane, not shrunk: bilinear, with cv2's whole numbers for bytes, which round down in two places.
__device__ __forceinline__ float widened_sample(const Plane& p, int x, int y, int S) {
  Taps across = taps_at(x, p.side, S), down = taps_at(y, p.side, S);
  int right = (int)rintf(across.share * 2048.f), below = (int)rintf(down.share * 2048.f), sum = 2;
  for (int j = 0; j < 2; j++) {
    int row = clampi(down.first + j, 0, p.side - 1);
    int first = (int)square_sample(p, clampi(across.first, 0, p.side - 1), row);
    int second = (int)square_sample(p, clampi(across.first + 1, 0, p.side - 1), row);
    int mean = first * (2048 - right) + second * right;
    sum += ((j ? below : 2048 - below) * (mean >> 4)) >> 16;
  }
  return (float)clampi(sum >> 2, 0, 255);
}

__device__ __forceinline__ float resized_sample(const Plane& p, int x, int y, int S) {
  return p.side > S ? shrunk_sample(p, x, y, S) : widened_sample(p, x, y, S);
}

// Chroma at a luma pixel of the part: three quarters of the near sample, one of the far, both ways.
__device__ __forceinline__ float chroma_at(const Plane& p, int x, int y) {
  int column = x >> 1, row = y >> 1, beside = column - 1 + 2 * (x & 1), over = row - 1 + 2 * (y & 1);
  float near = .75f * part_sample(p, column, row) + .25f * part_sample(p, column, over);
  float far = .75f * part_sample(p, beside, row) + .25f * part_sample(p, beside, over);
  return .75f * near + .25f * far;
}

// A square that grows: its pixels in RGB, rounded, then bicubic.
__device__ __forceinline__ void grown_pixel(const FrameParams* params, const Plane& luma, const Plane& blue,
                                            const Plane& red, int x, int y, int S, float* rgb) {
  Taps across = taps_at(x, luma.side, S), down = taps_at(y, luma.side, S);
  float columns[4], rows[4];
  cubic_weights(across.share, columns);
  cubic_weights(down.share, rows);
  rgb[0] = rgb[1] = rgb[2] = 0.f;
  for (int j = 0; j < 4; j++) {
    int row = clampi(clampi(down.first - 1 + j, 0, luma.side - 1) - luma.y, 0, luma.h - 1);
    for (int i = 0; i < 4; i++) {
      float weight = rows[j] * columns[i];
      if (weight == 0.f) continue;  // a square of the crop's size
      int column = clampi(clampi(across.first - 1 + i, 0, luma.side - 1) - luma.x, 0, luma.w - 1);
      float l = part_sample(luma, column, row), u = chroma_at(blue, column, row), v = chroma_at(red, column, row);
      for (int c = 0; c < 3; c++) rgb[c] += weight * (float)to_u8(affine(params->to_rgb, c, l, u, v));
    }
  }
}

// The displacement at a pixel of the crop: the coarse field [cells][cells][2], widened to S as cv2.resize does.
__device__ __forceinline__ float2 crop_shift(const float* field, int cells, int x, int y, int S) {
  Taps across = taps_at(x, cells, S), down = taps_at(y, cells, S);
  int left = clampi(across.first, 0, cells - 1), right = clampi(across.first + 1, 0, cells - 1);
  const float* above = field + 2 * (size_t)clampi(down.first, 0, cells - 1) * cells;
  const float* below = field + 2 * (size_t)clampi(down.first + 1, 0, cells - 1) * cells;
  float2 shift;
  float first = above[2 * left] + across.share * (above[2 * right] - above[2 * left]);
  float second = below[2 * left] + across.share * (below[2 * right] - below[2 * left]);
  shift.x = first + down.share * (second - first);
  first = above[2 * left + 1] + across.share * (above[2 * right + 1] - above[2 * left + 1]);
  second = below[2 * left + 1] + across.share * (below[2 * right + 1] - below[2 * left + 1]);
  shift.y = first + down.share * (second - first);
  return shift;
}

__device__ __forceinline__ void copy_plane(const u8* from, u8* to, int pitch, int w, int h) {
  int chunks = (w + 15) / 16;  // what is copied beyond the part nobody reads
  for (int n = first_index(); n < chunks * h; n += index_stride()) {
    size_t at = (size_t)(n / chunks) * pitch + (size_t)(n % chunks) * 16;
    *(Chunk*)(to + at) = *(const Chunk*)(from + at);
  }
}

// y u8[MAX_SIDE][MAX_SIDE], u, v u8[MAX_SIDE / 2][MAX_SIDE / 2] in the host's memory; ry, ru, rv the same here.
extern "C" __global__ void copy_in(const FrameParams* params, const u8* y, const u8* u, const u8* v, u8* ry, u8* ru,
                                   u8* rv) {
  int w = luma_w(params), h = luma_h(params);
  copy_plane(y, ry, MAX_SIDE, w, h);
  copy_plane(u, ru, CHROMA_PITCH, chroma_of(w), chroma_of(h));
  copy_plane(v, rv, CHROMA_PITCH, chroma_of(w), chroma_of(h));
}

// crop u8[S][S][3]: the square as RGB. One that shrinks is shrunk plane by plane before its colours are computed.
extern "C" __global__ void read_crop(const FrameParams* params, const u8* ry, const u8* ru, const u8* rv, u8* crop,
                                     int S) {
  Plane luma = luma_plane(params, ry), blue = chroma_plane(params, ru), red = chroma_plane(params, rv);
  for (int p = first_index(); p < S * S; p += index_stride()) {
    int x = p % S, y = p / S;
    float rgb[3];
    if (luma.side > S) {
      float l = resized_sample(luma, x, y, S), u = resized_sample(blue, x, y, S), v = resized_sample(red, x, y, S);
      for (int c = 0; c < 3; c++) rgb[c] = affine(params->to_rgb, c, l, u, v);
    } else {
      grown_pixel(params, luma, blue, red, x, y, S, rgb);
    }
    for (int c = 0; c < 3; c++) crop[3 * (size_t)p + c] = to_u8(rgb[c]);
  }
}

// field f32[cells][cells][2] crop px: where a pixel comes from, relative to itself. bent u8[S][S][3].
extern "C" __global__ void bend_crop(const FrameParams* params, const float* field, int cells, const u8* crop, u8* bent,
                                     int S) {
  for (int p = first_index(); p < S * S; p += index_stride()) {
    int x = p % S, y = p / S;
    float2 shift = {0.f, 0.f};
    if (params->bends) shift = crop_shift(field, cells, x, y, S);
    float column = (float)x + shift.x, row = (float)y + shift.y;
    float left = floorf(column), top = floorf(row), right_share = column - left, below_share = row - top;
    const u8* above = crop + 3 * (size_t)clampi((int)top, 0, S - 1) * S;
    const u8* below = crop + 3 * (size_t)clampi((int)top + 1, 0, S - 1) * S;
    int i = 3 * clampi((int)left, 0, S - 1), k = 3 * clampi((int)left + 1, 0, S - 1);
    for (int c = 0; c < 3; c++) {
      float first = (float)above[i + c] + right_share * ((float)above[k + c] - (float)above[i + c]);
      float second = (float)below[i + c] + right_share * ((float)below[k + c] - (float)below[i + c]);
      bent[3 * (size_t)p + c] = to_u8(first + below_share * (second - first));
    }
  }
}
