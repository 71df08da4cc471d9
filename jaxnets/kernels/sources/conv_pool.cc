// A convolution of stride 1 with bias, ReLU and 2x2 max pooling, forward and backward, for XLA on
// CPUs.
//
// Vectors run over examples: a block of as many examples as a vector has elements is transposed,
// and everything else is elementwise. So vectors are full for any number of channels and any image
// size. Each result is computed in the same order for any number of threads, so it is reproducible.

#include "calls.h"
#include "transpose.h"

struct Shape {
  long batch, height, width, channels;  // shape of x
  long tall, wide, outputs;             // shape of the kernel
  long rows, columns;                   // number of windows
  long left, top;                       // padding before x

  // Height and width of the padded x that the windows read.
  long down() const { return 2 * rows + tall - 1; }
  long across() const { return 2 * columns + wide - 1; }
  // Numbers of elements of an example.
  long x_row() const { return width * channels; }
  long x_size() const { return height * x_row(); }
  long y_row() const { return columns * outputs; }
  long y_size() const { return rows * y_row(); }
  long image_row() const { return across() * channels; }
  long image_size() const { return down() * image_row(); }

  long weights() const { return tall * wide * channels * outputs; }
};

// Stored instead of the position of a window's maximum if the maximum is not positive.
constexpr int NOWHERE = 4;

// ---- Examples side by side ----------------------------------------------------------------------

// Loads the first elements of some examples, with a stride in bytes, as vectors over examples.
// Missing examples are zeros.
template <typename T>
static void gather(Vector<T>* to, const void* from, long bytes, long examples, long count) {
  constexpr long width = WIDTH<T>;
  const long n = least(count, width);
  for (long next = 0; next < count; next += width) {
    const long at = least(next, count - n);  // the last block overlaps with the previous one
    Vector<T> rows[width];
    UNROLLED (int row = 0; row < width; row++) {
      const char* place = (const char*)from + row * bytes + at * sizeof(T);
      rows[row] = row < examples ? load((const T*)place, n) : Vector<T>{};
    }
    transpose<T>(rows);
    UNROLLED (int one = 0; one < width; one++)
      if (one < n) to[at + one] = rows[one];
  }
}

// The inverse of gather.
template <typename T>
static void scatter(void* to, const Vector<T>* from, long bytes, long examples, long count) {
  constexpr long width = WIDTH<T>;
  const long n = least(count, width);
  for (long next = 0; next < count; next += width) {
    const long at = least(next, count - n);
    Vector<T> rows[width];
    UNROLLED (int one = 0; one < width; one++) rows[one] = one < n ? from[at + one] : Vector<T>{};
    transpose<T>(rows);
    UNROLLED (int row = 0; row < width; row++) {
      char* place = (char*)to + row * bytes + at * sizeof(T);
      if (row < examples) store((T*)place, rows[row], n);
    }
  }
}

// gather for bytes. Several adjacent bytes are transposed like one element. They are first written
// to the end of the destination, from which they are unpacked to its beginning.
template <typename T>
static void gather_places(Vector<T>* to, const uint8_t* from, long step, long examples,
                          long count) {
  constexpr int size = sizeof(T);
  const long whole = count / size;
  const Vector<T>* packed = to + whole * (size - 1);
  gather<T>(to + whole * (size - 1), from, step, examples, whole);
  for (long at = 0; at < whole; at++) {
    const auto several = (Bits<T>)packed[at];
    for (int one = 0; one < size; one++)
      to[at * size + one] = (Vector<T>)((several >> one * 8) & 255);
  }
  for (long at = whole * size; at < count; at++) {
    Bits<T> places = {};
    for (long row = 0; row < examples; row++) places[row] = from[row * step + at];
    to[at] = (Vector<T>)places;
  }
}

template <typename T>
static void scatter_places(uint8_t* to, Vector<T>* from, long step, long examples, long count) {
  constexpr int size = sizeof(T);
  const long whole = count / size;
  for (long at = whole * size; at < count; at++)
    for (long row = 0; row < examples; row++) to[row * step + at] = ((Bits<T>)from[at])[row];
  for (long at = 0; at < whole; at++) {
    Bits<T> several = {};
    for (int one = 0; one < size; one++) several |= (Bits<T>)from[at * size + one] << one * 8;
    from[at] = (Vector<T>)several;
  }
  scatter<T>(to, from, step, examples, whole);
}

// Gathers the padded images of some examples, [down, across, channels].
template <typename T>
static void gather_image(const Shape& shape, Vector<T>* to, const T* x, long examples) {
  const long all = shape.image_row(), before = least(shape.left * shape.channels, all);
  const long seen = least(shape.x_row(), all - before), after = all - before - seen;
  for (long row = 0; row < shape.down(); row++, to += all) {
    const long from = row - shape.top;
    if (from < 0 || from >= shape.height) {
      memset(to, 0, all * BYTES);
      continue;
    }
    memset(to, 0, before * BYTES);
    gather<T>(to + before, x + from * shape.x_row(), shape.x_size() * sizeof(T), examples, seen);
    memset(to + before + seen, 0, after * BYTES);
  }
}

// Distributes the gradients of a row of windows to two rows of an image; adds those of the bias.
template <typename T>
static void unpool(const Shape& shape, Vector<T>* dz, long below, const T* dy,
                   const uint8_t* winners, long examples, Vector<T>* scratch, Vector<T>* d_bias) {
  const long count = shape.y_row(), step = shape.y_size(), outputs = shape.outputs;
  const Vector<T>*from = scratch, *places = scratch + count;
  gather<T>(scratch, dy, step * sizeof(T), examples, count);
  gather_places<T>(scratch + count, winners, step, examples, count);
  for (long column = 0; column < shape.columns; column++, dz += 2 * outputs)
    for (long o = 0; o < outputs; o++) {
      const Vector<T> gradient = *from++;
      const auto place = (Bits<T>)*places++;
      dz[o] = place == 0 ? gradient : Vector<T>{};
      dz[outputs + o] = place == 1 ? gradient : Vector<T>{};
      dz[below + o] = place == 2 ? gradient : Vector<T>{};
      dz[below + outputs + o] = place == 3 ? gradient : Vector<T>{};
      if (d_bias) d_bias[o] += place != NOWHERE ? gradient : Vector<T>{};
    }
}

// ---- Sums of products ---------------------------------------------------------------------------

// Calls work for some channels at a time, as many as fit into the registers.
template <typename Work>
INLINE void by_channels(long channels, Work work) {
  for (long left = channels, some; left > 0; left -= some) {
    some = left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3;
    if (some == 1) work(channels - left, std::integral_constant<int, 1>());
    if (some == 2) work(channels - left, std::integral_constant<int, 2>());
    if (some == 3) work(channels - left, std::integral_constant<int, 3>());
  }
}

// An image and a kernel at the positions where they overlap, and their strides between rows.
template <typename T>
struct Meeting {
  const Vector<T>* image;
  const T* kernel;
  long image_row, kernel_row;
  long rows, depth;  // rows of the kernel, and columns times channels of a row
};

// sums[place][c] += the products of the 2x2 positions of a window with some output channels of the
// kernel.
template <typename T, int some>
INLINE void convolve(Vector<T> (&sums)[4][some], Meeting<T> all, long channels, long outputs) {
  for (long row = 0; row < all.rows; row++) {
    const Vector<T>*upper = all.image + row * all.image_row, *lower = upper + all.image_row;
    const T* weights = all.kernel + row * all.kernel_row;
    for (long k = 0; k < all.depth; k++, weights += outputs) {
      Vector<T> factors[some];
      UNROLLED (int c = 0; c < some; c++) factors[c] = kept<T>(everywhere(weights[c]));
      UNROLLED (int place = 0; place < 4; place++) {
        const Vector<T>* line = place < 2 ? upper : lower;
        const auto seen = kept<T>(line[k + place % 2 * channels]);
        UNROLLED (int c = 0; c < some; c++)
          sums[place][c] = fused(seen, factors[c], sums[place][c]);
      }
    }
  }
}

template <typename T>
struct Pooled : Shape {
  const T *x, *kernel, *bias;
  T* y;
  uint8_t* winners;  // positions of the maxima, or null

  long room() const { return image_size() + 2 * y_row(); }

  void take(long block, Vector<T>* image) const {
    const long first = block * WIDTH<T>;
    const long examples = least(batch - first, WIDTH<T>);
    Vector<T>*best = image + image_size(), *places = winners ? best + y_row() : nullptr;
    gather_image<T>(*this, image, x + first * x_size(), examples);
    for (long window = 0; window < rows; window++) {
      for (long column = 0; column < columns; column++) {
        const auto from = image + 2 * (window * image_row() + column * channels);
        by_channels(outputs, [&](long o, auto some) {
          const long at = column * outputs + o;
          pool_window<some.value>(best + at, places ? places + at : nullptr, from, o);
        });
      }
      const long at = first * y_size() + window * y_row();
      scatter<T>(y + at, best, y_size() * sizeof(T), examples, y_row());
      if (places) scatter_places<T>(winners + at, places, y_size(), examples, y_row());
    }
  }

  template <int some>
  void pool_window(Vector<T>* best, Vector<T>* places, const Vector<T>* image, long o) const {
    const long depth = wide * channels;
    Vector<T> sums[4][some];
    UNROLLED (int place = 0; place < 4; place++)
      UNROLLED (int c = 0; c < some; c++) sums[place][c] = everywhere(bias[o + c]);
    convolve<T, some>(sums, {image, kernel + o, image_row(), depth * outputs, tall, depth},
                      channels, outputs);
    UNROLLED (int c = 0; c < some; c++) {
      Vector<T> top = sums[0][c];
      Bits<T> where = {};
      UNROLLED (int place = 1; place < 4; place++) {
        const Vector<T> sum = sums[place][c];
        const auto better = (sum > top) | (sum != sum);  // NaN stays the maximum
        top = better ? sum : top;
        where = better ? Bits<T>{} + place : where;
      }
      best[c] = top <= 0 ? Vector<T>{} : top;
      if (places) places[c] = (Vector<T>)(top > 0 ? where : Bits<T>{} + NOWHERE);
    }
  }
};

template <typename T>
struct KernelGradient : Shape {
  const T *x, *dy;
  const uint8_t* winners;
  T* sums;     // [parts, weights and biases]
  long parts;  // independent of the number of threads

  // Number of rows of windows at a time, few enough for the L1 cache.
  long some_rows() const { return least(rows, most(1, 48 / most(1, columns))); }
  long numbers() const { return weights() + outputs; }
  long all() const { return numbers() + WIDTH<T>; }  // with padding
  long room() const { return all() + image_size() + (4 * some_rows() + 2) * y_row(); }

  void take(long part, Vector<T>* to) const {
    const long blocks = pieces_of(WIDTH<T>, batch);
    memset(to, 0, all() * BYTES);
    for (long block = part * blocks / parts; block < (part + 1) * blocks / parts; block++)
      add_block(block * WIDTH<T>, to, to + all());
    for (long at = 0; at < numbers(); at += WIDTH<T>) {
      transpose<T>(to + at);
      Vector<T> sum = to[at];
      for (int one = 1; one < WIDTH<T>; one++) sum += to[at + one];
      store<T>(sums + part * numbers() + at, sum, numbers() - at);
    }
  }

  void add_block(long first, Vector<T>* to, Vector<T>* image) const {
    const long examples = least(batch - first, WIDTH<T>);
    Vector<T>*dz = image + image_size(), *scratch = dz + 4 * some_rows() * y_row();
    gather_image<T>(*this, image, x + first * x_size(), examples);
    for (long window = 0, some; window < rows; window += some) {
      some = least(some_rows(), rows - window);
      for (long one = 0; one < some; one++) {
        const long at = first * y_size() + (window + one) * y_row();
        unpool<T>(*this, dz + one * 4 * y_row(), 2 * y_row(), dy + at, winners + at, examples,
                  scratch, to + weights());
      }
      for (long o = 0; o < outputs; o += 2)
        for (long c = 0; c < channels; c++)
          for (long down = 0; down < tall; down++) {
            const auto from = image + (2 * window + down) * image_row() + c;
            const long at = (down * wide * channels + c) * outputs + o;
            if (o + 1 < outputs)
              add_row<2>(to + at, from, dz + o, 2 * some);
            else
              add_row<1>(to + at, from, dz + o, 2 * some);
          }
    }
  }

  // Adds the gradients of a row of the kernel, for an input channel and some output channels.
  template <int some>
  void add_row(Vector<T>* to, const Vector<T>* image, const Vector<T>* dz, long lines) const {
    for (long left = wide, taps; left > 0; left -= taps) {
      // Avoids few taps, whose sums would wait for each other.
      taps = left <= 5 ? left : left < 10 ? (left + 1) / 2 : 5;
      if (taps == 5) add_taps<some, 5>(to, image, dz, lines);
      if (taps == 4) add_taps<some, 4>(to, image, dz, lines);
      if (taps == 3) add_taps<some, 3>(to, image, dz, lines);
      if (taps == 2) add_taps<some, 2>(to, image, dz, lines);
      if (taps == 1) add_taps<some, 1>(to, image, dz, lines);
      to += taps * channels * outputs;
      image += taps * channels;
    }
  }

  template <int some, int taps>
  __attribute__((noinline)) void add_taps(Vector<T>* to, const Vector<T>* image,
                                          const Vector<T>* dz, long lines) const {
    Vector<T> sums[taps][some];
    const long tap_step = channels * outputs;
    UNROLLED (int tap = 0; tap < taps; tap++)
      UNROLLED (int c = 0; c < some; c++) sums[tap][c] = to[tap * tap_step + c];
    for (long line = 0; line < lines; line++, image += image_row()) {
      const Vector<T>* seen = image;
      for (long column = 0; column < 2 * columns; column++, seen += channels, dz += outputs) {
        Vector<T> gradients[some];
        UNROLLED (int c = 0; c < some; c++) gradients[c] = kept<T>(dz[c]);
        UNROLLED (int tap = 0; tap < taps; tap++) {
          const auto factor = kept<T>(seen[tap * channels]);
          UNROLLED (int c = 0; c < some; c++)
            sums[tap][c] = fused(factor, gradients[c], sums[tap][c]);
        }
      }
    }
    UNROLLED (int tap = 0; tap < taps; tap++)
      UNROLLED (int c = 0; c < some; c++) to[tap * tap_step + c] = sums[tap][c];
  }
};

template <typename T>
struct InputGradient : Shape {
  const T *dy, *kernel;  // the kernel flipped in both axes, [tall, wide, outputs, channels]
  const uint8_t* winners;
  T* dx;

  // Size of a row of dz, with a zero before and after it.
  long dz_row() const { return (2 * columns + 2) * outputs; }
  long dz_size() const { return (2 * rows + 2) * dz_row(); }
  long below() const { return x_row() + channels; }  // from a row of dx to the next
  long room() const { return dz_size() + 2 * most(y_row(), below()); }

  void take(long block, Vector<T>* dz) const {
    Vector<T>* const scratch = dz + dz_size();
    const long first = block * WIDTH<T>;
    const long examples = least(batch - first, WIDTH<T>);
    memset(dz, 0, dz_size() * BYTES);
    for (long window = 0; window < rows; window++) {
      const long at = first * y_size() + window * y_row();
      unpool<T>(*this, dz + (2 * window + 1) * dz_row() + outputs, dz_row(), dy + at, winners + at,
                examples, scratch, nullptr);
    }
    for (long row = 0; row < height; row += 2) {
      for (long column = 0; column < width; column += 2)
        by_channels(channels, [&](long c, auto some) {
          sum_places<some.value>(scratch + column * channels + c, dz, row, column, c);
        });
      for (long one = row; one < least(row + 2, height); one++)
        scatter<T>(dx + first * x_size() + one * x_row(), scratch + (one - row) * below(),
                   x_size() * sizeof(T), examples, x_row());
    }
  }

  template <int some>
  void sum_places(Vector<T>* to, const Vector<T>* dz, long row, long column, long c) const {
    // Only the part of the kernel that overlaps with dz and the zeros around it.
    const long y = row + top - tall + 1, x = column + left - wide + 1;
    const long first = most(0, -1 - y), last = least(tall, 2 * rows - y);
    const long begin = most(0, -1 - x), end = least(wide, 2 * columns - x);
    const long kernel_row = wide * outputs * channels;
    Vector<T> sums[4][some] = {};
    if (first < last && begin < end)
      convolve<T, some>(sums,
                        {dz + (y + first + 1) * dz_row() + (x + begin + 1) * outputs,
                         kernel + first * kernel_row + begin * outputs * channels + c, dz_row(),
                         kernel_row, last - first, (end - begin) * outputs},
                        outputs, channels);
    UNROLLED (int place = 0; place < 4; place++)
      UNROLLED (int one = 0; one < some; one++)
        to[place / 2 * below() + place % 2 * channels + one] = sums[place][one];
  }
};

// ---- Functions for XLA --------------------------------------------------------------------------

// Runs all parts of some work, each with a buffer of room() vectors.
template <typename T, typename Work>
static XLA_FFI_Error* run(XLA_FFI_CallFrame* frame, const Work& work, long parts) {
  struct Task {
    const Work& work;
    std::atomic<bool> failed{false};
  } task{work};
  const auto take = [](const void* data, long part) {
    const auto task = (Task*)data;
    const auto room = (Vector<T>*)memory<1>((task->work.room() + 1) * BYTES);  // not empty
    if (room)
      task->work.take(part, room);
    else
      task->failed = true;
  };
  share(frame, threads_of(frame), parts, take, &task);
  return task.failed ? out_of_memory(frame) : nullptr;
}

static long attribute(XLA_FFI_CallFrame* frame, int number) {
  return *(const int32_t*)((XLA_FFI_Scalar*)frame->attrs.attrs[number])->value;
}

static Shape shape_of(XLA_FFI_CallFrame* frame, const XLA_FFI_Buffer* x,
                      const XLA_FFI_Buffer* kernel, const XLA_FFI_Buffer* y) {
  const auto a = x->dims, b = kernel->dims, c = y->dims;
  const long left = attribute(frame, 0), top = attribute(frame, 1);
  return {a[0], a[1], a[2], a[3], b[0], b[1], b[3], c[1], c[2], left, top};
}

static XLA_FFI_Buffer* first_result(XLA_FFI_CallFrame* frame) {
  return (XLA_FFI_Buffer*)frame->rets.rets[0];
}

// All three functions have the attributes left and top, int32: padding before x. Positions after x
// are zeros.

// Arguments: x [N, H, W, C], the kernel [height, width, C, O], the bias [O].
// Results: y [N, H', W', O]; optionally the residual, uint8 [N, H', W', O]: the position of y in
// the window, by rows, or 4 if y is not positive.
template <typename T>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  const auto shape = shape_of(frame, given(frame, 0), given(frame, 1), first_result(frame));
  const auto x = argument<T>(frame, 0), kernel = argument<T>(frame, 1);
  const auto bias = argument<T>(frame, 2), y = result<T>(frame, 0);
  const Pooled<T> work = {shape, x, kernel, bias, y, result<uint8_t>(frame, 1)};
  return run<T>(frame, work, pieces_of(WIDTH<T>, shape.batch));
}

// Arguments: x, the residual, the gradient of y.
// Results: the gradients of the kernel and the bias.
template <typename T>
static XLA_FFI_Error* backward_kernel(XLA_FFI_CallFrame* frame) {
  const auto shape = shape_of(frame, given(frame, 0), first_result(frame), given(frame, 2));
  const long weights = shape.weights(), numbers = weights + shape.outputs;
  const long many = most(1, least(64, (1 << 22) / most(1, numbers)));  // limits the memory of the sums
  const long parts = least(pieces_of(WIDTH<T>, shape.batch), many);
  const auto sums = (T*)memory((parts + 1) * most(1, numbers) * sizeof(T));
  if (!sums) return out_of_memory(frame);
  const auto x = argument<T>(frame, 0), dy = argument<T>(frame, 2);
  const KernelGradient<T> work = {shape, x, dy, argument<uint8_t>(frame, 1), sums, parts};
  if (const auto error = run<T>(frame, work, parts)) return error;
  T* const total = sums + parts * numbers;
  memset(total, 0, numbers * sizeof(T));
  for (long part = 0; part < parts; part++)
    for (long at = 0; at < numbers; at += WIDTH<T>) {
      const long n = numbers - at;
      store<T>(total + at, load(total + at, n) + load(sums + part * numbers + at, n), n);
    }
  memcpy(result<T>(frame, 0), total, weights * sizeof(T));
  memcpy(result<T>(frame, 1), total + weights, shape.outputs * sizeof(T));
  return nullptr;
}

// Arguments: the gradient of y, the residual, the kernel.
// Results: the gradient of x.
template <typename T>
static XLA_FFI_Error* backward_input(XLA_FFI_CallFrame* frame) {
  const auto shape = shape_of(frame, first_result(frame), given(frame, 2), given(frame, 0));
  const auto dy = argument<T>(frame, 0), kernel = argument<T>(frame, 2);
  const auto turned = (T*)memory(most(1, shape.weights()) * sizeof(T));
  if (!turned) return out_of_memory(frame);
  T* to = turned;
  for (long place = shape.tall * shape.wide - 1; place >= 0; place--)
    for (long o = 0; o < shape.outputs; o++)
      for (long c = 0; c < shape.channels; c++)
        *to++ = kernel[(place * shape.channels + c) * shape.outputs + o];
  const auto winners = argument<uint8_t>(frame, 1);
  const InputGradient<T> work = {shape, dy, turned, winners, result<T>(frame, 0)};
  return run<T>(frame, work, pieces_of(WIDTH<T>, shape.batch));
}

HANDLER(conv_pool_forward, forward)
HANDLER(conv_pool_backward_kernel, backward_kernel)
HANDLER(conv_pool_backward_input, backward_input)
