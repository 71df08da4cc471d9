// Max and average pooling of images, forward and backward, for XLA on CPUs.
//
// Vectors run over channels. Each result is computed in the same order for any number of threads,
// so it is reproducible.

#include <limits>

#include "windows.h"

// ---- Positions, a byte or an int32 for each element ----------------------------------------------

// As many places as a vector has elements, and their conversion to a vector of integers. That of
// bytes is by intrinsics: compilers convert them one by one.
template <typename T, typename Place>
struct Packed {
  typedef Place Vector __attribute__((vector_size(BYTES / sizeof(T) * sizeof(Place))));

  static INLINED Bits<T> spread(const Vector& places) {
    return __builtin_convertvector(places, Bits<T>);
  }
};

#if BYTES == 32 || defined(__AVX512F__)
template <>
INLINED Bits<float> Packed<float, uint8_t>::spread(const Vector& places) {
#if BYTES == 64
  return (Bits<float>)_mm512_cvtepu8_epi32((__m128i)places);
#else
  return (Bits<float>)_mm256_cvtepu8_epi32(_mm_loadu_si64(&places));
#endif
}

template <>
INLINED Bits<double> Packed<double, uint8_t>::spread(const Vector& places) {
#if BYTES == 64
  return (Bits<double>)_mm512_cvtepu8_epi64(_mm_loadu_si64(&places));
#else
  return (Bits<double>)_mm256_cvtepu8_epi64(_mm_loadu_si32(&places));
#endif
}
#endif

template <typename T, typename Place>
struct Places {
  using Few = Packed<T, Place>;

  // Stored instead of the position of a window's maximum if no position has a gradient.
  static constexpr Place NOWHERE = -1;

  static INLINED Bits<T> all(long place) { return Bits<T>{} + (int)place; }

  static INLINED Bits<T> load(const Place* from, long count) {
    typename Few::Vector places = {};
    copy(&places, from, count);
    return Few::spread(places);
  }

  static INLINED void store(Place* to, Bits<T> places, long count) {
    const auto few = __builtin_convertvector(places, typename Few::Vector);
    copy(to, &few, count);
  }

  // Copies fewer places than a vector has elements in pieces of 8, 4, 2 and 1.
  static INLINED void copy(void* to, const void* from, long count) {
    if (count >= WIDTH<T>) return (void)memcpy(to, from, WIDTH<T> * sizeof(Place));
    if (count & 8) copy_some<8>(to, from);
    if (count & 4) copy_some<4>(to, from);
    if (count & 2) copy_some<2>(to, from);
    if (count & 1) copy_some<1>(to, from);
  }

  template <int some>
  static INLINED void copy_some(void*& to, const void*& from) {
    constexpr int bytes = some * sizeof(Place);
    memcpy(to, from, bytes);
    to = (char*)to + bytes, from = (const char*)from + bytes;
  }
};

// ---- Lines of outputs ---------------------------------------------------------------------------

// Consecutive vectors of outputs, and the taps of their windows.
struct Line {
  long in, out;                  // offsets in elements
  long columns, count, numbers;  // columns; vectors of a column; elements of a vector
  long down, across, first;      // numbers of taps, and the first one
};

// Calls work(line) for all lines of a part.
template <typename T, typename Work>
static void each_line(const Plan<T>& plan, long part, Work work) {
  const auto& vectors = plan.vectors;
  plan.each_band(part, plan.parts(), [&](long image, const Segment& band) {
    for (long row = 0; row < band.count; row++)
      for (long at = 0; at < plan.columns.count; at++) {
        const auto& segment = plan.columns.segments[at];
        Line line = {image * plan.from.size() + band.in * plan.from.row() + row * plan.in_line +
                         segment.in * plan.from.channels,
                     image * plan.to.size() + band.out * plan.to.row() + row * plan.out_line +
                         segment.out * plan.to.channels,
                     segment.count / vectors.columns,
                     vectors.numbers / WIDTH<T>,
                     WIDTH<T>,
                     segment.taps ? band.taps : 0,
                     band.taps ? segment.taps : 0,
                     band.tap * plan.wide + segment.tap};
        const long whole = line.count * WIDTH<T>, left = segment.count % vectors.columns;
        auto rest = line;
        if (whole && line.columns) work(line);
        rest.in += whole, rest.out += whole, rest.count = 1, rest.numbers = vectors.numbers - whole;
        if (rest.numbers && line.columns) work(rest);
        line.in += line.columns * plan.in_jump, line.out += line.columns * plan.out_jump;
        line.columns = line.count = 1, line.numbers = left * plan.to.channels;
        if (left) work(line);
      }
  });
}

// Calls work.take<down, across, whole>(line), with small numbers of taps as template arguments, and
// 0 for any other number.
template <typename Work, int down = 3, int across = 3>
INLINED void choose(const Work& work, const Line& line, long width) {
  if (line.down == down && line.across == across)
    line.numbers < width ? work.template take<down, across, false>(line)
                         : work.template take<down, across, true>(line);
  else if constexpr (across > 1)
    choose<Work, down, across - 1>(work, line, width);
  else if constexpr (down > 1)
    choose<Work, down - 1, 3>(work, line, width);
  else
    line.numbers < width ? work.template take<0, 0, false>(line)
                         : work.template take<0, 0, true>(line);
}

template <typename T, typename Place>
struct Maximum {
  using At = Places<T, Place>;
  const Plan<T>& plan;
  const T* x;
  T* y;
  Place* winners;  // positions of the maxima, or null

  static void take_part(const void* data, long part) {
    const auto& self = *(const Maximum*)data;
    each_line(self.plan, part, [&](const Line& line) { choose(self, line, WIDTH<T>); });
  }

  template <int down, int across, bool whole>
  __attribute__((noinline)) void take(const Line& line) const {
    const long n = line.numbers;
    const long rows = down ? down : line.down, columns = across ? across : line.across;
    const long row_in = plan.row_in, tap_in = plan.tap_in, wide = plan.wide, first = line.first;
    const long in_jump = plan.in_jump, out_jump = plan.out_jump;
    for (long column = 0; column < line.columns; column++)
      for (long vector = 0; vector < line.count; vector++) {
        const T* in = x + line.in + column * in_jump + vector * WIDTH<T>;
        const long out = line.out + column * out_jump + vector * WIDTH<T>;
        Vector<T> best = everywhere(-std::numeric_limits<T>::infinity());
        Bits<T> where = At::all(rows ? first : At::NOWHERE);
        if (rows) best = load<whole>(in, n);
        UNROLLED (long row = 0; row < rows; row++)
          UNROLLED (long tap = 0; tap < columns; tap++) {
            if (!row && !tap) continue;
            const auto seen = load<whole>(in + row * row_in + tap * tap_in, n);
            const auto better = (seen > best) | (seen != seen);  // the last NaN wins
            best = better ? seen : best;
            where = better ? At::all(first + row * wide + tap) : where;
          }
        store<whole>(y + out, best, n);
        if (winners) At::store(winners + out, where, whole ? WIDTH<T> : n);
      }
  }
};

template <typename T, typename Place>
struct MaximumGradient {
  using At = Places<T, Place>;
  const Plan<T>& plan;
  const T* dy;
  const Place* winners;
  T* dx;

  static void take_part(const void* data, long part) {
    const auto& self = *(const MaximumGradient*)data;
    each_line(self.plan, part, [&](const Line& line) { choose(self, line, WIDTH<T>); });
  }

  // Sums the gradients of the windows whose maximum is at a position.
  template <int down, int across, bool whole>
  __attribute__((noinline)) void take(const Line& line) const {
    const long n = line.numbers;
    const long rows = down ? down : line.down, columns = across ? across : line.across;
    const long row_in = plan.row_in, tap_in = plan.tap_in;
    const long row_step = plan.rows.tap_step * plan.wide, tap_step = plan.columns.tap_step;
    const long in_jump = plan.in_jump, out_jump = plan.out_jump, first = line.first;
    const long last = plan.batch * plan.from.size() - WIDTH<T>;  // the last offset of a whole vector
    for (long column = 0; column < line.columns; column++)
      for (long vector = 0; vector < line.count; vector++) {
        const long in = line.in + column * in_jump + vector * WIDTH<T>;
        Vector<T> sum = {};
        UNROLLED (long row = 0; row < rows; row++)
          UNROLLED (long tap = 0; tap < columns; tap++) {
            const long at = in + row * row_in + tap * tap_in;
            const auto won = At::load(winners + at, whole || at <= last ? WIDTH<T> : n);
            const auto place = At::all(first + row * row_step + tap * tap_step);
            sum += won == place ? load<whole>(dy + at, n) : Vector<T>{};
          }
        store<whole>(dx + line.out + column * out_jump + vector * WIDTH<T>, sum, n);
      }
  }
};

// Sums over windows, divided by a number; backward, the gradients of x from those of the sums.
template <typename T>
struct Sum {
  const Plan<T>& plan;
  const T* from;
  T* to;
  const T factor;

  static void take_part(const void* data, long part) {
    const auto& self = *(const Sum*)data;
    each_line(self.plan, part, [&](const Line& line) { choose(self, line, WIDTH<T>); });
  }

  template <int down, int across, bool whole>
  __attribute__((noinline)) void take(const Line& line) const {
    const long rows = down ? down : line.down, columns = across ? across : line.across;
    const long row_in = plan.row_in, tap_in = plan.tap_in, n = line.numbers;
    const long in_jump = plan.in_jump, out_jump = plan.out_jump;
    const auto factors = kept<T>(everywhere(factor));
    for (long column = 0; column < line.columns; column++)
      for (long vector = 0; vector < line.count; vector++) {
        const T* in = from + line.in + column * in_jump + vector * WIDTH<T>;
        Vector<T> sum = {};
        UNROLLED (long row = 0; row < rows; row++)
          UNROLLED (long tap = 0; tap < columns; tap++)
            sum += load<whole>(in + row * row_in + tap * tap_in, n);
        store<whole>(to + line.out + column * out_jump + vector * WIDTH<T>, sum * factors, n);
      }
  }
};

// ---- Functions for XLA --------------------------------------------------------------------------

// The last settings, after those in windows.h, are the height and the width of a window and, for a
// mean, the divisor of the sums.

// Calls run(plan) with the plan of the forward or the backward pass of a pool.
template <typename T, typename Run>
static XLA_FFI_Error* with_plan(XLA_FFI_CallFrame* frame, bool back, Run run) {
  const auto from = given(frame, 0), to = first_result(frame);
  Axis down = axis_of(frame, 0, back ? to : from, settings(frame)[8], back ? from : to);
  Axis across = axis_of(frame, 1, back ? to : from, settings(frame)[9], back ? from : to);
  if (back) down = down.transposed(), across = across.transposed();
  const auto room = (Segment*)memory<2>((to->dims[1] + to->dims[2]) * sizeof(Segment));
  if (!room) return out_of_memory(frame);
  run(Plan<T>(from->dims[0], Images(from), Images(to), down, across, room));
  return nullptr;
}

template <typename Work>
static void share_parts(XLA_FFI_CallFrame* frame, const Work& work) {
  share(frame, threads_of(frame), work.plan.parts(), work.take_part, &work);
}

// Arguments: x [N, H, W, C].
// Results: y [N, H', W', C]; optionally the residual, [N, H', W', C]: the position of y in the
// window, by rows, or -1 if no position has a gradient. It is uint8 for windows of up to 255
// positions, with 255 for -1; the functions for wide windows use int32.
template <typename T, typename Place>
static XLA_FFI_Error* max_forward(XLA_FFI_CallFrame* frame) {
  return with_plan<T>(frame, false, [&](const Plan<T>& plan) {
    const auto winners = result<Place>(frame, 1);
    share_parts(frame,
                Maximum<T, Place>{plan, argument<T>(frame, 0), result<T>(frame, 0), winners});
  });
}

// Arguments: the gradient of y, the residual.
// Results: the gradient of x.
template <typename T, typename Place>
static XLA_FFI_Error* max_backward(XLA_FFI_CallFrame* frame) {
  return with_plan<T>(frame, true, [&](const Plan<T>& plan) {
    const auto winners = argument<Place>(frame, 1);
    const auto dy = argument<T>(frame, 0);
    share_parts(frame, MaximumGradient<T, Place>{plan, dy, winners, result<T>(frame, 0)});
  });
}

// Arguments: x [N, H, W, C]; backward, the gradient of y.
// Results: y [N, H', W', C]; backward, the gradient of x.
template <typename T, bool back>
static XLA_FFI_Error* average(XLA_FFI_CallFrame* frame) {
  return with_plan<T>(frame, back, [&](const Plan<T>& plan) {
    const T factor = T(1) / settings(frame)[10];
    share_parts(frame, Sum<T>{plan, argument<T>(frame, 0), result<T>(frame, 0), factor});
  });
}

HANDLER(max_pool_forward, max_forward, uint8_t)
HANDLER(max_pool_backward, max_backward, uint8_t)
HANDLER(wide_max_pool_forward, max_forward, int32_t)
HANDLER(wide_max_pool_backward, max_backward, int32_t)
HANDLER(avg_pool_forward, average, false)
HANDLER(avg_pool_backward, average, true)
