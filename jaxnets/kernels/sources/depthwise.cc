// Depthwise convolutions with bias and ReLU, forward and backward, for XLA on CPUs.
//
// Vectors run over channels. Each result is computed in the same order for any number of threads,
// so it is reproducible. Taps on padding are left out, because zero times infinity would be NaN.

#include "windows.h"

// Computes the gradients before ReLU from those of its outputs y.
template <typename T>
static void through_relu(T* to, const T* d, const T* y, long count) {
  for (long at = 0; at < count; at += WIDTH<T>) {
    const long n = count - at;
    store<T>(to + at, load(y + at, n) > 0 ? load(d + at, n) : Vector<T>{}, n);
  }
}

// Prefetches memory in sequential order; vectors over channels access it in another order.
template <typename T>
static void fetch(const T* from, long count) {
  for (long at = 0; at < count; at += 64 / sizeof(T)) __builtin_prefetch(from + at, 0, 2);
}

// ---- Outputs, and the gradients of inputs -------------------------------------------------------

template <typename T>
struct Correlation {
  const Plan<T>& plan;
  const T *x, *y;                 // if y is not null, x counts only where y is positive
  const Vector<T>*kernel, *bias;  // [taps, vectors], [vectors]
  const bool relu;
  T* result;
  mutable std::atomic<bool> failed{false};

  static void take(const void* data, long part) {
    const auto self = (const Correlation*)data;
    const auto work = [=](long image, const Segment& band) { self->take_band(image, band); };
    self->plan.each_band(part, self->plan.parts(), work);
  }

  void take_band(long image, const Segment& band) const {
    const long row = plan.from.row(), skipped = image * plan.from.size() + band.in * row;
    const T* in = x + skipped;
    if (y && band.taps) {
      const long reach = (band.count - 1) * plan.rows.in_step + (band.taps - 1) * plan.rows.tap_in;
      const auto passed = (T*)memory<1>((reach + 1) * row * sizeof(T));
      if (!passed) return (void)(failed = true);
      through_relu(passed, in, y + skipped, (reach + 1) * row);
      in = passed;
    }
    T* const out = result + image * plan.to.size() + band.out * plan.to.row();
    if (plan.streams) return stream_band(band, in, out);
    for (long line = 0; line < band.count; line++)
      for (long at = 0; at < plan.columns.count; at++)
        take_row(band, plan.columns.segments[at], in + line * plan.in_line,
                 out + line * plan.out_line);
  }

  // ---- Any kernel -------------------------------------------------------------------------------

  // Consecutive vectors of outputs, and their inputs.
  struct Place {
    const T* in;
    T* out;
    const Vector<T>*kernel, *bias;
    long down, across, numbers;  // numbers of taps; elements of a vector
  };

  void take_row(const Segment& band, const Segment& segment, const T* in, T* out) const {
    const auto& vectors = plan.vectors;
    const long whole = segment.count / vectors.columns, left = segment.count % vectors.columns;
    Place place = {in + segment.in * plan.from.channels, out + segment.out * plan.to.channels,
                   kernel + plan.place(band, segment), bias, band.taps, segment.taps, 0};
    for (long rest = whole, some; rest > 0; rest -= some) {
      some = rest <= 8 ? rest : rest < 16 ? (rest + 1) / 2 : 8;
      auto next = place;
      for (next.numbers = vectors.numbers; next.numbers > 0; next.numbers -= WIDTH<T>) {
        take_some(some, next);
        next.in += WIDTH<T>, next.out += WIDTH<T>, next.kernel++, next.bias++;
      }
      place.in += some * plan.in_jump, place.out += some * plan.out_jump;
    }
    place.numbers = left * plan.to.channels;
    if (left) take_some(1, place);
  }

  void take_some(long some, const Place& place) const {
    const bool whole = place.numbers >= WIDTH<T>;
    if (some == 8) whole ? add_up<8, true>(place) : add_up<8, false>(place);
    if (some == 7) whole ? add_up<7, true>(place) : add_up<7, false>(place);
    if (some == 6) whole ? add_up<6, true>(place) : add_up<6, false>(place);
    if (some == 5) whole ? add_up<5, true>(place) : add_up<5, false>(place);
    if (some == 4) whole ? add_up<4, true>(place) : add_up<4, false>(place);
    if (some == 3) whole ? add_up<3, true>(place) : add_up<3, false>(place);
    if (some == 2) whole ? add_up<2, true>(place) : add_up<2, false>(place);
    if (some == 1) whole ? add_up<1, true>(place) : add_up<1, false>(place);
  }

  template <int some, bool whole>
  __attribute__((noinline)) void add_up(const Place& place) const {
    const long n = place.numbers;
    const long in_jump = plan.in_jump, out_jump = plan.out_jump;
    const long tap_in = plan.tap_in, tap_step = plan.tap_step;
    Vector<T> sums[some];
    UNROLLED (int one = 0; one < some; one++) sums[one] = *place.bias;
    for (long row = 0; row < place.down; row++) {
      const T* in = place.in + row * plan.row_in;
      auto weights = place.kernel + row * plan.row_step;
      for (long tap = 0; tap < place.across; tap++, in += tap_in, weights += tap_step) {
        const auto factors = kept<T>(*weights);
        UNROLLED (int one = 0; one < some; one++)
          sums[one] = fused(load<whole>(in + one * in_jump, n), factors, sums[one]);
      }
    }
    UNROLLED (int one = 0; one < some; one++)
      store<whole>(place.out + one * out_jump, activated(sums[one]), n);
  }

  INLINED Vector<T> activated(Vector<T> sum) const {
    return relu ? sum <= 0 ? Vector<T>{} : sum : sum;  // NaN stays NaN
  }

  // ---- Neighbouring inputs ----------------------------------------------------------------------

  using Stream = void (Correlation::*)(const Segment&, const T*, T*, const Vector<T>*,
                                       const Vector<T>*, long) const;

  void stream_band(const Segment& band, const T* in, T* out) const {
    const auto weights = kernel + (band.tap * plan.wide + plan.first_tap) * plan.vectors.count;
    for (long at = 0; at < plan.vectors.count; at++, in += WIDTH<T>, out += WIDTH<T>) {
      const long numbers = plan.to.channels - at * WIDTH<T>;
      const auto run = numbers < WIDTH<T> ? choose<false>(band.taps) : choose<true>(band.taps);
      (this->*run)(band, in, out, weights + at, bias + at, numbers);
    }
  }

  template <bool whole>
  Stream choose(long down) const {
    if (plan.wide == 7) return &Correlation::stream<7, 0, whole>;
    if (plan.wide == 5) return &Correlation::stream<5, 0, whole>;
    if (down == 3) return &Correlation::stream<3, 3, whole>;
    if (down == 2) return &Correlation::stream<3, 2, whole>;
    if (down == 1) return &Correlation::stream<3, 1, whole>;
    return &Correlation::stream<3, 0, whole>;
  }

  // Each column of inputs contributes to several outputs, and completes the first of them. The
  // number of rows of taps is a template argument if it is so small that the kernel fits into
  // registers.
  template <int across, int down, bool whole>
  __attribute__((noinline)) void stream(const Segment& band, const T* in, T* out,
                                        const Vector<T>* weights, const Vector<T>* bias,
                                        long n) const {
    const long channels = plan.to.channels, outputs = plan.to.width;
    const long before = plan.across.low - (across - 1), first = most(0, -plan.across.low);
    const long complete = least(plan.from.width, outputs - before) + before;
    const long row_in = plan.row_in, row_step = plan.row_step, tap_step = plan.tap_step;
    Vector<T> factors[most(1, down)][across];
    UNROLLED (int row = 0; row < down; row++)
      UNROLLED (int tap = 0; tap < across; tap++)
        factors[row][tap] = kept<T>(weights[row * row_step + tap * tap_step]);
    for (long line = 0; line < band.count; line++) {
      const T* from = in + line * plan.in_line + first * channels;
      T* const to = out + line * plan.out_line;
      Vector<T> sums[across];
      UNROLLED (int one = 0; one < across; one++) sums[one] = *bias;
      const auto finish = [&](long at) {
        if (at >= 0) store<whole>(to + at * channels, activated(sums[0]), n);
        UNROLLED (int one = 0; one + 1 < across; one++) sums[one] = sums[one + 1];
        sums[across - 1] = *bias;
      };
      long at = first + before;
      for (; at < complete; at++, from += channels) {
        UNROLLED (int row = 0; row < down; row++) {
          const auto seen = kept<T>(load<whole>(from + row * row_in, n));
          UNROLLED (int one = 0; one < across; one++)
            sums[one] = fused(seen, factors[row][across - 1 - one], sums[one]);
        }
        for (long row = 0; !down && row < band.taps; row++) {
          const auto seen = kept<T>(load<whole>(from + row * row_in, n));
          UNROLLED (int one = 0; one < across; one++) {
            const auto factor = weights[row * row_step + (across - 1 - one) * tap_step];
            sums[one] = fused(seen, factor, sums[one]);
          }
        }
        finish(at);
      }
      while (at < outputs) finish(at++);
    }
  }
};

// ---- The gradients of kernel and bias -----------------------------------------------------------

template <typename T>
struct KernelGradient {
  const Plan<T>& plan;
  const T *x, *dy, *y;  // if y is not null, dy counts only where y is positive
  Vector<T>* sums;      // [parts, taps and bias, vectors]
  const long parts;     // independent of the number of threads
  mutable std::atomic<bool> failed{false};

  long numbers() const { return (plan.taps + 1) * plan.vectors.count; }

  static void take(const void* data, long part) {
    const auto self = (const KernelGradient*)data;
    const auto to = self->sums + part * self->numbers();
    memset((void*)to, 0, self->numbers() * BYTES);
    const auto work = [=](long image, const Segment& band) { self->add_band(to, image, band); };
    self->plan.each_band(part, self->parts, work);
  }

  // Some vectors of x and of dy, and the sums of their products.
  struct Place {
    const T *x, *dy;
    Vector<T>*to, *bias;
    long rows, dy_row, columns = 0, numbers = 0;  // numbers: elements of a vector
  };

  void add_band(Vector<T>* to, long image, const Segment& band) const {
    const long row = plan.to.row(), skipped = image * plan.to.size() + band.out * row;
    const T* d = dy + skipped;
    long d_row = plan.out_line;
    if (y) {
      const auto passed = (T*)memory<1>(band.count * row * sizeof(T));
      if (!passed) return (void)(failed = true);
      for (long at = 0; at < band.count; at++)
        through_relu(passed + at * row, d + at * d_row, y + skipped + at * d_row, row);
      d = passed, d_row = row;
    }
    const T* in = x + image * plan.from.size() + band.in * plan.from.row();
    // Prefetches the next band; after the last one this has no effect.
    fetch(in + band.count * plan.in_line, band.count * plan.in_line);
    fetch(dy + skipped + band.count * plan.out_line, band.count * plan.out_line);
    const Place start = {in, d, to, to + plan.taps * plan.vectors.count, band.count, d_row};
    if (plan.streams && plan.wide == 3) return stream_band(band, start);
    for (long at = 0; at < plan.columns.count; at++)
      add_segment(band, plan.columns.segments[at], start);
  }

  void add_segment(const Segment& band, const Segment& segment, Place place) const {
    const auto& vectors = plan.vectors;
    const long whole = segment.count / vectors.columns, left = segment.count % vectors.columns;
    place.x += segment.in * plan.from.channels;
    place.dy += segment.out * plan.to.channels;
    place.to += plan.place(band, segment);
    place.columns = whole;
    auto next = place;
    for (next.numbers = vectors.numbers; whole && next.numbers > 0; next.numbers -= WIDTH<T>) {
      add(next, band.taps, segment.taps);
      next.x += WIDTH<T>, next.dy += WIDTH<T>, next.to++, next.bias++;
    }
    place.x += whole * plan.in_jump;
    place.dy += whole * plan.out_jump;
    place.columns = 1, place.numbers = left * plan.to.channels;
    if (left) add(place, band.taps, segment.taps);
  }

  // Adds as many taps at a time as their sums fit into registers.
  void add(Place place, long down, long across) const {
    if (!down || !across) return add_taps<1, 0>(place);
    Vector<T> counted[1];
    for (long tap = 0, taps; tap < across; tap += taps) {
      const long left = across - tap;
      taps = left <= 5 ? left : left < 10 ? (left + 1) / 2 : 5;
      for (long row = 0, some; row < down; row += some) {
        some = least(taps <= 3 ? 3 : 2, down - row);
        auto next = place;
        next.x += row * plan.row_in + tap * plan.tap_in;
        next.to += row * plan.row_step + tap * plan.tap_step;
        if (row || tap) next.bias = counted;  // each output counts once
        if (taps == 5) some == 2 ? add_taps<2, 5>(next) : add_taps<1, 5>(next);
        if (taps == 4) some == 2 ? add_taps<2, 4>(next) : add_taps<1, 4>(next);
        if (taps == 3) choose<3>(some, next);
        if (taps == 2) choose<2>(some, next);
        if (taps == 1) choose<1>(some, next);
      }
    }
  }

  template <int across>
  void choose(long down, const Place& place) const {
    if (down == 3) add_taps<3, across>(place);
    if (down == 2) add_taps<2, across>(place);
    if (down == 1) add_taps<1, across>(place);
  }

  template <int down, int across>
  void add_taps(const Place& place) const {
    if (place.numbers < WIDTH<T>)
      add_taps<down, across, false>(place);
    else
      add_taps<down, across, true>(place);
  }

  template <int down, int across, bool whole>
  __attribute__((noinline)) void add_taps(const Place& place) const {
    const long n = place.numbers;
    const long tap_in = plan.tap_in, row_in = plan.row_in;
    const long tap_step = plan.tap_step, row_step = plan.row_step;
    Vector<T> sums[down][across], bias = *place.bias;
    UNROLLED (int row = 0; row < down; row++)
      UNROLLED (int tap = 0; tap < across; tap++)
        sums[row][tap] = place.to[row * row_step + tap * tap_step];
    for (long line = 0; line < place.rows; line++) {
      const T* in = place.x + line * plan.in_line;
      const T* d = place.dy + line * place.dy_row;
      for (long column = 0; column < place.columns; column++, in += plan.in_jump, d += plan.out_jump) {
        const auto gradient = kept<T>(load<whole>(d, n));
        bias += gradient;
        UNROLLED (int row = 0; row < down; row++)
          UNROLLED (int tap = 0; tap < across; tap++) {
            const auto factor = load<whole>(in + row * row_in + tap * tap_in, n);
            sums[row][tap] = fused(factor, gradient, sums[row][tap]);
          }
      }
    }
    UNROLLED (int row = 0; row < down; row++)
      UNROLLED (int tap = 0; tap < across; tap++)
        place.to[row * row_step + tap * tap_step] = sums[row][tap];
    *place.bias = bias;
  }

  // ---- Neighbouring inputs, three taps ----------------------------------------------------------

  void stream_band(const Segment& band, Place place) const {
    place.to += (band.tap * plan.wide + plan.first_tap) * plan.vectors.count;
    for (place.numbers = plan.to.channels; place.numbers > 0; place.numbers -= WIDTH<T>) {
      const bool whole = place.numbers >= WIDTH<T>;
      add_bias(place);
      auto next = place;
      for (long row = 0, some; row < band.taps; row += some) {
        some = least(3, band.taps - row);
        if (some == 3) whole ? stream<3, true>(next) : stream<3, false>(next);
        if (some == 2) whole ? stream<2, true>(next) : stream<2, false>(next);
        if (some == 1) whole ? stream<1, true>(next) : stream<1, false>(next);
        next.x += some * plan.row_in;
        next.to += some * plan.row_step;
      }
      place.x += WIDTH<T>, place.dy += WIDTH<T>, place.to++, place.bias++;
    }
  }

  void add_bias(const Place& place) const {
    const long n = place.numbers;
    Vector<T> even = *place.bias, odd = {};
    for (long line = 0; line < place.rows; line++) {
      const T* d = place.dy + line * place.dy_row;
      long at = 0;
      for (; at + 1 < plan.to.width; at += 2, d += 2 * plan.to.channels) {
        even += load(d, n);
        odd += load(d + plan.to.channels, n);
      }
      if (at < plan.to.width) even += load(d, n);
    }
    *place.bias = even + odd;
  }

  // Each column of inputs contributes to the three outputs around it, if they exist.
  template <int down, bool whole>
  __attribute__((noinline)) void stream(const Place& place) const {
    const long n = place.numbers;
    const long channels = plan.to.channels, outputs = plan.to.width;
    const long before = plan.across.low - 2, first = most(0, -plan.across.low);
    const long end = least(plan.from.width, outputs - before) + before;
    const long row_in = plan.row_in, row_step = plan.row_step, tap_step = plan.tap_step;
    Vector<T> sums[down][3];
    UNROLLED (int row = 0; row < down; row++)
      UNROLLED (int tap = 0; tap < 3; tap++)
        sums[row][tap] = place.to[row * row_step + tap * tap_step];
    for (long line = 0; line < place.rows; line++) {
      const T* in = place.x + line * plan.in_line + first * channels;
      const T* d = place.dy + line * place.dy_row + (first + before) * channels;
      for (long at = first + before; at < end; at++, in += channels, d += channels) {
        Vector<T> seen[down];
        UNROLLED (int row = 0; row < down; row++)
          seen[row] = kept<T>(load<whole>(in + row * row_in, n));
        UNROLLED (int one = 0; one < 3; one++)
          if ((unsigned long)(at + one) < outputs) {
            const auto gradient = kept<T>(load<whole>(d + one * channels, n));
            UNROLLED (int row = 0; row < down; row++)
              sums[row][2 - one] = fused(seen[row], gradient, sums[row][2 - one]);
          }
      }
    }
    UNROLLED (int row = 0; row < down; row++)
      UNROLLED (int tap = 0; tap < 3; tap++)
        place.to[row * row_step + tap * tap_step] = sums[row][tap];
  }

  // Sums a tap, or the bias, over the parts and over the columns of a vector.
  void add_parts(T* to, long tap) const {
    const auto& vectors = plan.vectors;
    for (long vector = 0; vector < vectors.count; vector++) {
      Vector<T> sum = {};
      for (long part = 0; part < parts; part++)
        sum += sums[part * numbers() + tap * vectors.count + vector];
      const long channels = least(WIDTH<T>, plan.to.channels - vector * WIDTH<T>);
      for (long channel = 0; channel < channels; channel++) {
        T total = sum[channel];
        for (long column = 1; column < vectors.columns; column++)
          total += sum[column * channels + channel];
        to[vector * WIDTH<T> + channel] = total;
      }
    }
  }
};

// ---- Functions for XLA --------------------------------------------------------------------------

// The last setting, after those in windows.h, is whether ReLU follows.

// Packs an array [taps, channels] into vectors like those of an image, [taps, vectors].
template <typename T>
static void pack(T* to, const T* numbers, long taps, long channels, const Vectors<T>& vectors) {
  const long row = vectors.count * WIDTH<T>;
  for (long tap = 0; tap < taps; tap++, to += row, numbers += channels)
    for (long at = 0; at < row; at++) to[at] = at < vectors.numbers ? numbers[at % channels] : 0;
}

// Arguments: x [N, H, W, C], the kernel [height, width, 1, C]; optionally the bias [C].
// Results: y [N, H', W', C].
// Backward, arguments: the gradient of y, the kernel, and with ReLU y. Results: the gradient of x.
template <typename T, bool back>
static XLA_FFI_Error* correlate(XLA_FFI_CallFrame* frame) {
  const auto from = given(frame, 0), kernel = given(frame, 1), to = first_result(frame);
  const auto x = back ? to : from, y = back ? from : to;
  Axis down = axis_of(frame, 0, x, kernel->dims[0], y);
  Axis across = axis_of(frame, 1, x, kernel->dims[1], y);
  if (back) down = down.transposed(), across = across.transposed();
  const auto room = (Segment*)memory<2>((to->dims[1] + to->dims[2]) * sizeof(Segment));
  if (!room) return out_of_memory(frame);
  const Plan<T> plan(from->dims[0], Images(from), Images(to), down, across, room);
  const auto& vectors = plan.vectors;
  const auto packed = (Vector<T>*)memory((plan.taps + 1) * vectors.count * BYTES);
  if (!packed) return out_of_memory(frame);
  const auto bias = packed + plan.taps * vectors.count;
  const T* third = frame->args.size > 2 ? argument<T>(frame, 2) : nullptr;
  pack((T*)packed, argument<T>(frame, 1), plan.taps, plan.to.channels, vectors);
  if (third && !back)
    pack((T*)bias, third, 1, plan.to.channels, vectors);
  else
    memset((void*)bias, 0, vectors.count * BYTES);
  const bool relu = !back && settings(frame)[8];
  const Correlation<T> work = {plan,   argument<T>(frame, 0), back ? third : nullptr,
                               packed, bias,                  relu,
                               result<T>(frame, 0)};
  share(frame, threads_of(frame), plan.parts(), work.take, &work);
  return work.failed ? out_of_memory(frame) : nullptr;
}

// Arguments: x, the gradient of y, and with ReLU y.
// Results: the gradients of the kernel and the bias.
template <typename T>
static XLA_FFI_Error* backward_kernel(XLA_FFI_CallFrame* frame) {
  const auto from = given(frame, 0), kernel = first_result(frame), to = given(frame, 1);
  const Axis down = axis_of(frame, 0, from, kernel->dims[0], to);
  const Axis across = axis_of(frame, 1, from, kernel->dims[1], to);
  const auto room = (Segment*)memory<2>((to->dims[1] + to->dims[2]) * sizeof(Segment));
  if (!room) return out_of_memory(frame);
  const Plan<T> plan(from->dims[0], Images(from), Images(to), down, across, room);
  const long numbers = (plan.taps + 1) * plan.vectors.count;
  const long parts = most(1, least(least(32, plan.parts()), (1 << 24) / (numbers * BYTES)));
  const auto sums = (Vector<T>*)memory(parts * numbers * BYTES);
  if (!sums) return out_of_memory(frame);
  const T* y = frame->args.size > 2 ? argument<T>(frame, 2) : nullptr;
  const KernelGradient<T> work = {plan, argument<T>(frame, 0), argument<T>(frame, 1), y, sums,
                                  parts};
  share(frame, threads_of(frame), parts, work.take, &work);
  if (work.failed) return out_of_memory(frame);
  for (long tap = 0; tap < plan.taps; tap++)
    work.add_parts(result<T>(frame, 0) + tap * plan.to.channels, tap);
  work.add_parts(result<T>(frame, 1), plan.taps);
  return nullptr;
}

HANDLER(depthwise_forward, correlate, false)
HANDLER(depthwise_backward_input, correlate, true)
HANDLER(depthwise_backward_kernel, backward_kernel)
