// Recurrent layers over all time steps, forward and backward, for XLA on CPUs.
//
// An example's recurrence needs no other example's, so each thread takes some examples through all
// steps, and meets the others at the end alone. XLA's own loop runs on one thread, or has its
// threads meet several times a step. A step's products go by panels: two vectors of columns of a
// kernel, packed one row after the other, which stay in the nearest cache for all examples.
//
// Each number is computed in the same order whichever thread does it, and however many there are.

#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "xla/ffi/api/c_api.h"

#ifndef BYTES  // of a vector
#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
#endif

#define INLINE static inline __attribute__((always_inline))

// ---- Vectors ------------------------------------------------------------------------------------

template <typename T>
struct Format;

template <>
struct Format<float> {
  typedef float Vector __attribute__((vector_size(BYTES), aligned(4), may_alias));
  typedef int32_t Bits __attribute__((vector_size(BYTES)));
  static constexpr int terms = 7, exponent_bias = 127, mantissa = 23;
  static constexpr float most = 87, magic = 0x1.8p23f;
  static constexpr float ln2_high = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;
};

template <>
struct Format<double> {
  typedef double Vector __attribute__((vector_size(BYTES), aligned(8), may_alias));
  typedef int64_t Bits __attribute__((vector_size(BYTES)));
  static constexpr int terms = 13, exponent_bias = 1023, mantissa = 52;
  static constexpr double most = 708, magic = 0x1.8p52;
  static constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
};

template <typename T>
using Vector = typename Format<T>::Vector;

template <typename T>
constexpr long WIDTH = BYTES / sizeof(T);

// The first n numbers at a place, and zeros.
template <typename T>
INLINE Vector<T> load(const T* from, long n) {
  if (n >= WIDTH<T>) return *(const Vector<T>*)from;
  Vector<T> numbers = {};
  if (n > 0) memcpy(&numbers, from, n * sizeof(T));
  return numbers;
}

template <typename T>
INLINE void store(T* to, Vector<T> numbers, long n) {
  if (n >= WIDTH<T>)
    *(Vector<T>*)to = numbers;
  else if (n > 0)
    memcpy(to, &numbers, n * sizeof(T));
}

// a b + c, rounded once: some compilers choose one rounding or two by what lies around a sum.
INLINE Vector<float> fused(Vector<float> a, Vector<float> b, Vector<float> c) {
#if BYTES == 32
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__AVX512F__)
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
  return a * b + c;
#endif
}

INLINE Vector<double> fused(Vector<double> a, Vector<double> b, Vector<double> c) {
#if BYTES == 32
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__AVX512F__)
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#else
  return a * b + c;
#endif
}

// exp(x) - 1, near zero too to the last digits: 2^n (exp(r) - 1) + (2^n - 1) with |r| <= ln(2)/2.
template <typename T>
INLINE Vector<T> exp_minus_one(Vector<T> x) {
  using F = Format<T>;
  constexpr double factorial[] = {1,     1,      2,       6,        24,        120,        720,
                                  5040,  40320,  362880,  3628800,  39916800,  479001600,  6227020800};
  const Vector<T> most = Vector<T>{} + F::most;
  x = x > most ? most : x;
  x = x < -most ? -most : x;
  Vector<T> n = x * (T)1.44269504088896340736 + F::magic;  // rounded to whole numbers
  auto bits = (typename F::Bits)n;
  n -= F::magic;
  const Vector<T> r = x - n * F::ln2_high - n * F::ln2_low;
  Vector<T> series = Vector<T>{} + (T)(1 / factorial[F::terms]);
#pragma GCC unroll 16
  for (int term = F::terms - 1; term > 0; term--) series = series * r + (T)(1 / factorial[term]);
  const auto power = (Vector<T>)((bits + F::exponent_bias) << F::mantissa);
  return series * r * power + (power - 1);
}

template <typename T>
INLINE Vector<T> sigmoid(Vector<T> x) {
  return 1 / (exp_minus_one<T>(-x) + 2);
}

template <typename T>
INLINE Vector<T> tangent(Vector<T> x) {  // the hyperbolic one
  const Vector<T> e = exp_minus_one<T>(2 * x);
  return e / (e + 2);
}

// ---- Products -----------------------------------------------------------------------------------

// z[row][column] += sum over k of a[row][k] * panel[k][column], for R rows and C vectors of columns.
template <typename T, int R, int C>
INLINE void multiply_rows(Vector<T>* z, long z_row, const T* a, long a_row, const Vector<T>* panel,
                          long depth) {
  Vector<T> sum[R][C];
#pragma GCC unroll 6
  for (int row = 0; row < R; row++)
#pragma GCC unroll 2
    for (int column = 0; column < C; column++) sum[row][column] = z[row * z_row + column];
  for (long k = 0; k < depth; k++, panel += C) {
    Vector<T> columns[C];
#pragma GCC unroll 2
    for (int column = 0; column < C; column++) {
      columns[column] = panel[column];
#if BYTES == 32 || defined(__AVX512F__)
      asm("" : "+v"(columns[column]));  // loaded once, not for each row
#endif
    }
#pragma GCC unroll 6
    for (int row = 0; row < R; row++) {
      const T factor = a[row * a_row + k];
      const Vector<T> factors = (factor - Vector<T>{});  // the number in every place
#pragma GCC unroll 2
      for (int column = 0; column < C; column++)
        sum[row][column] = fused(columns[column], factors, sum[row][column]);
    }
  }
#pragma GCC unroll 6
  for (int row = 0; row < R; row++)
#pragma GCC unroll 2
    for (int column = 0; column < C; column++) z[row * z_row + column] = sum[row][column];
}

// The same for any number of rows.
template <typename T, int C>
__attribute__((noinline)) static void multiply(Vector<T>* z, long z_row, long rows, const T* a,
                                               long a_row, const Vector<T>* panel, long depth) {
  for (long row = 0, some; row < rows; row += some) {
    const long left = rows - row;
    some = left >= 10 || left == 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const auto to = z + row * z_row;
    const auto from = a + row * a_row;
    if (some == 6) multiply_rows<T, 6, C>(to, z_row, from, a_row, panel, depth);
    if (some == 4) multiply_rows<T, 4, C>(to, z_row, from, a_row, panel, depth);
    if (some == 2) multiply_rows<T, 2, C>(to, z_row, from, a_row, panel, depth);
    if (some == 1) multiply_rows<T, 1, C>(to, z_row, from, a_row, panel, depth);
  }
}

// ---- Threads ------------------------------------------------------------------------------------

// Parts of some work, which whoever is free takes. The caller takes parts too and waits for none
// that nobody has begun, so that it comes to an end where XLA's threads are all busy.
struct Job {
  void (*work)(const void* data, long part);
  const void* data;
  const long parts;
  std::atomic<long> holders;
  std::atomic<long> next{0}, done{0};

  void take() {
    for (long part; (part = next.fetch_add(1)) < parts; done.fetch_add(1)) work(data, part);
  }
  void let_go() {
    if (holders.fetch_sub(1) == 1) delete this;
  }
};

static void help(void* given) {
  const auto job = (Job*)given;
  job->take();
  job->let_go();
}

static bool failed(XLA_FFI_CallFrame* frame, XLA_FFI_Error* error) {
  if (!error) return false;
  XLA_FFI_Error_Destroy_Args args = {sizeof args, nullptr, error};
  frame->api->XLA_FFI_Error_Destroy(&args);
  return true;
}

static long threads_of(XLA_FFI_CallFrame* frame) {
  int64_t threads = 1;
  XLA_FFI_ThreadPool_NumThreads_Args args = {sizeof args, nullptr, frame->ctx, &threads};
  return failed(frame, frame->api->XLA_FFI_ThreadPool_NumThreads(&args)) ? 1 : threads;
}

static void share(XLA_FFI_CallFrame* frame, long threads, long parts,
                  void (*work)(const void*, long), const void* data) {
  const long helpers = (threads < parts ? threads : parts) - 1;
  if (helpers < 1) {
    for (long part = 0; part < parts; part++) work(data, part);
    return;
  }
  const auto job = new Job{work, data, parts, helpers + 1};
  for (long helper = 0; helper < helpers; helper++) {
    XLA_FFI_ThreadPool_Schedule_Args args = {sizeof args, nullptr, frame->ctx, help, job};
    if (failed(frame, frame->api->XLA_FFI_ThreadPool_Schedule(&args))) job->let_go();
  }
  job->take();
  for (long turns = 1; job->done.load() < parts; turns++)
    if (turns % 1024 == 0) sched_yield();
  job->let_go();
}

// Examples of a part: few enough for the cache, and some for each thread.
constexpr long MOST = 64, LEAST = 4;

static long part_size(long batch, long threads) {
  const long size = (batch + threads - 1) / threads;
  return size > MOST ? MOST : size < LEAST ? LEAST : size;
}

// Memory that a thread keeps, as new memory costs more than to fill it.
static void* memory(size_t bytes) {
  struct Kept {
    void* at = nullptr;
    size_t bytes = 0;
    ~Kept() { free(at); }
  };
  static thread_local Kept kept;
  if (bytes > kept.bytes) {
    free(kept.at);
    kept.bytes = (bytes + 63) / 64 * 64;
    kept.at = aligned_alloc(64, kept.bytes);
    if (!kept.at) kept.bytes = 0;
  }
  return kept.at;
}

// ---- The recurrence -----------------------------------------------------------------------------

struct Sizes {
  long time, batch, inputs, hidden, part;
  bool reverse;

  // The steps in the order in which they are taken.
  long step(long number) const { return reverse ? time - 1 - number : number; }
};

// What cells have in common: four sums for each hidden unit, of which the first two are of the
// input's and the hidden state's products together.
struct Lstm {
  static constexpr int gates = 4;
};
struct Gru {
  static constexpr int gates = 3;
};

template <typename T, typename Cell>
struct Forward : Sizes {
  const T *x, *h0, *c0;
  T *h, *c, *saved;
  const Vector<T>*kernels, *biases;
  long c_step;  // 0 where the last c alone is kept

  // Packs the kernels, for each vector of hidden units those of its gates.
  static void pack(Vector<T>* to, const T* input, const T* recurrent, long inputs, long hidden) {
    for (long j = 0; j < hidden; j += WIDTH<T>) {
      to = pack_gates(to, input, inputs, hidden, j, 0, 2);
      to = pack_gates(to, recurrent, hidden, hidden, j, 0, 2);
      to = pack_gates(to, input, inputs, hidden, j, 2, Cell::gates);
      to = pack_gates(to, recurrent, hidden, hidden, j, 2, Cell::gates);
    }
  }

  static Vector<T>* pack_gates(Vector<T>* to, const T* kernel, long depth, long hidden, long j,
                               int first, int last) {
    for (long k = 0; k < depth; k++)
      for (int gate = first; gate < last; gate++)
        *to++ = load(kernel + (k * Cell::gates + gate) * hidden + j, hidden - j);
    return to;
  }

  static void pack_biases(Vector<T>* to, const T* input, const T* recurrent, long hidden) {
    for (long j = 0; j < hidden; j += WIDTH<T>) {
      for (int gate = 0; gate < Cell::gates; gate++) {
        const auto one = load(input + gate * hidden + j, hidden - j);
        const auto other = load(recurrent + gate * hidden + j, hidden - j);
        const bool apart = Cell::gates == 3 && gate == 2;
        *to++ = apart ? one : one + other;
        if (apart) *to++ = other;
      }
    }
  }

  static void take_part(const void* data, long number) {
    const auto& self = *(const Forward*)data;
    const long first = number * self.part, end = first + self.part;
    const long rows = (end < self.batch ? end : self.batch) - first;
    for (long t = 0; t < self.time; t++)
      for (long j = 0; j < self.hidden; j += WIDTH<T>) self.advance(t, first, rows, j);
  }

  // A step of some examples, for a vector of hidden units.
  void advance(long number, long first, long rows, long j) const {
    Vector<T> z[MOST * 4];
    const long t = step(number), before = number ? step(number - 1) : 0;
    const long at = t * batch + first, block = j / WIDTH<T>;
    const T* h_before = number ? h + (before * batch + first) * hidden : h0 + first * hidden;
    const T* inputs_now = x + at * inputs;
    const Vector<T>* bias = biases + block * 4;
    for (long row = 0; row < rows; row++)
      for (int sum = 0; sum < 4; sum++) z[row * 4 + sum] = bias[sum];
    const Vector<T>* kernel = kernels + block * Cell::gates * (inputs + hidden);
    multiply<T, 2>(z, 4, rows, inputs_now, inputs, kernel, inputs);
    kernel += 2 * inputs;
    multiply<T, 2>(z, 4, rows, h_before, hidden, kernel, hidden);
    kernel += 2 * hidden;
    constexpr int others = Cell::gates - 2;
    multiply<T, others>(z + 2, 4, rows, inputs_now, inputs, kernel, inputs);
    kernel += others * inputs;
    multiply<T, others>(z + (Cell::gates == 3 ? 3 : 2), 4, rows, h_before, hidden, kernel, hidden);
    const T* c_before = number ? c + before * c_step + first * hidden : c0 + first * hidden;
    for (long row = 0; row < rows; row++) {
      T* keep = saved ? saved + (at + row) * 4 * hidden + j : nullptr;
      T* h_now = h + (at + row) * hidden + j;
      if constexpr (Cell::gates == 4) {
        T* c_now = c + t * c_step + (first + row) * hidden + j;
        lstm(z + row * 4, c_before + row * hidden + j, h_now, c_now, keep, hidden - j);
      } else {
        gru(z + row * 4, h_before + row * hidden + j, h_now, keep, hidden - j);
      }
    }
  }

  INLINE void keep_all(T* to, long hidden, const Vector<T> (&all)[4], long n) {
    for (int one = 0; to && one < 4; one++) store(to + one * hidden, all[one], n);
  }

  void lstm(const Vector<T>* z, const T* c_before, T* h_now, T* c_now, T* keep, long n) const {
    const Vector<T> i = sigmoid<T>(z[0]), f = sigmoid<T>(z[1]);
    const Vector<T> g = tangent<T>(z[2]), o = sigmoid<T>(z[3]);
    const Vector<T> cell = f * load(c_before, n) + i * g;
    store<T>(c_now, cell, n);
    store<T>(h_now, o * tangent<T>(cell), n);
    keep_all(keep, hidden, {i, f, g, o}, n);
  }

  void gru(const Vector<T>* z, const T* h_before, T* h_now, T* keep, long n) const {
    const Vector<T> r = sigmoid<T>(z[0]), k = sigmoid<T>(z[1]);
    const Vector<T> candidate = tangent<T>(z[2] + r * z[3]);
    store<T>(h_now, candidate + k * (load(h_before, n) - candidate), n);
    keep_all(keep, hidden, {r, k, candidate, z[3]}, n);
  }
};

// Steps of a product over many numbers, so that a panel's part stays in the nearest cache.
constexpr long DEPTH = 256;

template <typename T, typename Cell>
struct Backward : Sizes {
  const T *d_outputs, *saved, *state, *initial, *d_h_last, *d_c_last;
  T *dz, *d_h, *d_c, *du;
  const Vector<T>* kernel;

  static constexpr long panel = 2 * WIDTH<T>;

  // Packs the transposed kernel, two vectors of hidden units after two others.
  static void pack(T* to, const T* kernel, long hidden) {
    const long width = Cell::gates * hidden;
    for (long j = 0; j < hidden; j += panel)
      for (long k = 0; k < width; k++)
        for (long unit = j; unit < j + panel; unit++)
          *to++ = unit < hidden ? kernel[unit * width + k] : 0;
  }

  static void take_part(const void* data, long number) {
    const auto& self = *(const Backward*)data;
    const long first = number * self.part, end = first + self.part;
    const long last = end < self.batch ? end : self.batch, hidden = self.hidden;
    const size_t bytes = (last - first) * hidden * sizeof(T);
    memcpy(self.d_h + first * hidden, self.d_h_last + first * hidden, bytes);
    if (self.d_c) memcpy(self.d_c + first * hidden, self.d_c_last + first * hidden, bytes);
    for (long t = self.time - 1; t >= 0; t--) {
      for (long example = first; example < last; example++) self.go_back(t, example);
      for (long j = 0; j < hidden; j += panel) self.through_kernel(t, first, last - first, j);
    }
  }

  // The gradients of an example's gates.
  void go_back(long number, long example) const {
    const long at = step(number) * batch + example;
    const T* before = number ? state + (step(number - 1) * batch + example) * hidden
                             : initial + example * hidden;
    for (long j = 0; j < hidden; j += WIDTH<T>) {
      const long n = hidden - j;
      const T* kept = saved + at * 4 * hidden + j;
      T* to = d_h + example * hidden + j;
      const Vector<T> dh = load(to, n) + load(d_outputs + at * hidden + j, n);
      const Vector<T> all[] = {load(kept, n), load(kept + hidden, n), load(kept + 2 * hidden, n),
                               load(kept + 3 * hidden, n)};
      if constexpr (Cell::gates == 4)
        store<T>(to, lstm(all, dh, at * hidden + j, before + j, d_c + example * hidden + j, n), n);
      else
        store<T>(to, gru(all, dh, at, j, load(before + j, n), n), n);
    }
  }

  Vector<T> lstm(const Vector<T>* all, Vector<T> dh, long at, const T* before, T* carried,
                 long n) const {
    const Vector<T> i = all[0], f = all[1], g = all[2], o = all[3];
    const Vector<T> squashed = tangent<T>(load(state + at, n));
    const Vector<T> dc = load(carried, n) + dh * o * (1 - squashed * squashed);
    T* to = dz + at / hidden * 4 * hidden + at % hidden;
    store<T>(to, dc * g * i * (1 - i), n);
    store<T>(to + hidden, dc * load(before, n) * f * (1 - f), n);
    store<T>(to + 2 * hidden, dc * i * (1 - g * g), n);
    store<T>(to + 3 * hidden, dh * squashed * o * (1 - o), n);
    store<T>(carried, dc * f, n);
    return Vector<T>{};
  }

  Vector<T> gru(const Vector<T>* all, Vector<T> dh, long at, long j, Vector<T> h, long n) const {
    const Vector<T> r = all[0], k = all[1], candidate = all[2], un = all[3];
    const Vector<T> dn = dh * (1 - k) * (1 - candidate * candidate);
    const Vector<T> dk = dh * (h - candidate) * k * (1 - k), dr = dn * un * r * (1 - r);
    T* const both[] = {dz, du};
    for (T* to : both) {
      to += at * 3 * hidden + j;
      store<T>(to, dr, n);
      store<T>(to + hidden, dk, n);
      store<T>(to + 2 * hidden, dn, n);
    }
    store<T>(du + at * 3 * hidden + 2 * hidden + j, dn * r, n);
    return dh * k;
  }

  // What of these gradients comes to the hidden state before, for two vectors of hidden units.
  void through_kernel(long number, long first, long rows, long j) const {
    Vector<T> sums[MOST * 2] = {};
    const long width = Cell::gates * hidden;
    const T* from = (du ? du : dz) + (step(number) * batch + first) * width;
    const Vector<T>* packed = kernel + j / panel * width * 2;
    for (long k = 0; k < width; k += DEPTH)
      multiply<T, 2>(sums, 2, rows, from + k, width, packed + 2 * k,
                     width - k < DEPTH ? width - k : DEPTH);
    for (long row = 0; row < rows; row++)
      for (int side = 0; side < 2; side++) {
        const long unit = j + side * WIDTH<T>;
        T* to = d_h + (first + row) * hidden + unit;
        store<T>(to, load(to, hidden - unit) + sums[row * 2 + side], hidden - unit);
      }
  }
};

// ---- What XLA calls -----------------------------------------------------------------------------

static bool asked_for_version(XLA_FFI_CallFrame* frame) {
  const auto extension = frame->extension_start;
  if (!extension || extension->type != XLA_FFI_Extension_Metadata) return false;
  const auto metadata = ((XLA_FFI_Metadata_Extension*)extension)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  return true;
}

static XLA_FFI_Error* out_of_memory(XLA_FFI_CallFrame* frame) {
  XLA_FFI_Error_Create_Args args = {sizeof args, nullptr, "no memory for a layer's packed kernels",
                                    XLA_FFI_Error_Code_RESOURCE_EXHAUSTED};
  return frame->api->XLA_FFI_Error_Create(&args);
}

static XLA_FFI_Buffer* given(XLA_FFI_CallFrame* frame, int number) {
  return (XLA_FFI_Buffer*)frame->args.args[number];
}

template <typename T>
static T* argument(XLA_FFI_CallFrame* frame, int number) {
  return (T*)given(frame, number)->data;
}

template <typename T>
static T* result(XLA_FFI_CallFrame* frame, int number) {
  return number < frame->rets.size ? (T*)((XLA_FFI_Buffer*)frame->rets.rets[number])->data : nullptr;
}

static bool reversed(XLA_FFI_CallFrame* frame) {
  return *(const int32_t*)((XLA_FFI_Scalar*)frame->attrs.attrs[0])->value;
}

// Arguments: x [T, B, I], kernels [I, G·H] and [H, G·H], biases [G·H] twice, h [B, H]; of an LSTM
// c [B, H] too.
// Results: h [T, B, H]; of an LSTM c, [T, B, H] or the last one, [B, H]; what backward needs,
// [T, B, 4H], if wanted.
template <typename T, typename Cell>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  constexpr bool has_c = Cell::gates == 4;
  const auto dims = given(frame, 0)->dims;
  const long threads = threads_of(frame), inputs = dims[2], hidden = given(frame, 2)->dims[0];
  const long blocks = (hidden + WIDTH<T> - 1) / WIDTH<T>;
  const auto packed = (Vector<T>*)memory(BYTES * blocks * (Cell::gates * (inputs + hidden) + 4));
  if (!packed) return out_of_memory(frame);
  const auto biases = packed + blocks * Cell::gates * (inputs + hidden);
  Forward<T, Cell>::pack(packed, argument<T>(frame, 1), argument<T>(frame, 2), inputs, hidden);
  Forward<T, Cell>::pack_biases(biases, argument<T>(frame, 3), argument<T>(frame, 4), hidden);
  Forward<T, Cell> work;
  (Sizes&)work = {dims[0], dims[1], inputs, hidden, part_size(dims[1], threads), reversed(frame)};
  work.x = argument<T>(frame, 0);
  work.h0 = argument<T>(frame, 5);
  work.c0 = has_c ? argument<T>(frame, 6) : nullptr;
  work.h = result<T>(frame, 0);
  work.c = has_c ? result<T>(frame, 1) : nullptr;
  work.saved = result<T>(frame, has_c ? 2 : 1);
  work.c_step = work.saved ? work.batch * hidden : 0;
  work.kernels = packed;
  work.biases = biases;
  share(frame, threads, (work.batch + work.part - 1) / work.part, work.take_part, &work);
  return nullptr;
}

// Arguments: the gradient of the outputs [T, B, H], what forward saved [T, B, 4H], the states
// (an LSTM's c) [T, B, H] and the one before them [B, H], the recurrent kernel [H, G·H], the
// gradient of the last h and of an LSTM's last c [B, H].
// Results: the gradient of the input's share [T, B, G·H], of the first h [B, H]; of an LSTM's
// first c [B, H]; of a GRU's hidden share [T, B, G·H], which of an LSTM is that of the input's.
template <typename T, typename Cell>
static XLA_FFI_Error* backward(XLA_FFI_CallFrame* frame) {
  constexpr bool has_c = Cell::gates == 4;
  const auto dims = given(frame, 0)->dims;
  const long threads = threads_of(frame), hidden = dims[2], panel = Backward<T, Cell>::panel;
  const long panels = (hidden + panel - 1) / panel;
  const auto packed = (T*)memory(sizeof(T) * panels * panel * Cell::gates * hidden);
  if (!packed) return out_of_memory(frame);
  Backward<T, Cell>::pack(packed, argument<T>(frame, 4), hidden);
  Backward<T, Cell> work;
  (Sizes&)work = {dims[0], dims[1], 0, hidden, part_size(dims[1], threads), reversed(frame)};
  work.d_outputs = argument<T>(frame, 0);
  work.saved = argument<T>(frame, 1);
  work.state = argument<T>(frame, 2);
  work.initial = argument<T>(frame, 3);
  work.d_h_last = argument<T>(frame, 5);
  work.d_c_last = has_c ? argument<T>(frame, 6) : nullptr;
  work.dz = result<T>(frame, 0);
  work.d_h = result<T>(frame, 1);
  work.d_c = has_c ? result<T>(frame, 2) : nullptr;
  work.du = has_c ? nullptr : result<T>(frame, 2);
  work.kernel = (const Vector<T>*)packed;
  share(frame, threads, (work.batch + work.part - 1) / work.part, work.take_part, &work);
  return nullptr;
}

#define HANDLER(name, function, cell)                                                    \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* name(                 \
      XLA_FFI_CallFrame* frame) {                                                        \
    if (asked_for_version(frame)) return nullptr;                                        \
    const bool single = given(frame, 0)->dtype == XLA_FFI_DataType_F32;                  \
    return single ? function<float, cell>(frame) : function<double, cell>(frame);        \
  }

HANDLER(lstm_forward, forward, Lstm)
HANDLER(lstm_backward, backward, Lstm)
HANDLER(gru_forward, forward, Gru)
HANDLER(gru_backward, backward, Gru)
