// Batch and layer normalization, forward and backward, for XLA on CPUs.
//
// Each result is computed in the same order for any number of threads, so it is reproducible.

#include <cmath>
#include <initializer_list>

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

template <typename T>
static T attribute(XLA_FFI_CallFrame* frame, int number) {
  return *(const T*)((XLA_FFI_Scalar*)frame->attrs.attrs[number])->value;
}

// ---- Lines --------------------------------------------------------------------------------------

// Number of elements of a chunk, which stays in the L2 cache from one pass to the next.
constexpr long CHUNK = 16384, LEAST_LINES = 32, LONGEST_LINE = 2048;

// An array [rows, channels] divided into lines of one or several rows. A position in a line, a
// lane, has the same channel in every line. So vectors are full even if there are few channels.
template <typename T>
struct Lines {
  long numbers, channels, line, lanes, chunk;

  explicit Lines(const XLA_FFI_Buffer* x) {
    constexpr long tile = TILE * WIDTH<T>;
    channels = x->dims[x->rank - 1];
    numbers = 1;
    for (long axis = 0; axis < x->rank; axis++) numbers *= x->dims[axis];
    line = channels;
    while (line % tile && line <= LONGEST_LINE) line += channels;
    if (line > LONGEST_LINE) line = channels;
    lanes = pieces_of(tile, line) * tile;
    chunk = most(LEAST_LINES, CHUNK / line) * line;
  }
  long chunks() const { return pieces_of(chunk, numbers); }
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

// ---- Batch normalization, forward ---------------------------------------------------------------

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
  T *means, *factors, *biases;  // [lanes]
  double* inverses;             // reciprocal standard deviations, [channels]
  Vector<T> mean[TILE], factor[TILE], bias[TILE];

  void take(Pieces& pieces, const Lines<T>& lines) {
    pieces.take(lines.lanes, means, factors, biases);
    pieces.take(lines.channels, inverses);
  }
  void prepare(const Lines<T>& lines, const T* mean, const T* variance, double eps, const T* scale,
               const T* bias) const {
    for (long c = 0; c < lines.channels; c++) inverses[c] = 1 / std::sqrt(variance[c] + eps);
    lines.spread(means, [&](long channel) { return mean[channel]; });
    lines.spread(factors, [&](long channel) { return (T)(inverses[channel] * scale[channel]); });
    lines.spread(biases, [&](long channel) { return bias[channel]; });
  }
  METHOD void begin(int i, long lane) {
    mean[i] = kept<T>(load(means + lane, WIDTH<T>));
    factor[i] = kept<T>(load(factors + lane, WIDTH<T>));
    bias[i] = kept<T>(load(biases + lane, WIDTH<T>));
  }
  METHOD Vector<T> of(int i, Vector<T> x) const { return fused(x - mean[i], factor[i], bias[i]); }
};

template <typename T, bool relu, bool residual>
struct Normalize {
  Affine<T> affine;
  const T *x, *added;
  T* y;

  METHOD void begin(int i, long lane) { affine.begin(i, lane); }
  METHOD void step(int i, long at, long n) {
    Vector<T> value = affine.of(i, load(x + at, n));
    if (residual) value += load(added + at, n);
    if (relu) value = value < 0 ? Vector<T>{} : value;  // NaN stays NaN
    store<T>(y + at, value, n);
  }
  METHOD void end(int, long) {}
};

template <typename T>
struct BatchNorm {
  const Lines<T> lines;
  const T *x, *added;           // the input, and the residual
  T *y, *mean, *variance;
  T *centers, *sums, *squares;  // [chunks, lanes]
  double *by_lane, *means;      // [lanes]
  double* total;                // [channels]
  Affine<T> affine;

  // Computes the moments of each lane of a chunk about its own center, to avoid cancellation.
  static void take_moments(const void* data, long number) {
    const auto& self = *(const BatchNorm*)data;
    const auto& lines = self.lines;
    const long at = number * lines.lanes, size = lines.size(number);
    for (T* zeros : {self.centers, self.sums, self.squares})
      memset(zeros + at, 0, lines.lanes * sizeof(T));
    lines.sweep(number, Sum<T>{self.x, self.centers + at});
    const long whole = size / lines.line, more = size % lines.line;
    const T inverse = whole ? (T)1 / whole : 0, inverse_of_more = (T)1 / (whole + 1);
    for (long lane = 0; lane < lines.lanes; lane++)
      self.centers[at + lane] *= lane < more ? inverse_of_more : inverse;
    lines.sweep(number, Deviate<T>{self.x, self.centers + at, self.sums + at, self.squares + at},
                true);
  }

  // Combines the moments of lanes to those of channels.
  void combine() const {
    lines.add_up(by_lane, [&](long at, long number, long lane) {
      const auto center = widened(centers + at), rest = widened(sums + at);
      const auto known = center - center == 0;  // true for finite values
      return center * lines.counts(number, lane) + (known ? rest : Vector<double>{});
    });
    lines.fold(total, by_lane);
    for (long c = 0; c < lines.channels; c++) mean[c] = total[c] /= lines.rows();
    lines.spread(means, [&](long channel) { return total[channel]; });
    lines.add_up(by_lane, [&](long at, long number, long lane) {
      const auto from_mean = widened(centers + at) - load(means + lane, WIDTH<double>);
      const auto twice = 2 * widened(sums + at) + lines.counts(number, lane) * from_mean;
      return widened(squares + at) + from_mean * twice;
    });
    lines.fold(total, by_lane);
    for (long c = 0; c < lines.channels; c++) variance[c] = total[c] / lines.rows();
  }

  template <bool relu, bool residual>
  static void normalize(const void* data, long part) {
    const auto& self = *(const BatchNorm*)data;
    // In reverse order, because the last chunks are still in the cache.
    const long number = self.lines.chunks() - 1 - part;
    self.lines.sweep(number, Normalize<T, relu, residual>{self.affine, self.x, self.added, self.y});
  }
};

// Arguments: x [..., C]; scale and bias [C]; optionally the residual [..., C], which is added
// before ReLU. Results: y [..., C]; the mean and the biased variance [C].
// Attributes, also of the backward pass: eps, float64; relu, int32.
template <typename T>
static XLA_FFI_Error* batch_norm(XLA_FFI_CallFrame* frame) {
  const long threads = threads_of(frame);
  const bool relu = attribute<int32_t>(frame, 1), residual = frame->args.size > 3;
  using Work = BatchNorm<T>;
  Work work = {Lines<T>(given(frame, 0)), argument<T>(frame, 0)};
  if (residual) work.added = argument<T>(frame, 3);
  work.y = result<T>(frame, 0);
  work.mean = result<T>(frame, 1);
  work.variance = result<T>(frame, 2);
  const long chunks = work.lines.chunks(), lanes = work.lines.lanes;
  const auto lay_out = [&](Pieces pieces) {
    pieces.take(chunks * lanes, work.centers, work.sums, work.squares);
    pieces.take(lanes, work.by_lane, work.means);
    pieces.take(work.lines.channels, work.total);
    work.affine.take(pieces, work.lines);
    return pieces.taken;
  };
  const auto at = (char*)memory(lay_out({nullptr}));
  if (!at) return out_of_memory(frame);
  lay_out({at});
  share(frame, threads, chunks, work.take_moments, &work);
  work.combine();
  work.affine.prepare(work.lines, work.mean, work.variance, attribute<double>(frame, 0),
                      argument<T>(frame, 1), argument<T>(frame, 2));
  const auto normalize = relu ? residual ? Work::template normalize<true, true>
                                         : Work::template normalize<true, false>
                              : residual ? Work::template normalize<false, true>
                                         : Work::template normalize<false, false>;
  share(frame, threads, chunks, normalize, &work);
  return nullptr;
}

// ---- Batch normalization, backward --------------------------------------------------------------

// Computes the gradient before ReLU: that of y where `mask` is positive, otherwise zero.
template <typename T>
INLINE Vector<T> let_through(Vector<T> d, Vector<T> mask) {
  return mask > 0 ? d : Vector<T>{};
}

// Computes the sums of the gradient before ReLU, and of its products with x - mean.
template <typename T, bool relu, bool residual>
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
    const Vector<T> input = load(x + at, n);
    Vector<T> gradient = load(d + at, n);
    if (relu) gradient = let_through<T>(gradient, residual ? load(y + at, n) : affine.of(i, input));
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
template <typename T, bool relu>
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
    Vector<T> gradient = load(d + at, n);
    if (relu) gradient = let_through<T>(gradient, affine.of(i, input));
    const Vector<T> rest = fused(input - affine.mean[i], curve[i], shift[i]);
    store<T>(dx + at, fused(gradient, affine.factor[i], rest), n);
  }
  METHOD void end(int, long) {}
};

template <typename T>
struct BatchNormBack {
  const Lines<T> lines;
  const T *d, *x, *scale, *bias, *mean, *variance, *d_mean, *d_variance, *y;
  T *dx, *d_scale, *d_bias, *d_added;
  T *sums, *products;       // [chunks, lanes]
  double* by_lane;          // [lanes]
  double *total, *product;  // [channels]
  T *curves, *shifts;       // [lanes]
  Affine<T> affine;

  template <bool relu, bool residual>
  static void add_up(const void* data, long number) {
    const auto& self = *(const BatchNormBack*)data;
    const long at = number * self.lines.lanes;
    for (T* zeros : {self.sums, self.products})
      memset(zeros + at, 0, self.lines.lanes * sizeof(T));
    self.lines.sweep(number, SumGradients<T, relu, residual>{self.affine, self.d, self.x, self.y,
                                                             self.d_added, self.sums + at,
                                                             self.products + at});
  }

  void combine() const {
    lines.add_up(by_lane, [&](long at, long, long) { return widened(sums + at); });
    lines.fold(total, by_lane);
    lines.add_up(by_lane, [&](long at, long, long) { return widened(products + at); });
    lines.fold(product, by_lane);
    const double each = 1. / lines.rows();
    for (long c = 0; c < lines.channels; c++) {
      const double inverse = affine.inverses[c], slope = inverse * scale[c];
      d_bias[c] = total[c];
      d_scale[c] = product[c] * inverse;
      product[c] = (2 * d_variance[c] - slope * inverse * inverse * product[c]) * each;
      total[c] = (d_mean[c] - slope * total[c]) * each;
    }
    lines.spread(curves, [&](long channel) { return product[channel]; });
    lines.spread(shifts, [&](long channel) { return total[channel]; });
  }

  template <bool relu>
  static void pull_back(const void* data, long part) {
    const auto& self = *(const BatchNormBack*)data;
    const long number = self.lines.chunks() - 1 - part;
    const T* d = self.d_added ? self.d_added : self.d;
    self.lines.sweep(number, PullBack<T, relu>{self.affine, self.curves, self.shifts, d, self.x,
                                               self.dx});
  }
};

// Arguments: the gradient of y; x, scale, bias, mean and variance; the gradients of mean and
// variance; y, if there is a residual and ReLU.
// Results: the gradients of x, scale and bias, and with y that of the residual.
template <typename T>
static XLA_FFI_Error* batch_norm_back(XLA_FFI_CallFrame* frame) {
  const long threads = threads_of(frame);
  const double eps = attribute<double>(frame, 0);
  const bool relu = attribute<int32_t>(frame, 1), residual = frame->args.size > 8;
  using Work = BatchNormBack<T>;
  Work work = {Lines<T>(given(frame, 0))};
  const T** arguments[] = {&work.d,        &work.x,      &work.scale,      &work.bias, &work.mean,
                           &work.variance, &work.d_mean, &work.d_variance, &work.y};
  for (int number = 0; number < frame->args.size; number++)
    *arguments[number] = argument<T>(frame, number);
  T** results[] = {&work.dx, &work.d_scale, &work.d_bias, &work.d_added};
  for (int number = 0; number < 4; number++) *results[number] = result<T>(frame, number);
  const long chunks = work.lines.chunks(), lanes = work.lines.lanes;
  const auto lay_out = [&](Pieces pieces) {
    pieces.take(chunks * lanes, work.sums, work.products);
    pieces.take(work.lines.channels, work.total, work.product);
    pieces.take(lanes, work.curves, work.shifts);
    pieces.take(lanes, work.by_lane);
    work.affine.take(pieces, work.lines);
    return pieces.taken;
  };
  const auto at = (char*)memory(lay_out({nullptr}));
  if (!at) return out_of_memory(frame);
  lay_out({at});
  work.affine.prepare(work.lines, work.mean, work.variance, eps, work.scale, work.bias);
  share(frame, threads, chunks,
        residual ? Work::template add_up<true, true>
        : relu   ? Work::template add_up<true, false>
                 : Work::template add_up<false, false>,
        &work);
  work.combine();
  share(frame, threads, chunks,
        relu && !residual ? Work::template pull_back<true> : Work::template pull_back<false>, &work);
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

HANDLER(batch_norm_forward, batch_norm)
HANDLER(batch_norm_backward, batch_norm_back)
HANDLER(layer_norm_forward, layer_norm)
HANDLER(layer_norm_backward, layer_norm_back)
