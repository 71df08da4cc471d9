// Products of 8-bit integers, for XLA on CPUs: y = scale · weight_scale · (x - zero) Wᵀ + bias.
//
// The AVX-512 VNNI instructions multiply four pairs of bytes, each of an unsigned and a signed one,
// and add them to a 32-bit integer. On processors without them, plain loops compute the same
// integers.

#include "calls.h"
#include "transpose.h"

// Outputs in a vector; vectors and rows in a tile; rows in a part of the work; number of rows up to
// which the weight is not packed; number of weights that justifies a thread; steps packed at a
// time.
constexpr long PANEL = 16, SIDE = 4, ROWS = 6, PART = 96, FEW = 4, WORTH = 1 << 15, SOME = 64;

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define VNNI
#endif

struct Product {
  const float *scale, *weight_scale, *bias;
  const uint8_t* x;
  const int32_t* zero;
  const int8_t* weight;
  float* y;
  long rows, inputs, outputs, share;
  bool own;        // whether each row has its own scale
  int8_t* packed;  // [panels, steps, 16 outputs, 4 inputs]
  int32_t* sums;   // sum of the weights of each output

  long steps() const { return pieces_of(4, inputs); }
  long panels() const { return pieces_of(PANEL, outputs); }

  void finish(long row, long output, int32_t total, int32_t sum) const {
    const long at = own ? row : 0;
    y[row * outputs + output] =
        float(total - zero[at] * sum) * (scale[at] * weight_scale[output]) + bias[output];
  }

  // ---- Few rows ---------------------------------------------------------------------------------

  static void few(const void* data, long part) {
    const auto& self = *(const Product*)data;
    const long end = least(self.outputs, (part + 1) * self.share);
    for (long n = part * self.share; n < end; n += SIDE) {
      const long some = least(SIDE, end - n);
      switch (self.rows) {
        case 1: self.dots<1>(n, some); break;
        case 2: self.dots<2>(n, some); break;
        case 3: self.dots<3>(n, some); break;
        default: self.dots<4>(n, some);
      }
    }
  }

  // Computes some outputs of all rows as dot products with rows of the weight.
  template <int R>
  void dots(long first, long some) const {
#ifdef VNNI
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i total[R][SIDE], sum[SIDE];
    UNROLLED (int n = 0; n < SIDE; n++) {
      sum[n] = _mm512_setzero_si512();
      UNROLLED (int r = 0; r < R; r++) total[r][n] = sum[n];
    }
    for (long k = 0; k < inputs; k += 64) {
      const __mmask64 mask = inputs - k < 64 ? (1ull << (inputs - k)) - 1 : ~0ull;
      __m512i w[SIDE];
      UNROLLED (int n = 0; n < SIDE; n++) {
        const long output = first + least(n, some - 1);
        w[n] = _mm512_maskz_loadu_epi8(mask, weight + output * inputs + k);
        sum[n] = _mm512_dpbusd_epi32(sum[n], ones, w[n]);
      }
      UNROLLED (int r = 0; r < R; r++) {
        const __m512i some_x = _mm512_maskz_loadu_epi8(mask, x + r * inputs + k);
        UNROLLED (int n = 0; n < SIDE; n++) total[r][n] = _mm512_dpbusd_epi32(total[r][n], some_x, w[n]);
      }
    }
    UNROLLED (int n = 0; n < SIDE; n++) {
      if (n >= some) break;
      const int32_t of_weight = _mm512_reduce_add_epi32(sum[n]);
      UNROLLED (int r = 0; r < R; r++)
        finish(r, first + n, _mm512_reduce_add_epi32(total[r][n]), of_weight);
    }
#else
    for (long n = first; n < first + some; n++) {
      int32_t sum = 0;
      for (long k = 0; k < inputs; k++) sum += weight[n * inputs + k];
      for (int r = 0; r < R; r++) {
        int32_t total = 0;
        for (long k = 0; k < inputs; k++)
          total += int32_t(x[r * inputs + k]) * weight[n * inputs + k];
        finish(r, n, total, sum);
      }
    }
#endif
  }

  // ---- Many rows --------------------------------------------------------------------------------

  static void pack(const void* data, long panel) {
    const auto& self = *(const Product*)data;
    const long whole = self.inputs / 4, steps = self.steps();
    const long some = least(PANEL, self.outputs - panel * PANEL);
    int8_t* to = self.packed + panel * steps * PANEL * 4;
    if (some < PANEL) memset(to, 0, steps * PANEL * 4);
    // Some steps at a time, so that the packed part stays in the L1 cache.
    for (long first = 0; first < steps; first += SOME)
      for (long n = 0; n < some; n++) {
        const auto from = (const uint8_t*)self.weight + (panel * PANEL + n) * self.inputs;
        for (long k = first; k < least(first + SOME, steps); k++) {
          const int32_t bytes = k < whole ? four(from + 4 * k) : self.last(from + 4 * k);
          memcpy(to + (k * PANEL + n) * 4, &bytes, 4);
        }
      }
    int32_t* sums = self.sums + panel * PANEL;
#ifdef VNNI
    __m512i sum = _mm512_setzero_si512();
    for (long k = 0; k < steps; k++)
      sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_loadu_si512(to + k * PANEL * 4));
    _mm512_storeu_si512(sums, sum);
#else
    for (long n = 0; n < PANEL; n++) {
      sums[n] = 0;
      for (long k = 0; k < steps * 4; k++) sums[n] += to[(k / 4 * PANEL + n) * 4 + k % 4];
    }
#endif
  }

  static void multiply(const void* data, long part) {
    const auto& self = *(const Product*)data;
    const long end = least(self.rows, (part + 1) * PART);
    for (long panel = 0; panel < self.panels(); panel += SIDE)
      for (long row = part * PART; row < end; row += ROWS) {
        const long rows = least(ROWS, end - row), panels = least(SIDE, self.panels() - panel);
        if (rows == ROWS && panels == SIDE)
          self.tile<ROWS, SIDE>(row, panel);
        else if (rows == ROWS)
          for (long p = 0; p < panels; p++) self.tile<ROWS, 1>(row, panel + p);
        else
          for (long r = 0; r < rows; r++)
            for (long p = 0; p < panels; p++) self.tile<1, 1>(row + r, panel + p);
      }
  }

  static int32_t four(const uint8_t* from) {
    int32_t bytes;
    memcpy(&bytes, from, 4);
    return bytes;
  }

  // The last bytes of a row, padded with zeros.
  int32_t last(const uint8_t* from) const {
    int32_t bytes = 0;
    for (long k = 0; k < inputs % 4; k++) bytes |= int32_t(from[k]) << 8 * k;
    return bytes;
  }

  template <int R, int P>
  void tile(long row, long panel) const {
    const uint8_t* from = x + row * inputs;
    const long stride = steps() * PANEL * 4;
    const int8_t* at = packed + panel * stride;
#ifdef VNNI
    __m512i total[R][P];
    UNROLLED (int r = 0; r < R; r++)
      UNROLLED (int p = 0; p < P; p++) total[r][p] = _mm512_setzero_si512();
    const long whole = inputs / 4;
    for (long k = 0; k < whole; k++) {
      __m512i w[P];
      UNROLLED (int p = 0; p < P; p++) w[p] = _mm512_loadu_si512(at + p * stride + k * PANEL * 4);
      UNROLLED (int r = 0; r < R; r++) {
        const __m512i some_x = _mm512_set1_epi32(four(from + r * inputs + 4 * k));
        UNROLLED (int p = 0; p < P; p++) total[r][p] = _mm512_dpbusd_epi32(total[r][p], some_x, w[p]);
      }
    }
    if (whole < steps()) {
      UNROLLED (int r = 0; r < R; r++) {
        const __m512i some_x = _mm512_set1_epi32(last(from + r * inputs + 4 * whole));
        UNROLLED (int p = 0; p < P; p++)
          total[r][p] = _mm512_dpbusd_epi32(
              total[r][p], some_x, _mm512_loadu_si512(at + p * stride + whole * PANEL * 4));
      }
    }
    UNROLLED (int p = 0; p < P; p++) {
      const long output = (panel + p) * PANEL, some = least(PANEL, outputs - output);
      const __mmask16 mask = (1u << some) - 1;
      const __m512i of_weight = _mm512_loadu_si512(sums + output);
      const __m512 of_output = _mm512_maskz_loadu_ps(mask, weight_scale + output);
      const __m512 added = _mm512_maskz_loadu_ps(mask, bias + output);
      UNROLLED (int r = 0; r < R; r++) {
        const long one = own ? row + r : 0;
        const __m512i less = _mm512_mullo_epi32(_mm512_set1_epi32(zero[one]), of_weight);
        const __m512 number = _mm512_cvtepi32_ps(_mm512_sub_epi32(total[r][p], less));
        const __m512 factor = _mm512_mul_ps(_mm512_set1_ps(scale[one]), of_output);
        _mm512_mask_storeu_ps(y + (row + r) * outputs + output, mask,
                              _mm512_fmadd_ps(number, factor, added));
      }
    }
#else
    for (int r = 0; r < R; r++)
      for (int p = 0; p < P; p++) {
        int32_t total[PANEL] = {};
        for (long k = 0; k < inputs; k++)
          for (long n = 0; n < PANEL; n++)
            total[n] += int32_t(from[r * inputs + k]) *
                        at[p * stride + (k / 4 * PANEL + n) * 4 + k % 4];
        const long output = (panel + p) * PANEL;
        for (long n = 0; n < least(PANEL, outputs - output); n++)
          finish(row + r, output + n, total[n], sums[output + n]);
      }
#endif
  }
};

// Arguments: scale [rows] or [1], weight_scale [outputs], bias [outputs], all float32; x, uint8
// [rows, inputs]; zero, int32 of the shape of scale; weight, int8 [outputs, inputs].
// Result: y, float32 [rows, outputs].
template <typename T>
static XLA_FFI_Error* multiply(XLA_FFI_CallFrame* frame) {
  Product work;
  work.scale = argument<float>(frame, 0);
  work.weight_scale = argument<float>(frame, 1);
  work.bias = argument<float>(frame, 2);
  work.x = argument<uint8_t>(frame, 3);
  work.zero = argument<int32_t>(frame, 4);
  work.weight = argument<int8_t>(frame, 5);
  work.y = result<float>(frame, 0);
  work.rows = given(frame, 3)->dims[0];
  work.inputs = given(frame, 3)->dims[1];
  work.outputs = given(frame, 5)->dims[0];
  work.own = given(frame, 0)->dims[0] > 1;
  const long threads = threads_of(frame);
  if (work.rows <= FEW) {
    const long size = work.outputs * work.inputs;
    const long parts = most(1, least(threads, size / WORTH));
    work.share = pieces_of(SIDE, pieces_of(parts, work.outputs)) * SIDE;
    share(frame, threads, pieces_of(work.share, work.outputs), work.few, &work);
    return nullptr;
  }
  const long bytes = work.panels() * work.steps() * PANEL * 4;
  const long all = bytes + work.panels() * PANEL * sizeof(int32_t);
  work.packed = (int8_t*)memory(all);
  if (!work.packed) return out_of_memory(frame);
  work.sums = (int32_t*)(work.packed + bytes);
  const bool small = work.rows * work.outputs * work.inputs < WORTH * 8;
  share(frame, small ? 1 : threads, work.panels(), work.pack, &work);
  share(frame, small ? 1 : threads, pieces_of(PART, work.rows), work.multiply, &work);
  return nullptr;
}

HANDLER(int8_linear, multiply)
