// What the network drew, back into the frame's region: its light matched, the real skin bent, both blended. The oracles
// are engine.render.canvas.split_picture, engine.composite.blend and engine.composite.bend.bend_frame.
//
// No kernel has a barrier: what needs all of a step before it (the two passes of the blur, the light before its
// resizing) is a kernel of its own. Sums run in the CPU's order.

#define ALPHA_STEEPNESS 2.5f  // engine.render.mask
#define BORDER_SHARE .06f     // engine.composite.blend, as are the next four
#define STRONGEST 24.f
#define SMOOTH_SHARE .14f
#define NO_RING .06f
#define SUMS 4  // three weighted differences of colour, and the weight

__device__ __forceinline__ float border_ramp(int i, int S) {
  return fminf((float)min(i, S - 1 - i) / (BORDER_SHARE * (float)S), 1.f);
}

// picture PICTURE_T[S][S][4] in 0..1, mask f32[S][S] as resolve_canvas wrote it. Written: rgb u8[S][S][3]; alpha and
// wmask f32[S][S], alpha ending where the mask does, and both where the crop does.
extern "C" __global__ void split_picture(const PICTURE_T* picture, const float* mask, u8* rgb, float* alpha,
                                         float* wmask, int S) {
  for (int p = first_index(); p < S * S; p += index_stride()) {
    size_t at = (size_t)p * PICTURE_CHANNELS;
    for (int c = 0; c < 3; c++) rgb[3 * (size_t)p + c] = to_u8(get(picture, at + c) * 255.f);
    float window = fminf(border_ramp(p % S, S), border_ramp(p / S, S));
    alpha[p] = get(picture, at + 3) * fminf(mask[p] * ALPHA_STEEPNESS, 1.f) * window;
    wmask[p] = mask[p] * window;
  }
}

// sums f32[s][s][4]: of bent - rgb over blocks of pixels, weighted by how much of a ramp wmask is there and by how much
// of the source alpha lets through; and of the weights. One thread a block.
extern "C" __global__ void ring_difference(const u8* rgb, const u8* bent, const float* wmask, const float* alpha,
                                           float* sums, int S, int s) {
  for (int n = first_index(); n < s * s; n += index_stride()) {
    int i = n % s, j = n / s;
    float total[SUMS] = {0.f, 0.f, 0.f, 0.f};
    for (int y = (j * S + s - 1) / s; y < ((j + 1) * S + s - 1) / s; y++) {
#pragma unroll 8  // eight pixels' loads under way at once: a block is only one thread's
      for (int x = (i * S + s - 1) / s; x < ((i + 1) * S + s - 1) / s; x++) {
        size_t p = (size_t)y * S + x;
        float weight = fmaxf(4.f * wmask[p] * (1.f - wmask[p]) * (1.f - alpha[p]), 0.f);
        for (int c = 0; c < 3; c++) {
          float difference = (float)bent[3 * p + c] - (float)rgb[3 * p + c];
          total[c] += weight * clampf(difference, -STRONGEST, STRONGEST);
        }
        total[3] += weight;
      }
    }
    for (int c = 0; c < SUMS; c++) sums[SUMS * (size_t)n + c] = total[c];
  }
}

// A Gaussian's taps reach this far: as many as cv2.GaussianBlur takes for floats.
__device__ __forceinline__ int blur_reach(int s) { return ((int)rintf(8.f * SMOOTH_SHARE * (float)s + 1.f) | 1) / 2; }

// One sum at cell `at` of a line of s cells, smoothed along the line; there is nothing beyond its ends.
__device__ __forceinline__ float blurred(const float* line, int stride, int at, int s) {
  int reach = blur_reach(s);
  float sigma = SMOOTH_SHARE * (float)s, scale = -.5f / (sigma * sigma), sum = 0.f, whole = 0.f;
  for (int i = -reach; i <= reach; i++) {
    float weight = expf(scale * (float)(i * i));
    whole += weight;
    if (at + i >= 0 && at + i < s) sum += weight * line[(size_t)(at + i) * stride];
  }
  return sum / whole;
}

// sums, rows f32[s][s][4].
extern "C" __global__ void blur_rows(const float* sums, float* rows, int s) {
  for (int n = first_index(); n < SUMS * s * s; n += index_stride()) {
    int c = n % SUMS, x = n / SUMS % s, y = n / (SUMS * s);
    rows[n] = blurred(sums + (size_t)y * s * SUMS + c, SUMS, x, s);
  }
}

// offset f32[s][s][3], grey levels: what the source is lighter by.
extern "C" __global__ void blur_columns(const float* rows, float* offset, int s) {
  for (int n = first_index(); n < s * s; n += index_stride()) {
    const float* column = rows + (size_t)(n % s) * SUMS;
    float total[SUMS];
    for (int c = 0; c < SUMS; c++) total[c] = blurred(column + c, SUMS * s, n / s, s);
    for (int c = 0; c < 3; c++) offset[3 * (size_t)n + c] = total[c] / (total[3] + NO_RING);
  }
}

// matched u8[S][S][3]: rgb with the source's light.
extern "C" __global__ void add_light(const u8* rgb, const float* offset, int s, u8* matched, int S) {
  for (int p = first_index(); p < S * S; p += index_stride()) {
    Taps across = taps_at(p % S, s, S), down = taps_at(p / S, s, S);
    int left = 3 * clampi(across.first, 0, s - 1), right = 3 * clampi(across.first + 1, 0, s - 1);
    const float* above = offset + 3 * (size_t)clampi(down.first, 0, s - 1) * s;
    const float* below = offset + 3 * (size_t)clampi(down.first + 1, 0, s - 1) * s;
    for (int c = 0; c < 3; c++) {
      float first = above[left + c] + across.share * (above[right + c] - above[left + c]);
      float second = below[left + c] + across.share * (below[right + c] - below[left + c]);
      float light = first + down.share * (second - first);
      matched[3 * (size_t)p + c] = to_u8((float)rgb[3 * (size_t)p + c] + light);
    }
  }
}

// The crop's displacement at a pixel of a plane's square, in px of the plane: widened or narrowed as cv2.resize does.
__device__ __forceinline__ float2 square_shift(const float* field, int cells, int x, int y, int S, int side) {
  Taps across = taps_at(x, S, side), down = taps_at(y, S, side);
  int left = clampi(across.first, 0, S - 1), right = clampi(across.first + 1, 0, S - 1);
  int top = clampi(down.first, 0, S - 1), bottom = clampi(down.first + 1, 0, S - 1);
  float2 a = crop_shift(field, cells, left, top, S), b = crop_shift(field, cells, right, top, S);
  float2 c = crop_shift(field, cells, left, bottom, S), d = crop_shift(field, cells, right, bottom, S);
  float ratio = (float)side / (float)S;
  float2 above = {a.x + across.share * (b.x - a.x), a.y + across.share * (b.y - a.y)};
  float2 below = {c.x + across.share * (d.x - c.x), c.y + across.share * (d.y - c.y)};
  return {ratio * (above.x + down.share * (below.x - above.x)), ratio * (above.y + down.share * (below.y - above.y))};
}

__device__ __forceinline__ void bend_plane(const Plane& from, const float* field, int cells, float level, u8* to, int S) {
  for (int n = first_index(); n < from.w * from.h; n += index_stride()) {
    int x = n % from.w, y = n / from.w;
    size_t at = (size_t)y * from.pitch + x;
    float2 shift = {0.f, 0.f};
    if (level > 0.f) shift = square_shift(field, cells, x + from.x, y + from.y, S, from.side);
    if (shift.x == 0.f && shift.y == 0.f) {
      to[at] = from.bytes[at];
      continue;
    }
    float column = (float)x + level * shift.x, row = (float)y + level * shift.y;
    float left = floorf(column), top = floorf(row);
    float rows[2];
    for (int j = 0; j < 2; j++) {
      float first = part_sample(from, (int)left, (int)top + j), second = part_sample(from, (int)left + 1, (int)top + j);
      rows[j] = first + (column - left) * (second - first);
    }
    to[at] = to_u8(rows[0] + (row - top) * (rows[1] - rows[0]));
  }
}

// by, bu, bv: the region, its skin bent by level * field; what does not move is copied.
extern "C" __global__ void bend_region(const FrameParams* params, const float* field, int cells, const u8* ry,
                                       const u8* ru, const u8* rv, u8* by, u8* bu, u8* bv, int S) {
  float level = params->bends ? params->level : 0.f;
  bend_plane(luma_plane(params, ry), field, cells, level, by, S);
  bend_plane(chroma_plane(params, ru), field, cells, level, bu, S);
  bend_plane(chroma_plane(params, rv), field, cells, level, bv, S);
}

// A crop's pixel in the square, [S][S][3] to `side`: the mean of what it covers if that is more than a pixel.
__device__ __forceinline__ void shrunk_rgb(const u8* crop, int S, int x, int y, int side, float* rgb) {
  u32 sum[3] = {0, 0, 0}, whole = (u32)S * (u32)S;
  for (int row = first_under(y, S, side); row < end_under(y, S, side); row++) {
    u32 down = overlap(row, y, S, side);
    for (int column = first_under(x, S, side); column < end_under(x, S, side); column++) {
      u32 weight = down * overlap(column, x, S, side);
      for (int c = 0; c < 3; c++) sum[c] += weight * crop[3 * ((size_t)row * S + column) + c];
    }
  }
  for (int c = 0; c < 3; c++) rgb[c] = (float)((sum[c] + whole / 2) / whole);
}

// Likewise for a square not smaller than the crop: bicubic.
__device__ __forceinline__ void grown_rgb(const u8* crop, int S, int x, int y, int side, float* rgb) {
  Taps across = taps_at(x, S, side), down = taps_at(y, S, side);
  float columns[4], rows[4], sum[3] = {0.f, 0.f, 0.f};
  cubic_weights(across.share, columns);
  cubic_weights(down.share, rows);
  for (int j = 0; j < 4; j++) {
    const u8* line = crop + 3 * (size_t)clampi(down.first - 1 + j, 0, S - 1) * S;
    for (int i = 0; i < 4; i++) {
      float weight = rows[j] * columns[i];
      const u8* pixel = line + 3 * clampi(across.first - 1 + i, 0, S - 1);
      for (int c = 0; c < 3; c++) sum[c] += weight * (float)pixel[c];
    }
  }
  for (int c = 0; c < 3; c++) rgb[c] = (float)to_u8(sum[c]);
}

__device__ __forceinline__ float alpha_at(const float* alpha, int S, int x, int y, int side) {
  Taps across = taps_at(x, S, side), down = taps_at(y, S, side);
  int left = clampi(across.first, 0, S - 1), right = clampi(across.first + 1, 0, S - 1);
  const float* above = alpha + (size_t)clampi(down.first, 0, S - 1) * S;
  const float* below = alpha + (size_t)clampi(down.first + 1, 0, S - 1) * S;
  float first = above[left] + across.share * (above[right] - above[left]);
  float second = below[left] + across.share * (below[right] - below[left]);
  return first + down.share * (second - first);
}

// matched u8[S][S][3] and alpha f32[S][S], blended in place into by, bu, bv by level * alpha. One thread a chroma sample
// and its (up to) four pixels: luma by each pixel's blend, chroma by their mean.
extern "C" __global__ void blend_region(const FrameParams* params, const u8* matched, const float* alpha, u8* by, u8* bu,
                                        u8* bv, int S) {
  int w = luma_w(params), h = luma_h(params), side = params->side;
  int chroma_w = chroma_of(w), chroma_h = chroma_of(h);
  for (int n = first_index(); n < chroma_w * chroma_h; n += index_stride()) {
    int i = n % chroma_w, j = n / chroma_w, columns = min(2, w - 2 * i), rows = min(2, h - 2 * j);
    size_t chroma = (size_t)j * CHROMA_PITCH + i;
    float old_u = (float)bu[chroma], old_v = (float)bv[chroma], sum_u = 0.f, sum_v = 0.f;
    bool touched = false;
    for (int k = 0; k < rows * columns; k++) {
      int x = 2 * i + k % columns, y = 2 * j + k / columns, sx = x + params->part_x, sy = y + params->part_y;
      float a = params->level * alpha_at(alpha, S, sx, sy, side), rgb[3];
      if (!(a > 0.f)) continue;
      touched = true;
      a = fminf(a, 1.f);
      if (side < S) shrunk_rgb(matched, S, sx, sy, side, rgb);
      else grown_rgb(matched, S, sx, sy, side, rgb);
      size_t at = (size_t)y * MAX_SIDE + x;
      float old = (float)by[at];
      by[at] = to_u8(old + a * (affine(params->to_yuv, 0, rgb[0], rgb[1], rgb[2]) - old));
      sum_u += a * (affine(params->to_yuv, 1, rgb[0], rgb[1], rgb[2]) - old_u);
      sum_v += a * (affine(params->to_yuv, 2, rgb[0], rgb[1], rgb[2]) - old_v);
    }
    if (!touched) continue;
    float share = 1.f / (float)(rows * columns);
    bu[chroma] = to_u8(old_u + share * sum_u);
    bv[chroma] = to_u8(old_v + share * sum_v);
  }
}

// out_y, out_u, out_v: the region in the host's memory.
extern "C" __global__ void copy_out(const FrameParams* params, const u8* by, const u8* bu, const u8* bv, u8* out_y,
                                    u8* out_u, u8* out_v) {
  int w = luma_w(params), h = luma_h(params);
  copy_plane(by, out_y, MAX_SIDE, w, h);
  copy_plane(bu, out_u, CHROMA_PITCH, chroma_of(w), chroma_of(h));
  copy_plane(bv, out_v, CHROMA_PITCH, chroma_of(w), chroma_of(h));
}
