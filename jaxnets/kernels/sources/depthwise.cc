// A convolution of each channel with a kernel of its own, its bias and ReLU, forward and backward,
// for XLA on CPUs.
//
// Vectors run over channels. Each number is computed in the same order whichever thread does it,
// and however many there are. Padding is left out: a product of zero and infinity would be NaN.

#include "windows.h"

#define UNROLLED _Pragma("GCC unroll 16") for

// Numbers of a band of rows, which stay in a thread's cache, and of a part of the work.
constexpr long BAND = 16384;

struct Images {
  long height, width, channels;

  explicit Images(const XLA_FFI_Buffer* x)
      : height(x->dims[1]), width(x->dims[2]), channels(x->dims[3]) {}
  long row() const { return width * channels; }
  long size() const { return height * row(); }
};

// How the numbers of some images are made of those of others.
template <typename T>
struct Plan {
  long batch;
  Images from, to;
  Axis down, across;
  Walk rows, columns;  // the rows by bands
  Vectors<T> vectors;

  Plan(long batch, Images from, Images to, Axis down, Axis across, Segment* room)
      : batch(batch),
        from(from),
        to(to),
        down(down),
        across(across),
        rows(down, room, most(1, BAND / to.row())),
        columns(across, room + to.height, to.width),
        vectors(to.channels, columns.in_step == 1 && columns.out_step == 1) {}

  long taps() const { return down.taps * across.taps; }
  long bands() const { return batch * rows.count; }
  long parts() const { return most(1, least(bands(), batch * to.size() / BAND)); }

  // From a vector of a segment to the next.
  long in_jump() const {
    return vectors.columns > 1 ? vectors.numbers : columns.in_step * from.channels;
  }
  long out_jump() const {
    return vectors.columns > 1 ? vectors.numbers : columns.out_step * to.channels;
  }

  // Calls work(image, band) for the bands of a part.
  template <typename Work>
  void each_band(long part, long parts, Work work) const {
    for (long at = part * bands() / parts; at < (part + 1) * bands() / parts; at++)
      work(at / rows.count, rows.segments[at % rows.count]);
  }
};

// Of the gradients d of ReLU's outputs y, those that go through it.
template <typename T>
static void through_relu(T* to, const T* d, const T* y, long count) {
  for (long at = 0; at < count; at += WIDTH<T>) {
    const Lanes<T> lanes(count - at);
    store(to + at, load(y + at, lanes) > 0 ? load(d + at, lanes) : Vector<T>{}, lanes);
  }
}

// ---- Outputs, and the gradients of inputs -------------------------------------------------------

template <typename T>
struct Correlation {
  const Plan<T>& plan;
  const T *x, *y;                 // where there is a y, x counts where y is positive
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
    T* out = result + image * plan.to.size() + band.out * plan.to.row();
    for (long left = band.count; left > 0; left--) {
      for (long at = 0; at < plan.columns.count; at++)
        take_row(band, plan.columns.segments[at], in, out);
      in += plan.rows.in_step * row;
      out += plan.rows.out_step * plan.to.row();
    }
  }

  // Where some vectors of outputs are, and what they are made of.
  struct Place {
    const T* in;
    T* out;
    const Vector<T>*kernel, *bias;
    long down, across, numbers;  // taps; of a vector
  };

  void take_row(const Segment& band, const Segment& segment, const T* in, T* out) const {
    const auto& vectors = plan.vectors;
    const long first = (band.tap * plan.across.taps + segment.tap) * vectors.count;
    const long whole = segment.count / vectors.columns, left = segment.count % vectors.columns;
    in += segment.in * plan.from.channels;
    out += segment.out * plan.to.channels;
    for (long rest = whole, some; rest > 0; rest -= some) {
      some = rest <= 8 ? rest : rest < 16 ? (rest + 1) / 2 : 8;
      for (long vector = 0, skipped = 0; vector < vectors.count; vector++, skipped += WIDTH<T>)
        add_up(some, {in + skipped, out + skipped, kernel + first + vector, bias + vector, band.taps,
                      segment.taps, vectors.numbers - skipped});
      in += some * plan.in_jump();
      out += some * plan.out_jump();
    }
    if (left)
      add_up(1, {in, out, kernel + first, bias, band.taps, segment.taps, left * plan.to.channels});
  }

  void add_up(long some, const Place& place) const {
    if (some == 8) add_products<8>(place);
    if (some == 7) add_products<7>(place);
    if (some == 6) add_products<6>(place);
    if (some == 5) add_products<5>(place);
    if (some == 4) add_products<4>(place);
    if (some == 3) add_products<3>(place);
    if (some == 2) add_products<2>(place);
    if (some == 1) add_products<1>(place);
  }

  template <int some>
  void add_products(const Place& place) const {
    place.numbers < WIDTH<T> ? add_products<some, false>(place) : add_products<some, true>(place);
  }

  template <int some, bool whole>
  __attribute__((noinline)) void add_products(const Place& place) const {
    const Lanes<T> lanes(place.numbers);
    const long in_jump = plan.in_jump(), out_jump = plan.out_jump(), vectors = plan.vectors.count;
    const long row_step = plan.rows.tap_in * plan.from.row();
    const long step = plan.columns.tap_in * plan.from.channels;
    const long kernel_row = plan.rows.tap_step * plan.across.taps * vectors;
    const long kernel_step = plan.columns.tap_step * vectors;
    Vector<T> sums[some];
    UNROLLED (int one = 0; one < some; one++) sums[one] = *place.bias;
    for (long row = 0; row < place.down; row++) {
      const T* in = place.in + row * row_step;
      auto weights = place.kernel + row * kernel_row;
      for (long tap = 0; tap < place.across; tap++, in += step, weights += kernel_step) {
        const auto factors = kept<T>(*weights);
        UNROLLED (int one = 0; one < some; one++)
          sums[one] = fused(load_lanes<whole>(in + one * in_jump, lanes), factors, sums[one]);
      }
    }
    UNROLLED (int one = 0; one < some; one++) {
      if (relu) sums[one] = sums[one] <= 0 ? Vector<T>{} : sums[one];  // what is no number stays
      store_lanes<whole>(place.out + one * out_jump, sums[one], lanes);
    }
  }
};

// ---- The gradients of kernel and bias -----------------------------------------------------------

template <typename T>
struct KernelGradient {
  const Plan<T>& plan;
  const T *x, *dy, *y;  // where there is a y, dy counts where y is positive
  Vector<T>* sums;      // [parts, taps and bias, vectors]
  const long parts;     // as many for all numbers of threads
  mutable std::atomic<bool> failed{false};

  long numbers() const { return (plan.taps() + 1) * plan.vectors.count; }

  static void take(const void* data, long part) {
    const auto self = (const KernelGradient*)data;
    const auto to = self->sums + part * self->numbers();
    memset((void*)to, 0, self->numbers() * BYTES);
    const auto work = [=](long image, const Segment& band) { self->add_band(to, image, band); };
    self->plan.each_band(part, self->parts, work);
  }

  // Where some vectors of x and of dy are, and the sums of their products.
  struct Place {
    const T *x, *dy;
    Vector<T>*to, *bias;
    long rows, dy_row, columns, numbers;  // of a vector
  };

  void add_band(Vector<T>* to, long image, const Segment& band) const {
    const auto& vectors = plan.vectors;
    const long row = plan.to.row(), skipped = image * plan.to.size() + band.out * row;
    const T* d = dy + skipped;
    long d_row = plan.rows.out_step * row;
    if (y) {
      const auto passed = (T*)memory<1>(band.count * row * sizeof(T));
      if (!passed) return (void)(failed = true);
      for (long at = 0; at < band.count; at++)
        through_relu(passed + at * row, d + at * d_row, y + skipped + at * d_row, row);
      d = passed, d_row = row;
    }
    const T* in = x + image * plan.from.size() + band.in * plan.from.row();
    const auto bias = to + plan.taps() * vectors.count;
    for (long at = 0; at < plan.columns.count; at++) {
      const auto& segment = plan.columns.segments[at];
      const long whole = segment.count / vectors.columns, left = segment.count % vectors.columns;
      Place place = {in + segment.in * plan.from.channels, d + segment.out * plan.to.channels,
                     to + (band.tap * plan.across.taps + segment.tap) * vectors.count, bias,
                     band.count, d_row, whole, vectors.numbers};
      for (long vector = 0; whole && vector < vectors.count; vector++) {
        add(place, band.taps, segment.taps);
        place.x += WIDTH<T>, place.dy += WIDTH<T>, place.to++, place.bias++;
        place.numbers -= WIDTH<T>;
      }
      if (left)
        add({in + (segment.in + whole * vectors.columns) * plan.from.channels,
             d + (segment.out + whole * vectors.columns) * plan.to.channels,
             to + (band.tap * plan.across.taps + segment.tap), bias, band.count, d_row, 1,
             left * plan.to.channels},
            band.taps, segment.taps);
    }
  }

  // As many taps at a time as registers hold sums.
  void add(Place place, long down, long across) const {
    if (!down || !across) return add_taps<1, 0>(place);
    const long row_step = plan.rows.tap_in * plan.from.row();
    const long step = plan.columns.tap_in * plan.from.channels;
    const long to_step = plan.columns.tap_step * plan.vectors.count;
    const long to_row = plan.rows.tap_step * plan.across.taps * plan.vectors.count;
    Vector<T> counted[1];
    for (long tap = 0, taps; tap < across; tap += taps) {
      const long left = across - tap;
      taps = left <= 5 ? left : left < 10 ? (left + 1) / 2 : 5;
      for (long row = 0, some; row < down; row += some) {
        some = least(taps <= 3 ? 3 : 2, down - row);
        auto next = place;
        next.x += row * row_step + tap * step;
        next.to += row * to_row + tap * to_step;
        if (row || tap) next.bias = counted;  // once is enough
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
    const Lanes<T> lanes(place.numbers);
    const long in_jump = plan.in_jump(), out_jump = plan.out_jump(), vectors = plan.vectors.count;
    const long row_step = plan.rows.tap_in * plan.from.row();
    const long step = plan.columns.tap_in * plan.from.channels;
    const long to_row = plan.rows.tap_step * plan.across.taps * vectors;
    const long to_step = plan.columns.tap_step * vectors;
    Vector<T> sums[down][across], bias = *place.bias;
    UNROLLED (int row = 0; row < down; row++)
      UNROLLED (int tap = 0; tap < across; tap++)
        sums[row][tap] = place.to[row * to_row + tap * to_step];
    for (long line = 0; line < place.rows; line++) {
      const T* in = place.x + line * plan.rows.in_step * plan.from.row();
      const T* d = place.dy + line * place.dy_row;
      for (long column = 0; column < place.columns; column++, in += in_jump, d += out_jump) {
        const auto gradient = kept<T>(load_lanes<whole>(d, lanes));
        bias += gradient;
        UNROLLED (int row = 0; row < down; row++)
          UNROLLED (int tap = 0; tap < across; tap++) {
            const auto factor = load_lanes<whole>(in + row * row_step + tap * step, lanes);
            sums[row][tap] = fused(factor, gradient, sums[row][tap]);
          }
      }
    }
    UNROLLED (int row = 0; row < down; row++)
      UNROLLED (int tap = 0; tap < across; tap++)
        place.to[row * to_row + tap * to_step] = sums[row][tap];
    *place.bias = bias;
  }

  // Adds up what the parts, and columns side by side in a vector, have of some tap or the bias.
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

// ---- What XLA calls -----------------------------------------------------------------------------

// All have one attribute, int64 [9]: by rows and then by columns the stride, the zeros before x, the
// dilation of the kernel, and how far apart the inputs are between which zeros lie; and whether
// there is ReLU.

static Axis axis_of(XLA_FFI_CallFrame* frame, int axis, const XLA_FFI_Buffer* x,
                    const XLA_FFI_Buffer* kernel, const XLA_FFI_Buffer* y) {
  const auto given = settings(frame) + axis * 4;
  return {x->dims[axis + 1], y->dims[axis + 1], kernel->dims[axis],
          given[0],          given[1],          given[2],           given[3]};
}

static XLA_FFI_Buffer* first_result(XLA_FFI_CallFrame* frame) {
  return (XLA_FFI_Buffer*)frame->rets.rets[0];
}

// Packs numbers of channels, [taps, channels], as they meet an image's: [taps, vectors].
template <typename T>
static void pack(T* to, const T* numbers, long taps, long channels, const Vectors<T>& vectors) {
  const long row = vectors.count * WIDTH<T>;
  for (long tap = 0; tap < taps; tap++, to += row, numbers += channels)
    for (long at = 0; at < row; at++) to[at] = at < vectors.numbers ? numbers[at % channels] : 0;
}

// Arguments: x [N, H, W, C], the kernel [height, width, 1, C]; perhaps the bias [C].
// Results: y [N, H', W', C].
// Back: the gradient of y, the kernel, and where there is ReLU y. Results: the gradient of x.
template <typename T, bool back>
static XLA_FFI_Error* correlate(XLA_FFI_CallFrame* frame) {
  const auto from = given(frame, 0), kernel = given(frame, 1), to = first_result(frame);
  Axis down = axis_of(frame, 0, back ? to : from, kernel, back ? from : to);
  Axis across = axis_of(frame, 1, back ? to : from, kernel, back ? from : to);
  if (back) down = down.transposed(), across = across.transposed();
  const auto room = (Segment*)memory<2>((to->dims[1] + to->dims[2]) * sizeof(Segment));
  if (!room) return out_of_memory(frame);
  const Plan<T> plan(from->dims[0], Images(from), Images(to), down, across, room);
  const auto& vectors = plan.vectors;
  const auto packed = (Vector<T>*)memory((plan.taps() + 1) * vectors.count * BYTES);
  if (!packed) return out_of_memory(frame);
  const auto bias = packed + plan.taps() * vectors.count;
  const T* third = frame->args.size > 2 ? argument<T>(frame, 2) : nullptr;
  pack((T*)packed, argument<T>(frame, 1), plan.taps(), plan.to.channels, vectors);
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

// Arguments: x, the gradient of y, and where there is ReLU y.
// Results: the gradients of the kernel and the bias.
template <typename T>
static XLA_FFI_Error* backward_kernel(XLA_FFI_CallFrame* frame) {
  const auto from = given(frame, 0), kernel = first_result(frame), to = given(frame, 1);
  const Axis down = axis_of(frame, 0, from, kernel, to), across = axis_of(frame, 1, from, kernel, to);
  const auto room = (Segment*)memory<2>((to->dims[1] + to->dims[2]) * sizeof(Segment));
  if (!room) return out_of_memory(frame);
  const Plan<T> plan(from->dims[0], Images(from), Images(to), down, across, room);
  const long numbers = (plan.taps() + 1) * plan.vectors.count;
  const long parts = most(1, least(least(32, plan.parts()), (1 << 24) / (numbers * BYTES)));
  const auto sums = (Vector<T>*)memory(parts * numbers * BYTES);
  if (!sums) return out_of_memory(frame);
  const T* y = frame->args.size > 2 ? argument<T>(frame, 2) : nullptr;
  const KernelGradient<T> work = {plan, argument<T>(frame, 0), argument<T>(frame, 1), y, sums,
                                  parts};
  share(frame, threads_of(frame), parts, work.take, &work);
  if (work.failed) return out_of_memory(frame);
  for (long tap = 0; tap < plan.taps(); tap++)
    work.add_parts(result<T>(frame, 0) + tap * plan.to.channels, tap);
  work.add_parts(result<T>(frame, 1), plan.taps());
  return nullptr;
}

HANDLER(depthwise_forward, correlate, false)
HANDLER(depthwise_backward_input, correlate, true)
HANDLER(depthwise_backward_kernel, backward_kernel)
