// Batch, group and layer normalization, forward and backward, for XLA on CPUs.
//
// Each result is computed in the same order for any number of threads, so it is reproducible.

#include <cmath>
#include <initializer_list>
#include <type_traits>

#include "calls.h"
#include "reductions.h"

// Number of adjacent vectors whose sums and parameters fit into registers.
constexpr int TILE = BYTES == 64 ? 4 : 2;
#define EACH_VECTOR _Pragma("GCC unroll 4") for (int i = 0; i < TILE; i++)

#define METHOD __attribute__((always_inline))

// Returns the first n elements of a vector, and zeros after them.
template <typename T>
INLINE Vector<T> first(Vector<T> numbers, long n) {
  return n >= WIDTH<T> ? numbers : first_of<T>(numbers, n, 0);
}

template <typename T>
INLINE Vector<double> widened(const T* from) {
  typedef T Few __attribute__((vector_size(WIDTH<double> * sizeof(T)), aligned(1), may_alias));
  return __builtin_convertvector(*(const Few*)from, Vector<double>);
}

// The array from a later element on; null for an array that is not given.
template <typename T>
INLINE T* past(T* array, long numbers) {
  return array ? array + numbers : nullptr;
}

template <typename T>
static T attribute(XLA_FFI_CallFrame* frame, int number) {
  return *(const T*)((XLA_FFI_Scalar*)frame->attrs.attrs[number])->value;
}

// ---- Lines --------------------------------------------------------------------------------------

// Number of elements of a chunk, which stays in the L2 cache from one pass to the next.
constexpr long CHUNK = 16384, LEAST_LINES = 32, LONGEST_LINE = 2048;

// The examples [rows, channels] of an array, each divided into lines of one or several rows. A
// position in a line, a lane, has the same channel in every line. So vectors are full even if there
// are few channels.
template <typename T>
struct Lines {
  long examples, numbers, channels, line, lanes, chunk;

  Lines(const XLA_FFI_Buffer* x, long examples) : examples(examples) {
    constexpr long tile = TILE * WIDTH<T>;
    channels = x->dims[x->rank - 1];
    numbers = 1;
    for (long axis = 0; axis < x->rank; axis++) numbers *= x->dims[axis];
    numbers /= examples;
    line = channels;
    while (line % tile && line <= LONGEST_LINE) line += channels;
    if (line > LONGEST_LINE) line = channels;
    lanes = pieces_of(tile, line) * tile;
    chunk = most(LEAST_LINES, CHUNK / line) * line;
  }
  long chunks() const { return pieces_of(chunk, numbers); }  // of an example
  long rows() const { return numbers / channels; }
  long size(long number) const { return least(chunk, numbers - number * chunk); }

  // Passes over a chunk by tiles of neighbouring lanes: line by line, which is the fastest order
  // for memory; or all lines of one tile after the other, if the chunk is in the cache.
  template <typename Pass>
  METHOD void sweep(long number, Pass pass, bool in_cache = false) const {
    constexpr long width = TILE * WIDTH<T>;
    const long begin = number * chunk, end = begin + size(number);
    const long block = in_cache || line <= width ? chunk : line;
    for (long from = begin; from < end; from += block)
      for (long lane = 0; lane < line; lane += width) {
        Pass tile = pass;
        EACH_VECTOR tile.begin(i, lane + i * WIDTH<T>);
        for (long at = from + lane; at < least(from + block, end); at += line) {
          const long left = least(end - at, line - lane);
          if (left >= width) {
            EACH_VECTOR tile.step(i, at + i * WIDTH<T>, WIDTH<T>);
          } else {
            EACH_VECTOR tile.step(i, at + i * WIDTH<T>, left - i * WIDTH<T>);
          }
        }
        EACH_VECTOR tile.end(i, lane + i * WIDTH<T>);
      }
  }

  // The numbers of elements of some neighbouring lanes in a chunk.
  METHOD Vector<double> counts(long number, long lane) const {
    const long whole = size(number) / line, more = size(number) % line;
    Vector<double> counts = everywhere<double>(whole);
    for (long i = 0; more && i < WIDTH<double>; i++) counts[i] += lane + i < more;
    return counts;
  }

  // Sums a function of the position in an array [chunks, lanes] over the chunks, for each lane.
  template <typename Function>
  METHOD void add_up(double* by_lane, Function function) const {
    for (long lane = 0; lane < lanes; lane += WIDTH<double>) {
      Vector<double> sum = {};
      for (long number = 0; number < chunks(); number++)
        sum += function(number * lanes + lane, number, lane);
      store<double>(by_lane + lane, sum, WIDTH<double>);
    }
  }

  void fold(double* of_channels, const double* by_lane) const {
    for (long lane = 0; lane < line; lane += channels)
      for (long channel = 0; channel < channels; channel++)
        of_channels[channel] = (lane ? of_channels[channel] : 0) + by_lane[lane + channel];
  }

  template <typename Number, typename Function>
  void spread(Number* by_lane, Function of_channel) const {
    for (long lane = 0; lane < lanes;)
      for (long channel = 0; channel < channels && lane < lanes; channel++)
        by_lane[lane++] = of_channel(channel);
  }
};

// Divides a buffer into aligned pieces; with a null buffer, only computes the total size.
struct Pieces {
  char* at;
  size_t taken = 0;

  template <typename... T>
  void take(long numbers, T*&... pieces) {
    (take_one(numbers, pieces), ...);
  }
  template <typename T>
  void take_one(long numbers, T*& piece) {
    piece = (T*)(at + taken);
    taken += (numbers * sizeof(T) + 63) / 64 * 64;
  }
};

// ---- Group normalization, forward ---------------------------------------------------------------
//
// Batch normalization is the case of one example, whose groups have one channel each.

template <typename T>
struct Sum {
  const T* x;
  T* sums;
  Vector<T> sum[TILE];

  METHOD void begin(int i, long lane) { sum[i] = load(sums + lane, WIDTH<T>); }
  METHOD void step(int i, long at, long n) { sum[i] += load(x + at, n); }
  METHOD void end(int i, long lane) { store<T>(sums + lane, sum[i], WIDTH<T>); }
};

// Computes the sums of differences from a center, and of their squares.
template <typename T>
struct Deviate {
  const T *x, *centers;
  T *sums, *squares;
  Vector<T> center[TILE], sum[TILE], square[TILE];

  METHOD void begin(int i, long lane) {
    center[i] = kept<T>(load(centers + lane, WIDTH<T>));
    sum[i] = load(sums + lane, WIDTH<T>);
    square[i] = load(squares + lane, WIDTH<T>);
  }
  METHOD void step(int i, long at, long n) {
    const Vector<T> difference = first<T>(load(x + at, n) - center[i], n);
    sum[i] += difference;
    square[i] = fused(difference, difference, square[i]);
  }
  METHOD void end(int i, long lane) {
    store<T>(sums + lane, sum[i], WIDTH<T>);
    store<T>(squares + lane, square[i], WIDTH<T>);
  }
};

// (x - mean) scale / deviation + bias.
template <typename T>
struct Affine {
  T *means, *factors, *biases;  // [examples, lanes]
  double* inverses;             // reciprocal standard deviations, [examples, groups]
  Vector<T> mean[TILE], factor[TILE], bias[TILE];

  void take(Pieces& pieces, const Lines<T>& lines, long groups) {
    pieces.take(lines.examples * lines.lanes, means, factors, biases);
    pieces.take(lines.examples * groups, inverses);
  }
  void prepare(const Lines<T>& lines, long groups, const T* mean, const T* variance, double eps,
               const T* scale, const T* bias) const {
    const long size = lines.channels / groups;
    for (long n = 0; n < lines.examples; n++) {
      const long group = n * groups, lane = n * lines.lanes;
      for (long g = group; g < group + groups; g++) inverses[g] = 1 / std::sqrt(variance[g] + eps);
      lines.spread(means + lane, [&](long c) { return mean[group + c / size]; });
      lines.spread(factors + lane,
                   [&](long c) { return (T)(inverses[group + c / size] * scale[c]); });
      lines.spread(biases + lane, [&](long c) { return bias[c]; });
    }
  }
  Affine of_example(const Lines<T>& lines, long n) const {
    const long lane = n * lines.lanes;
    return {means + lane, factors + lane, biases + lane, nullptr};
  }
  METHOD void begin(int i, long lane) {
    mean[i] = kept<T>(load(means + lane, WIDTH<T>));
    factor[i] = kept<T>(load(factors + lane, WIDTH<T>));
    bias[i] = kept<T>(load(biases + lane, WIDTH<T>));
  }
  METHOD Vector<T> of(int i, Vector<T> x) const { return fused(x - mean[i], factor[i], bias[i]); }
};

// The activation that follows a normalization.
enum Activation { NONE, RELU, SILU };

template <typename T, Activation activation>
INLINE Vector<T> activated(Vector<T> y) {
  if (activation == RELU) return y < 0 ? Vector<T>{} : y;  // NaN stays NaN
  if (activation == SILU) return y * sigmoid<T>(y);
  return y;
}

template <Activation activation>
using Constant = std::integral_constant<Activation, activation>;

// Calls a function with an activation as a constant of the compiler.
template <typename Function>
static void with_activation(int activation, Function function) {
  if (activation == RELU) return function(Constant<RELU>());
  if (activation == SILU) return function(Constant<SILU>());
  function(Constant<NONE>());
}

template <typename T, Activation activation, bool residual>
struct Normalize {
  Affine<T> affine;
  const T *x, *added;
  T* y;

  METHOD void begin(int i, long lane) { affine.begin(i, lane); }
  METHOD void step(int i, long at, long n) {
    Vector<T> value = affine.of(i, load(x + at, n));
    if (residual) value += load(added + at, n);
    store<T>(y + at, activated<T, activation>(value), n);
  }
  METHOD void end(int, long) {}
};

template <typename T>
struct GroupNorm {
  const Lines<T> lines;
  const long groups;
  const T *x, *added;           // the input, and the residual
  T *y, *mean, *variance;
  T *centers, *sums, *squares;  // [examples, chunks, lanes]
  double *by_lane, *means;      // [lanes]
  double* total;                // [channels]
  Affine<T> affine;

  // Computes the moments of each lane of a chunk about its own center, to avoid cancellation.
  static void take_moments(const void* data, long part) {
    const auto& self = *(const GroupNorm*)data;
    const auto& lines = self.lines;
    const long example = part / lines.chunks(), number = part % lines.chunks();
    const long at = part * lines.lanes, size = lines.size(number);
    const T* x = self.x + example * lines.numbers;
    for (T* zeros : {self.centers, self.sums, self.squares})
      memset(zeros + at, 0, lines.lanes * sizeof(T));
    lines.sweep(number, Sum<T>{x, self.centers + at});
    const long whole = size / lines.line, more = size % lines.line;
    const T inverse = whole ? (T)1 / whole : 0, inverse_of_more = (T)1 / (whole + 1);
    for (long lane = 0; lane < lines.lanes; lane++)
      self.centers[at + lane] *= lane < more ? inverse_of_more : inverse;
    lines.sweep(number, Deviate<T>{x, self.centers + at, self.sums + at, self.squares + at}, true);
  }

  // Combines the moments of the lanes of an example to those of its groups.
  void combine(long example) const {
    const long first = example * lines.chunks() * lines.lanes, size = lines.channels / groups;
    T *mean = this->mean + example * groups, *variance = this->variance + example * groups;
    const auto average = [&](long group) {
      double sum = 0;
      for (long c = group * size; c < (group + 1) * size; c++) sum += total[c];
      return sum / (lines.rows() * size);
    };
    lines.add_up(by_lane, [&](long at, long number, long lane) {
      const auto center = widened(centers + first + at), rest = widened(sums + first + at);
      const auto known = center - center == 0;  // true for finite values
      return center * lines.counts(number, lane) + (known ? rest : Vector<double>{});
    });
    lines.fold(total, by_lane);
    for (long g = 0; g < groups; g++) {
      const double exact = average(g);
      mean[g] = exact;
      for (long c = g * size; c < (g + 1) * size; c++) total[c] = exact;
    }
    lines.spread(means, [&](long channel) { return total[channel]; });
    lines.add_up(by_lane, [&](long at, long number, long lane) {
      const auto from_mean = widened(centers + first + at) - load(means + lane, WIDTH<double>);
      const auto twice = 2 * widened(sums + first + at) + lines.counts(number, lane) * from_mean;
      return widened(squares + first + at) + from_mean * twice;
    });
    lines.fold(total, by_lane);
    for (long g = 0; g < groups; g++) variance[g] = average(g);
  }

  template <Activation activation, bool residual>
  static void normalize(const void* data, long part) {
    const auto& self = *(const GroupNorm*)data;
    const auto& lines = self.lines;
    // In reverse order, because the last chunks are still in the cache.
    const long back = lines.examples * lines.chunks() - 1 - part;
    const long example = back / lines.chunks(), from = example * lines.numbers;
    lines.sweep(back % lines.chunks(),
                Normalize<T, activation, residual>{self.affine.of_example(lines, example),
                                                   self.x + from, past(self.added, from),
                                                   self.y + from});
  }
};

// Arguments: x [..., C]; scale and bias [C]; optionally the residual [..., C], which is added
// before the activation. Results: y [..., C]; the mean and the biased variance [examples, groups].
// Attributes, also of the backward pass: activation, int32; eps, float64; examples, into which the
// first axes are divided, and groups of channels, int64.
template <typename T>
static XLA_FFI_Error* group_norm(XLA_FFI_CallFrame* frame) {
  const long threads = threads_of(frame);
  const bool residual = frame->args.size > 3;
  const double eps = attribute<double>(frame, 1);
  using Work = GroupNorm<T>;
  Work work = {Lines<T>(given(frame, 0), attribute<int64_t>(frame, 2)), attribute<int64_t>(frame, 3),
               argument<T>(frame, 0)};
  if (residual) work.added = argument<T>(frame, 3);
  work.y = result<T>(frame, 0);
  work.mean = result<T>(frame, 1);
  work.variance = result<T>(frame, 2);
  const long parts = work.lines.examples * work.lines.chunks(), lanes = work.lines.lanes;
  const auto lay_out = [&](Pieces pieces) {
    pieces.take(parts * lanes, work.centers, work.sums, work.squares);
    pieces.take(lanes, work.by_lane, work.means);
    pieces.take(work.lines.channels, work.total);
    work.affine.take(pieces, work.lines, work.groups);
    return pieces.taken;
  };
  const auto at = (char*)memory(lay_out({nullptr}));
  if (!at) return out_of_memory(frame);
  lay_out({at});
  share(frame, threads, parts, work.take_moments, &work);
  for (long example = 0; example < work.lines.examples; example++) work.combine(example);
  work.affine.prepare(work.lines, work.groups, work.mean, work.variance, eps,
                      argument<T>(frame, 1), argument<T>(frame, 2));
  with_activation(attribute<int32_t>(frame, 0), [&](auto activation) {
    share(frame, threads, parts,
          residual ? Work::template normalize<activation, true>
                   : Work::template normalize<activation, false>,
          &work);
  });
  return nullptr;
}

// ---- Group normalization, backward --------------------------------------------------------------

// Computes the gradient before an activation. `y` is the activation's input; for ReLU it may also
// be the output.
template <typename T, Activation activation>
INLINE Vector<T> before(Vector<T> d, Vector<T> y) {
  if (activation == RELU) return y > 0 ? d : Vector<T>{};
  if (activation == NONE) return d;
  const Vector<T> slope = sigmoid<T>(y);
  return d * slope * fused(y, 1 - slope, Vector<T>{} + 1);
}

// Computes the sums of the gradient before the activation, and of its products with x - mean.
template <typename T, Activation activation, bool residual>
struct SumGradients {
  Affine<T> affine;
  const T *d, *x, *y;
  T *d_added, *sums, *products;
  Vector<T> sum[TILE], product[TILE];

  METHOD void begin(int i, long lane) {
    affine.begin(i, lane);
    sum[i] = load(sums + lane, WIDTH<T>);
    product[i] = load(products + lane, WIDTH<T>);
  }
  METHOD void step(int i, long at, long n) {
    const Vector<T> input = load(x + at, n), given = load(d + at, n);
    const Vector<T> value = residual ? load(y + at, n) : affine.of(i, input);
    // Beyond the last channel the gradient stays zero.
    const Vector<T> gradient = before<T, activation>(given, value);
    if (residual) store<T>(d_added + at, gradient, n);
    sum[i] += gradient;
    product[i] = fused(gradient, input - affine.mean[i], product[i]);
  }
  METHOD void end(int i, long lane) {
    store<T>(sums + lane, sum[i], WIDTH<T>);
    store<T>(products + lane, product[i], WIDTH<T>);
  }
};

// The gradient of x: factor · gradient + curve · (x - mean) + shift.
template <typename T, Activation activation>
struct PullBack {
  Affine<T> affine;
  const T *curves, *shifts;  // [lanes]
  const T *d, *x;
  T* dx;
  Vector<T> curve[TILE], shift[TILE];

  METHOD void begin(int i, long lane) {
    affine.begin(i, lane);
    curve[i] = kept<T>(load(curves + lane, WIDTH<T>));
    shift[i] = kept<T>(load(shifts + lane, WIDTH<T>));
  }
  METHOD void step(int i, long at, long n) {
    const Vector<T> input = load(x + at, n);
    const Vector<T> gradient = before<T, activation>(load(d + at, n), affine.of(i, input));
    const Vector<T> rest = fused(input - affine.mean[i], curve[i], shift[i]);
    store<T>(dx + at, fused(gradient, affine.factor[i], rest), n);
  }
  METHOD void end(int, long) {}
};

template <typename T>
struct GroupNormBack {
  const Lines<T> lines;
  const long groups;
  const T *d, *x, *scale, *bias, *mean, *variance, *d_mean, *d_variance, *y;
  T *dx, *d_scale, *d_bias, *d_added;
  T *sums, *products;        // [examples, chunks, lanes]
  double* by_lane;           // [lanes]
  double *total, *product;   // [channels]
  double *scales, *biases;   // gradients of scale and bias, [channels]
  T *curves, *shifts;        // [examples, lanes]
  Affine<T> affine;

  template <Activation activation, bool residual>
  static void add_up(const void* data, long part) {
    const auto& self = *(const GroupNormBack*)data;
    const auto& lines = self.lines;
    const long example = part / lines.chunks(), from = example * lines.numbers;
    const long at = part * lines.lanes;
    for (T* zeros : {self.sums, self.products}) memset(zeros + at, 0, lines.lanes * sizeof(T));
    lines.sweep(part % lines.chunks(),
                SumGradients<T, activation, residual>{
                    self.affine.of_example(lines, example), self.d + from, self.x + from,
                    past(self.y, from), past(self.d_added, from), self.sums + at,
                    self.products + at});
  }

  void combine(long example) const {
    const long first = example * lines.chunks() * lines.lanes, size = lines.channels / groups;
    lines.add_up(by_lane, [&](long at, long, long) { return widened(sums + first + at); });
    lines.fold(total, by_lane);
    lines.add_up(by_lane, [&](long at, long, long) { return widened(products + first + at); });
    lines.fold(product, by_lane);
    const double each = 1. / (lines.rows() * size);
    for (long g = 0; g < groups; g++) {
      const long group = example * groups + g;
      const double inverse = affine.inverses[group];
      double of_mean = 0, of_variance = 0;
      for (long c = g * size; c < (g + 1) * size; c++) {
        biases[c] += total[c];
        scales[c] += product[c] * inverse;
        of_mean += scale[c] * total[c];
        of_variance += scale[c] * product[c];
      }
      of_mean = d_mean[group] - inverse * of_mean;
      of_variance = 2 * d_variance[group] - inverse * inverse * inverse * of_variance;
      for (long c = g * size; c < (g + 1) * size; c++) {
        total[c] = of_mean * each;
        product[c] = of_variance * each;
      }
    }
    lines.spread(curves + example * lines.lanes, [&](long channel) { return product[channel]; });
    lines.spread(shifts + example * lines.lanes, [&](long channel) { return total[channel]; });
  }

  void combine() const {
    for (double* zeros : {scales, biases}) memset(zeros, 0, lines.channels * sizeof(double));
    for (long example = 0; example < lines.examples; example++) combine(example);
    for (long c = 0; c < lines.channels; c++) {
      d_scale[c] = scales[c];
      d_bias[c] = biases[c];
    }
  }

  template <Activation activation>
  static void pull_back(const void* data, long part) {
    const auto& self = *(const GroupNormBack*)data;
    const auto& lines = self.lines;
    const long back = lines.examples * lines.chunks() - 1 - part;
    const long example = back / lines.chunks(), from = example * lines.numbers;
    const long lane = example * lines.lanes;
    const T* d = self.d_added ? self.d_added : self.d;
    lines.sweep(back % lines.chunks(),
                PullBack<T, activation>{self.affine.of_example(lines, example), self.curves + lane,
                                        self.shifts + lane, d + from, self.x + from,
                                        self.dx + from});
  }
};

// Arguments: the gradient of y; x, scale, bias, mean and variance; the gradients of mean and
// variance; y, if there is a residual and ReLU.
// Results: the gradients of x, scale and bias, and with y that of the residual.
template <typename T>
static XLA_FFI_Error* group_norm_back(XLA_FFI_CallFrame* frame) {
  const long threads = threads_of(frame);
  const double eps = attribute<double>(frame, 1);
  const bool residual = frame->args.size > 8;
  using Work = GroupNormBack<T>;
  Work work = {Lines<T>(given(frame, 0), attribute<int64_t>(frame, 2)),
               attribute<int64_t>(frame, 3)};
  const T** arguments[] = {&work.d,        &work.x,      &work.scale,      &work.bias, &work.mean,
                           &work.variance, &work.d_mean, &work.d_variance, &work.y};
  for (int number = 0; number < frame->args.size; number++)
    *arguments[number] = argument<T>(frame, number);
  T** results[] = {&work.dx, &work.d_scale, &work.d_bias, &work.d_added};
  for (int number = 0; number < 4; number++) *results[number] = result<T>(frame, number);
  const long examples = work.lines.examples, lanes = work.lines.lanes;
  const long parts = examples * work.lines.chunks();
  const auto lay_out = [&](Pieces pieces) {
    pieces.take(parts * lanes, work.sums, work.products);
    pieces.take(work.lines.channels, work.total, work.product, work.scales, work.biases);
    pieces.take(examples * lanes, work.curves, work.shifts);
    pieces.take(lanes, work.by_lane);
    work.affine.take(pieces, work.lines, work.groups);
    return pieces.taken;
  };
  const auto at = (char*)memory(lay_out({nullptr}));
  if (!at) return out_of_memory(frame);
  lay_out({at});
  work.affine.prepare(work.lines, work.groups, work.mean, work.variance, eps, work.scale, work.bias);
  with_activation(attribute<int32_t>(frame, 0), [&](auto activation) {
    share(frame, threads, parts,
          residual ? Work::template add_up<RELU, true> : Work::template add_up<activation, false>,
          &work);
    work.combine();
    share(frame, threads, parts,
          residual ? Work::template pull_back<NONE> : Work::template pull_back<activation>, &work);
  });
  return nullptr;
}

// ---- Layer normalization ------------------------------------------------------------------------

// Short rows are processed several at a time, so that their sums do not wait for each other; long
// rows one at a time, which is the fastest order for memory.
constexpr int ROWS = 4, SHORT = 512;
#define EACH_ROW _Pragma("GCC unroll 4") for (int row = 0; row < rows; row++)

// An array [rows, size] divided into chunks of rows.
struct Rows {
  long rows, size, chunk;

  Rows(const XLA_FFI_Buffer* x, long size) : size(size) {
    rows = 1;
    for (long axis = 0; axis < x->rank; axis++) rows *= x->dims[axis];
    rows /= size;
    chunk = most(LEAST_LINES, CHUNK / size);
  }
  long chunks() const { return pieces_of(chunk, rows); }

  // Calls a function template for a few rows of a chunk at a time.
  template <typename T, typename Function>
  METHOD void each(long number, Function function) const {
    const long end = least((number + 1) * chunk, rows);
    long row = number * chunk;
    for (; size * sizeof(T) <= SHORT && row + ROWS <= end; row += ROWS)
      function.template operator()<ROWS>(row);
    for (; row < end; row++) function.template operator()<1>(row);
  }
};

template <typename T>
struct LayerNorm {
  const Rows shape;
  const T eps, *x, *added, *scale, *bias;
  T *y, *sum, *mean, *inverse;

  static void run(const void* data, long number) {
    const auto& self = *(const LayerNorm*)data;
    self.shape.template each<T>(number, self);
  }

  template <int rows>
  METHOD void operator()(long first_row) const {
    const long size = shape.size, at = first_row * size;
    const T* from = (added ? sum : x) + at;
    Vector<T> sums[rows] = {}, squares[rows] = {}, means[rows], inverses[rows];
    for (long i = 0; i < size; i += WIDTH<T>) EACH_ROW {
      const long place = at + row * size + i;
      Vector<T> value = load(x + place, size - i);
      if (added) store<T>(sum + place, value += load(added + place, size - i), size - i);
      sums[row] += value;
    }
    EACH_ROW means[row] = sum_of<T>(sums[row]) / (T)size;
    for (long i = 0; i < size; i += WIDTH<T>) EACH_ROW {
      const Vector<T> value = load(from + row * size + i, size - i);
      const Vector<T> difference = first<T>(value - means[row], size - i);
      squares[row] = fused(difference, difference, squares[row]);
    }
    EACH_ROW {
      const T deviation = std::sqrt(sum_of<T>(squares[row])[0] / size + eps);
      inverses[row] = everywhere(1 / deviation);
      if (!mean) continue;
      mean[first_row + row] = means[row][0];
      inverse[first_row + row] = inverses[row][0];
    }
    for (long i = 0; i < size; i += WIDTH<T>) {
      const Vector<T> factors = load(scale + i, size - i), terms = load(bias + i, size - i);
      EACH_ROW {
        const Vector<T> value = load(from + row * size + i, size - i);
        const Vector<T> normalized = (value - means[row]) * inverses[row];
        store<T>(y + at + row * size + i, fused(normalized, factors, terms), size - i);
      }
    }
  }
};

template <typename T>
struct LayerNormBack {
  const Rows shape;
  const long lanes;
  const T *d, *x, *mean, *inverse, *scale, *d_sum;
  T *dx, *d_scale, *d_bias;
  T *scale_sums, *bias_sums;  // [chunks, lanes]

  static void run(const void* data, long number) {
    const auto& self = *(const LayerNormBack*)data;
    const long at = number * self.lanes;
    memset(self.scale_sums + at, 0, self.lanes * sizeof(T));
    memset(self.bias_sums + at, 0, self.lanes * sizeof(T));
    self.shape.template each<T>(number, self);
  }

  template <int rows>
  METHOD void operator()(long first_row) const {
    const long size = shape.size, at = first_row * size, chunk = first_row / shape.chunk;
    T *to_scale = scale_sums + chunk * lanes, *to_bias = bias_sums + chunk * lanes;
    Vector<T> means[rows], inverses[rows], sums[rows] = {}, products[rows] = {};
    EACH_ROW {
      means[row] = everywhere(mean[first_row + row]);
      inverses[row] = everywhere(inverse[first_row + row]);
    }
    for (long i = 0; i < size; i += WIDTH<T>) {
      const Vector<T> factors = load(scale + i, size - i);
      Vector<T> of_scale = load(to_scale + i, WIDTH<T>), of_bias = load(to_bias + i, WIDTH<T>);
      EACH_ROW {
        const long place = at + row * size + i;
        const Vector<T> gradient = load(d + place, size - i);
        const Vector<T> normalized = (load(x + place, size - i) - means[row]) * inverses[row];
        of_bias += gradient;
        of_scale = fused(gradient, normalized, of_scale);
        sums[row] = fused(gradient, factors, sums[row]);
        products[row] = fused(gradient * factors, normalized, products[row]);
      }
      store<T>(to_scale + i, of_scale, WIDTH<T>);
      store<T>(to_bias + i, of_bias, WIDTH<T>);
    }
    EACH_ROW {
      sums[row] = sum_of<T>(sums[row]) / (T)size;
      products[row] = sum_of<T>(products[row]) / (T)size;
    }
    for (long i = 0; i < size; i += WIDTH<T>) {
      const Vector<T> factors = load(scale + i, size - i);
      EACH_ROW {
        const long place = at + row * size + i;
        const Vector<T> gradient = load(d + place, size - i);
        const Vector<T> normalized = (load(x + place, size - i) - means[row]) * inverses[row];
        const Vector<T> centered = fused(gradient, factors, -sums[row]);
        Vector<T> of_x = fused(-normalized, products[row], centered) * inverses[row];
        if (d_sum) of_x += load(d_sum + place, size - i);
        store<T>(dx + place, of_x, size - i);
      }
    }
  }

  void combine() const {
    for (long i = 0; i < shape.size; i += WIDTH<double>) {
      Vector<double> of_scale = {}, of_bias = {};
      for (long number = 0; number < shape.chunks(); number++) {
        of_scale += widened(scale_sums + number * lanes + i);
        of_bias += widened(bias_sums + number * lanes + i);
      }
      for (long k = 0; k < least(WIDTH<double>, shape.size - i); k++) {
        d_scale[i + k] = of_scale[k];
        d_bias[i + k] = of_bias[k];
      }
    }
  }
};

// Arguments: x [..., F]; scale and bias [F]; optionally the residual [..., F], which is added to x
// first. Results: y [..., F]; with a residual the sum [..., F]; optionally the mean and the
// reciprocal standard deviation of each row.
// Attributes: eps, float64; also in the backward pass size, int64, which is F.
template <typename T>
static XLA_FFI_Error* layer_norm(XLA_FFI_CallFrame* frame) {
  const bool residual = frame->args.size > 3;
  LayerNorm<T> work = {Rows(given(frame, 0), attribute<int64_t>(frame, 1)),
                       (T)attribute<double>(frame, 0), argument<T>(frame, 0),
                       residual ? argument<T>(frame, 3) : nullptr, argument<T>(frame, 1),
                       argument<T>(frame, 2), result<T>(frame, 0)};
  if (residual) work.sum = result<T>(frame, 1);
  work.mean = result<T>(frame, 1 + residual);
  work.inverse = result<T>(frame, 2 + residual);
  share(frame, threads_of(frame), work.shape.chunks(), work.run, &work);
  return nullptr;
}

// Arguments: the gradient of y; the normalized array; the mean and the reciprocal standard
// deviation of each row; scale; the gradient of the normalized array, if it was an output. Results:
// the gradients of the normalized array, scale and bias.
template <typename T>
static XLA_FFI_Error* layer_norm_back(XLA_FFI_CallFrame* frame) {
  const Rows shape(given(frame, 0), attribute<int64_t>(frame, 0));
  const long lanes = pieces_of(WIDTH<T>, shape.size) * WIDTH<T>;
  LayerNormBack<T> work = {shape, lanes};
  const T** arguments[] = {&work.d, &work.x, &work.mean, &work.inverse, &work.scale, &work.d_sum};
  for (int number = 0; number < frame->args.size; number++)
    *arguments[number] = argument<T>(frame, number);
  T** results[] = {&work.dx, &work.d_scale, &work.d_bias};
  for (int number = 0; number < 3; number++) *results[number] = result<T>(frame, number);
  const auto lay_out = [&](Pieces pieces) {
    pieces.take(shape.chunks() * lanes, work.scale_sums, work.bias_sums);
    return pieces.taken;
  };
  const auto at = (char*)memory(lay_out({nullptr}));
  if (!at) return out_of_memory(frame);
  lay_out({at});
  share(frame, threads_of(frame), shape.chunks(), work.run, &work);
  work.combine();
  return nullptr;
}

// ---- Functions for XLA --------------------------------------------------------------------------

HANDLER(group_norm_forward, group_norm)
HANDLER(group_norm_backward, group_norm_back)
HANDLER(layer_norm_forward, layer_norm)
HANDLER(layer_norm_backward, layer_norm_back)
