// Convolutions of images with bias and ReLU, forward and backward, for XLA on CPUs.
//
// All three passes are sums of products, sum[m][n] += a[m] * b[n], where the b are contiguous and
// fill vectors, and each a is one element. In the forward pass and for the gradient of the input, m
// is an output pixel and b is the packed kernel. For the gradient of the kernel, m is an input
// channel of a tap and b are the gradients of the outputs.
//
// Padding is never read. Output pixels that use the same taps of the kernel are computed together,
// for several examples at a time. So taps on padding or between dilated inputs take no time.
//
// Each result is computed in the same order for any number of threads, so it is reproducible.

#include <cmath>

#include "calls.h"
#include "transpose.h"

// ---- A tile: sums of products that stay in registers --------------------------------------------

// Vectors in a row of a tile, and largest number of rows of a tile with a given number of vectors.
constexpr int WIDE = 2;
constexpr int MOST_ROWS = BYTES == 64 ? 14 : 12;
// Number of rows whose addresses are in registers; the others are loaded each time. Compilers would
// keep them in vector registers, which is slower.
constexpr int ADDRESSES = 8;
constexpr int rows_of(int vectors) { return BYTES == 64 || vectors == 1 ? MOST_ROWS : 6; }

// Consecutive terms of a sum: the offsets of a and b, and the number of terms.
struct Run {
  long a, b, count;
};

template <typename T>
struct Tile {
  const T* a[MOST_ROWS];  // for each row, the base of the runs' offsets
  T* out[MOST_ROWS];      // for each row, the destination of the sums
  const T* start;         // initial values of all rows; if null, those in out
  const T* b;
  const Run* runs;
  long run_count, a_step, b_step;
  long columns;  // columns of out, at most the elements of the vectors
  T least;       // lower bound of the results, 0 for ReLU
};

template <typename T, int rows, int wide>
__attribute__((noinline)) static void compute(const Tile<T>& tile) {
  Vector<T> sums[rows][wide];
  UNROLLED (int row = 0; row < rows; row++)
    UNROLLED (int n = 0; n < wide; n++) {
      const T* from = (tile.start ? tile.start : tile.out[row]) + n * WIDTH<T>;
      sums[row][n] = *(const Vector<T>*)from;
    }
  const T* a[rows];
  UNROLLED (int row = 0; row < rows; row++) a[row] = tile.a[row];
  const long a_step = tile.a_step, b_step = tile.b_step;
  for (const Run *run = tile.runs, *end = run + tile.run_count; run < end; run++) {
    const T* b = tile.b + run->b;
    long at = run->a;
    for (long left = run->count; left > 0; left--, at += a_step, b += b_step) {
      Vector<T> columns[wide];
      UNROLLED (int n = 0; n < wide; n++)
        columns[n] = kept<T>(*(const Vector<T>*)(b + n * WIDTH<T>));
      UNROLLED (int row = 0; row < rows; row++) {
        const T* from = row < ADDRESSES ? a[row] : *(const T* const volatile*)&tile.a[row];
        const Vector<T> factor = everywhere(from[at]);
        UNROLLED (int n = 0; n < wide; n++) sums[row][n] = fused(columns[n], factor, sums[row][n]);
      }
    }
  }
  const long last = tile.columns - (wide - 1) * WIDTH<T>;
  UNROLLED (int row = 0; row < rows; row++)
    UNROLLED (int n = 0; n < wide; n++) {
      const Vector<T> sum = sums[row][n];  // NaN stays NaN
      sums[row][n] = sum < tile.least ? everywhere(tile.least) : sum;
    }
  if (last >= WIDTH<T>)
    UNROLLED (int row = 0; row < rows; row++)
      UNROLLED (int n = 0; n < wide; n++)
        *(Vector<T>*)(tile.out[row] + n * WIDTH<T>) = sums[row][n];
  else
    UNROLLED (int row = 0; row < rows; row++)
      UNROLLED (int n = 0; n < wide; n++)
        store<T>(tile.out[row] + n * WIDTH<T>, sums[row][n], n < wide - 1 ? WIDTH<T> : last);
}

template <typename T, int wide, int... rows>
static void compute_rows(const Tile<T>& tile, long count, std::integer_sequence<int, rows...>) {
  static constexpr void (*table[])(const Tile<T>&) = {compute<T, rows + 1, wide>...};
  table[count - 1](tile);
}

// Computes a tile with at most rows_of(wide) rows.
template <typename T>
static void compute(const Tile<T>& tile, long rows, int wide) {
  if (wide == 1)
    compute_rows<T, 1>(tile, rows, std::make_integer_sequence<int, rows_of(1)>());
  else
    compute_rows<T, 2>(tile, rows, std::make_integer_sequence<int, rows_of(2)>());
}

// ---- Positions that a convolution reads ---------------------------------------------------------

static long common(long a, long b) { return b ? common(b, a % b) : a; }

// Equidistant outputs along an axis that use the same taps. The first output and tap read input x,
// the next output reads x + x_step, the next tap reads x + tap_x.
struct Alike {
  long first, step, count;
  long x, x_step;
  long tap, tap_step, taps, tap_x;

  // The outputs among them from `begin` to `end - 1`.
  Alike within(long begin, long end) const {
    Alike some = *this;
    const long skipped = least(count, most(0, pieces_of(step, begin - first)));
    some.first += skipped * step;
    some.x += skipped * x_step;
    some.count = least(count, most(0, pieces_of(step, end - first))) - skipped;
    return some;
  }

  // The index of a tap among those used, or -1.
  long place_of(long other) const {
    const long place = (other - tap) / tap_step;
    return other >= tap && (other - tap) % tap_step == 0 && place < taps ? place : -1;
  }
};

struct Axis {
  long inputs, taps, outputs;
  long stride, low, dilation, spread;  // spread: the input dilation

  long output_step() const { return spread / common(stride, spread); }
  long x_step() const { return stride / common(stride, spread); }
  long tap_step() const { return spread / common(dilation, spread); }
  long tap_x() const { return dilation / common(dilation, spread); }

  // Whether the convolution is along the other axis only.
  bool idle() const { return inputs == 1 && taps == 1 && outputs == 1 && low == 0; }

  // The position that a tap of an output reads, in units of 1 / spread inputs.
  long place(long output, long tap) const { return output * stride + tap * dilation - low; }

  // A single output.
  Alike one(long output) const {
    Alike all = {output, output_step(), 1, 0, x_step(), 0, tap_step(), 0, tap_x()};
    while (all.tap < taps && place(output, all.tap) % spread) all.tap++;
    while (all.tap < taps && place(output, all.tap) < 0) all.tap += all.tap_step;
    const long x = place(output, all.tap) / spread;
    if (all.tap >= taps || x >= inputs) return all.tap = 0, all;
    all.x = x;
    all.taps = 1 + least((taps - 1 - all.tap) / all.tap_step, (inputs - 1 - x) / all.tap_x);
    return all;
  }

  // Groups all outputs by their taps; returns the number of groups, at most one for each output.
  long sort(Alike* to) const {
    long count = 0;
    for (long output = 0; output < outputs; output++) {
      const Alike next = one(output);
      long at = 0;
      while (at < count && !(to[at].tap == next.tap && to[at].taps == next.taps &&
                             to[at].first + to[at].count * to[at].step == output))
        at++;
      if (at < count)
        to[at].count++;
      else
        to[count++] = next;
    }
    return count;
  }

  // The outputs for which this tap reads an input.
  Alike seeing(long tap) const {
    Alike all = {0, output_step(), 0, 0, x_step(), tap, 1, 1, 0};
    while (all.first < outputs && (place(all.first, tap) % spread || place(all.first, tap) < 0))
      all.first++;
    all.x = place(all.first, tap) / spread;
    if (all.first < outputs && all.x < inputs)
      all.count =
          1 + least((outputs - 1 - all.first) / all.step, (inputs - 1 - all.x) / all.x_step);
    return all;
  }

  // The axis of the convolution that computes the gradient of the input, with flipped taps.
  Axis turned() const {
    return {outputs, taps, inputs, spread, (taps - 1) * dilation - low, dilation, stride};
  }
};

struct Shape {
  long batch;
  Axis rows, columns;
  long groups, channels, outputs;  // channels and outputs of one group

  long taps() const { return rows.taps * columns.taps; }
  long depth() const { return taps() * channels; }
  long x_row() const { return columns.inputs * groups * channels; }
  long x_size() const { return rows.inputs * x_row(); }
  long y_row() const { return columns.outputs * groups * outputs; }
  long y_size() const { return rows.outputs * y_row(); }
  long pixels() const { return rows.outputs * columns.outputs; }
  double products() const { return (double)batch * pixels() * groups * depth() * outputs; }

  Shape turned() const {
    return {batch, rows.turned(), columns.turned(), groups, outputs, channels};
  }
};

template <typename T>
constexpr long vectors_of(long columns) {
  return pieces_of(WIDTH<T>, columns);
}

// Size of an example up to which it fits into the L2 cache.
constexpr long CACHE_BYTES = 1 << 18;

// Amount of work below which waking another thread takes longer.
constexpr double SHORT = 1 << 18;

static long threads_for(XLA_FFI_CallFrame* frame, const Shape& shape) {
  return shape.products() < SHORT ? 1 : threads_of(frame);
}

// Appends terms to runs, or extends the last run.
struct Runs {
  Run* at;
  long count = 0;

  void add(Run next, long a_step, long b_step) {
    if (count) {
      Run& last = at[count - 1];
      if (next.a == last.a + last.count * a_step && next.b == last.b + last.count * b_step) {
        last.count += next.count;
        return;
      }
    }
    at[count++] = next;
  }
};

// Copies gradients, with zeros where y is not positive.
template <typename T>
static void copy_where_positive(T* to, const T* g, const T* y, long count) {
  for (long at = 0; at < count; at += WIDTH<T>) {
    const long n = count - at;
    store<T>(to + at, load(y + at, n) > 0 ? load(g + at, n) : Vector<T>{}, n);
  }
}

// ---- The convolution ----------------------------------------------------------------------------

template <typename T>
struct Convolution : Shape {
  const T *x, *kernel;
  const T* positive;  // x counts as zero where this is not positive; or null
  T* y;
  const T* bias;  // biases of all groups, padded to vectors
  T* packed;      // the kernel in panels, [depth, width of the panel]
  bool relu, transposed;
  long some, splits;  // examples in a part, and into how many parts these are divided
  bool by_panels;     // whether they are divided by channels; otherwise by rows
  const Alike *row_sorts, *column_sorts;
  long row_sort_count, column_sort_count;
  mutable std::atomic<bool> failed{false};

  long vectors() const { return vectors_of<T>(outputs); }
  long panels() const { return pieces_of(WIDE, vectors()); }
  int panel_wide(long panel) const { return least(WIDE, vectors() - panel * WIDE); }
  long padded() const { return vectors() * WIDTH<T>; }
  T* panel_at(long group, long panel) const {
    return packed + depth() * (group * padded() + panel * WIDE * WIDTH<T>);
  }

  // For a few pixels, packing the kernel takes longer than it saves.
  bool packs() const {
    return transposed || outputs % WIDTH<T> || batch * pixels() > 4 * MOST_ROWS;
  }

  // ---- Packing: a part is a tap of a panel ----

  long pack_parts() const { return packs() ? groups * panels() * taps() : 0; }

  static void pack(const void* data, long number) {
    const auto& self = *(const Convolution*)data;
    const long tap = number % self.taps(), panel = number / self.taps() % self.panels();
    const long group = number / self.taps() / self.panels(), wide = self.panel_wide(panel);
    T* to = self.panel_at(group, panel) + tap * self.channels * wide * WIDTH<T>;
    for (long n = 0; n < wide; n++) {
      const long column = (panel * WIDE + n) * WIDTH<T>;
      if (self.transposed)
        self.pack_transposed(to + n * WIDTH<T>, wide * WIDTH<T>, group, tap, column);
      else
        self.pack_straight(to + n * WIDTH<T>, wide * WIDTH<T>, group, tap, column);
    }
  }

  void pack_straight(T* to, long step, long group, long tap, long column) const {
    const long all = groups * outputs;
    const T* from = kernel + tap * channels * all + group * outputs + column;
    for (long c = 0; c < channels; c++)
      store<T>(to + c * step, load(from + c * all, outputs - column), WIDTH<T>);
  }

  // The kernel is [taps, outputs, groups * channels], and its taps are flipped.
  void pack_transposed(T* to, long step, long group, long tap, long column) const {
    const long all = groups * channels, count = least(WIDTH<T>, outputs - column);
    const T* from = kernel + ((taps() - 1 - tap) * outputs + column) * all + group * channels;
    for (long c = 0; c < channels; c += WIDTH<T>) {
      Vector<T> block[WIDTH<T>];
      for (long row = 0; row < WIDTH<T>; row++)
        block[row] = row < count ? load(from + row * all + c, channels - c) : Vector<T>{};
      transpose<T>(block);
      for (long row = 0; row < least(WIDTH<T>, channels - c); row++)
        store<T>(to + (c + row) * step, block[row], WIDTH<T>);
    }
  }

  // ---- Computing: a part is some examples, or some rows of one ----

  long parts() const { return pieces_of(some, batch) * splits; }

  long copied() const { return positive ? some * x_size() : 0; }
  size_t room() const {
    const long turned = narrow() ? groups * channels * plane() + WIDE * WIDTH<T> : 0;
    return (copied() + turned) * sizeof(T) + taps() * sizeof(Run);
  }

  static void take(const void* data, long part) {
    const auto& self = *(const Convolution*)data;
    const auto room = (char*)memory<1>(self.room());
    if (!room) {
      self.failed = true;
      return;
    }
    self.compute_part(part / self.splits * self.some, part % self.splits, room);
  }

  void compute_part(long first, long split, char* room) const {
    const long examples = least(some, batch - first);
    const T* from = x + first * x_size();
    T* const to = y + first * y_size();
    const auto runs = (Run*)room;
    const auto copy = (T*)(runs + taps());
    if (positive) {
      copy_where_positive(copy, from, positive + first * x_size(), examples * x_size());
      from = copy;
    }
    const auto share_of = [&](long all, bool divided, long number) {
      return divided ? (split + number) * all / splits : number * all;
    };
    const long begin = share_of(rows.outputs, !by_panels, 0);
    const long end = share_of(rows.outputs, !by_panels, 1);
    const long every = groups * panels();
    const long first_panel = share_of(every, by_panels, 0);
    const long last_panel = share_of(every, by_panels, 1);
    if (last_panel - first_panel > 1)  // prefetches: panels access memory with large strides
      for (long example = 0; example < examples; example++) {
        const long row = begin * rows.inputs / rows.outputs;
        const long seen = end * rows.inputs / rows.outputs - row;
        fetch<0>(from + example * x_size() + row * x_row(), seen * x_row());
        fetch<1>(to + example * y_size() + begin * y_row(), (end - begin) * y_row());
      }
    for (long example = 0; narrow() && example < examples; example++) {
      turn(copy + copied(), from + example * x_size());
      by_sorts(begin, end, [&](const Alike& down, const Alike& across) {
        if (in_rows(down, across))
          compute_rows(copy + copied(), to + example * y_size(), down, across, runs);
      });
    }
    for (long panel = first_panel; panel < last_panel; panel++)
      by_sorts(begin, end, [&](const Alike& down, const Alike& across) {
        if (!in_rows(down, across))
          compute_alike(from, to, examples, panel / panels(), panel % panels(), down, across, runs);
      });
  }

  // Calls work for each group of outputs with the same taps in some rows.
  template <typename Work>
  void by_sorts(long begin, long end, Work work) const {
    for (long row = 0; row < row_sort_count; row++) {
      const Alike down = row_sorts[row].within(begin, end);
      for (long column = 0; down.count > 0 && column < column_sort_count; column++)
        work(down, column_sorts[column]);
    }
  }

  // Prefetches elements that will be read, or written.
  template <int written>
  static void fetch(const T* from, long count) {
    for (long at = 0; at < count; at += 64 / sizeof(T)) __builtin_prefetch(from + at, written, 2);
  }

  // Computes pixels that use the same taps.
  void compute_alike(const T* from, T* to, long examples, long group, long panel,
                     const Alike& down, const Alike& across, Run* room) const {
    const long column = panel * WIDE * WIDTH<T>, pixel = groups * channels;
    const long out_pixel = groups * outputs;
    const int wide = panel_wide(panel);
    Tile<T> tile;
    tile.start = bias + group * padded() + column;
    tile.b = packs() ? panel_at(group, panel) : kernel + group * outputs + column;
    tile.a_step = 1;
    tile.b_step = packs() ? wide * WIDTH<T> : groups * outputs;
    tile.columns = outputs - column;
    tile.least = relu ? 0 : -INFINITY;
    Runs runs = {room};
    for (long i = 0; i < down.taps; i++)
      for (long j = 0; j < across.taps; j++) {
        const long tap = (down.tap + i * down.tap_step) * columns.taps + across.tap +
                         j * across.tap_step;
        runs.add({i * down.tap_x * x_row() + j * across.tap_x * pixel,
                  tap * channels * tile.b_step, channels},
                 1, tile.b_step);
      }
    tile.runs = room;
    tile.run_count = runs.count;
    from += group * channels + down.x * x_row() + across.x * pixel;
    to += group * outputs + column + down.first * y_row() + across.first * out_pixel;
    const long all = examples * down.count * across.count;
    const long blocks = pieces_of(rows_of(wide), all);
    const T* a = from;
    T* out = to;
    long example = 0, row = 0, left = across.count;
    for (long block = 0, done = 0; block < blocks; block++) {
      const long count = (block + 1) * all / blocks - done;
      for (long m = 0; m < count; m++) {
        tile.a[m] = a;
        tile.out[m] = out;
        a += across.x_step * pixel;
        out += across.step * out_pixel;
        if (--left) continue;
        left = across.count;
        if (++row == down.count) row = 0, example++;
        a = from + example * x_size() + row * down.x_step * x_row();
        out = to + example * y_size() + row * down.step * y_row();
      }
      compute(tile, count, wide);
      done += count;
    }
  }

  // ---- Few output channels: vectors run along the pixels of a channel ----

  bool narrow() const { return 2 * outputs <= WIDTH<T>; }

  // Size of a channel's plane. An odd number of vectors avoids conflicts in the cache.
  long plane() const {
    return (vectors_of<T>(rows.inputs * columns.inputs) / 2 * 2 + 3) * WIDTH<T>;
  }

  // Whether neighbouring outputs read neighbouring inputs, so that vectors can run along rows.
  bool in_rows(const Alike& down, const Alike& across) const {
    const bool dense = down.x_step == 1 && across.x_step == 1 && down.taps && across.taps;
    return narrow() && dense && 2 * across.count >= columns.inputs &&
           down.count * columns.inputs >= 2 * WIDTH<T>;
  }

  // Transposes an example to [groups * channels, plane].
  void turn(T* to, const T* from) const {
    const long all = groups * channels, pixels = rows.inputs * columns.inputs;
    for (long pixel = 0; pixel < pixels; pixel += WIDTH<T>)
      for (long c = 0; c < all; c += WIDTH<T>) {
        Vector<T> block[WIDTH<T>];
        UNROLLED (int one = 0; one < WIDTH<T>; one++)
          block[one] = pixel + one < pixels ? load(from + (pixel + one) * all + c, all - c)
                                            : Vector<T>{};
        transpose<T>(block);
        UNROLLED (int one = 0; one < WIDTH<T>; one++)
          if (c + one < all) *(Vector<T>*)(to + (c + one) * plane() + pixel) = block[one];
      }
  }

  void compute_rows(const T* from, T* to, const Alike& down, const Alike& across,
                    Run* room) const {
    const long width = columns.inputs, tap_numbers = channels * groups * outputs;
    Tile<T> tile;
    tile.start = nullptr;
    tile.least = relu ? 0 : -INFINITY;
    tile.a_step = transposed ? 1 : groups * outputs;
    tile.b_step = plane();
    Runs runs = {room};
    for (long i = 0; i < down.taps; i++)
      for (long j = 0; j < across.taps; j++) {
        const long tap = (down.tap + i * down.tap_step) * columns.taps + across.tap +
                         j * across.tap_step;
        runs.add({(transposed ? taps() - 1 - tap : tap) * tap_numbers,
                  i * down.tap_x * width + j * across.tap_x, channels},
                 tile.a_step, tile.b_step);
      }
    tile.runs = room;
    tile.run_count = runs.count;
    const long all = (down.count - 1) * width + across.count;
    for (long group = 0; group < groups; group++)
      for (long at = 0; at < all; at += WIDE * WIDTH<T>) {
        const int wide = least(WIDE, vectors_of<T>(all - at));
        Vector<T> sums[WIDTH<T> / 2][WIDE];
        for (long o = 0; o < outputs; o++) {
          for (int n = 0; n < wide; n++) sums[o][n] = everywhere(bias[group * padded() + o]);
          tile.a[o] = kernel + (transposed ? (o * groups + group) * channels : group * outputs + o);
          tile.out[o] = (T*)sums[o];
        }
        tile.b = from + group * channels * plane() + down.x * width + across.x + at;
        tile.columns = wide * WIDTH<T>;
        compute(tile, outputs, wide);
        for (int n = 0; n < wide; n++) {
          Vector<T> block[WIDTH<T>];
          UNROLLED (int o = 0; o < WIDTH<T>; o++)
            block[o] = o < outputs ? sums[o % (WIDTH<T> / 2)][n] : Vector<T>{};
          transpose<T>(block);
          long row = (at + n * WIDTH<T>) / width, column = (at + n * WIDTH<T>) % width;
          for (long one = 0; one < least(WIDTH<T>, all - at - n * WIDTH<T>); one++) {
            if (column < across.count)
              store_few(to + (down.first + row * down.step) * y_row() +
                            ((across.first + column * across.step) * groups + group) * outputs,
                        block[one], outputs);
            if (++column == width) column = 0, row++;
          }
        }
      }
  }
};

// ---- The gradient of the kernel -----------------------------------------------------------------

// Bytes of the kernel's gradient and number of pixels that fit into the L2 cache together; number
// of parts of the work; number of channels below which the taps of a kernel's row share a tile.
constexpr long RANGE_BYTES = 1 << 17, PIXELS = 256, MOST_PARTS = 16, FEW = 8;

template <typename T>
struct KernelGradient : Shape {
  const T *x, *g;
  const T* positive;     // the gradient is zero where this is not positive; or null
  T *d_kernel, *d_bias;  // d_bias may be null
  T* sums;               // [chunks, depth, groups * padded]; may be d_kernel if there is one chunk
  T* bias_sums;          // [chunks, groups * padded]
  const Alike* sorts;    // groups of columns
  long sort_count;
  long ranges, chunks;   // numbers of parts of the kernel and of the examples
  long some, lines;      // examples at a time, and rows of their outputs
  T* masked;             // the gradients before ReLU, if several parts need them
  mutable std::atomic<bool> failed{false};

  // Some outputs and their gradients, which are in panels if copied.
  struct Step {
    long first, examples, begin, end;  // ranges of examples and of rows
    const T* g;
    long pixel, panel, group;  // strides

    long lines() const { return end - begin; }
  };

  long vectors() const { return vectors_of<T>(outputs); }
  long panels() const { return pieces_of(WIDE, vectors()); }
  long panel_width() const { return least(WIDE, vectors()) * WIDTH<T>; }
  long padded() const { return panels() * panel_width(); }
  long all_columns() const { return groups * padded(); }
  long numbers() const { return depth() * all_columns(); }
  bool copies() const { return positive || vectors() * WIDTH<T> != outputs; }

  // A strip is a row of the kernel or, for many channels, a tap. A unit is some of its rows, which
  // are channels of taps. For few outputs a unit is a whole tap, and outputs and channels are
  // exchanged.
  bool few() const { return channels < FEW && !narrow(); }
  bool narrow() const { return 2 * outputs <= WIDTH<T> && channels % WIDTH<T> == 0; }
  long strips() const { return few() ? rows.taps : taps(); }
  long strip_rows() const { return depth() / strips(); }
  long blocks() const {
    return narrow() ? 1 : pieces_of(rows_of(least(WIDE, vectors())), strip_rows());
  }
  long strip_units() const { return groups * blocks(); }
  long units() const { return strips() * strip_units(); }

  void plan() {
    const long bytes = pieces_of(RANGE_BYTES, numbers() * sizeof(T));
    ranges = least(units(), least(MOST_PARTS, batch < MOST_PARTS ? most(4, bytes) : bytes));
    chunks = least(batch, most(1, MOST_PARTS / ranges));
    some = least(pieces_of(chunks, batch), most(1, PIXELS / pixels()));
    lines = least(rows.outputs, most(1, 4 * PIXELS / columns.outputs));
  }

  // Whether the sums are the result, without another summation.
  bool whole() const { return chunks == 1 && padded() == outputs && !narrow(); }

  long copied() const { return copies() ? some * lines * columns.outputs * all_columns() : 0; }

  static void take(const void* data, long part) {
    const auto& self = *(const KernelGradient*)data;
    const size_t copied = self.copied() * sizeof(T);
    const auto room = (char*)memory<1>(copied + self.some * self.lines * sizeof(Run));
    if (!room) {
      self.failed = true;
      return;
    }
    const long chunk = part / self.ranges, range = part % self.ranges;
    const long begin = chunk * self.batch / self.chunks;
    const long end = (chunk + 1) * self.batch / self.chunks;
    if (range == 0)
      memset(self.bias_sums + chunk * self.all_columns(), 0, self.all_columns() * sizeof(T));
    if (self.few() || self.narrow()) self.clear(chunk, range);
    for (long first = begin; first < end; first += self.some)
      for (long line = 0; line < self.rows.outputs; line += self.lines) {
        Step step = {first, least(self.some, end - first), line,
                     least(line + self.lines, self.rows.outputs)};
        self.find(step, (T*)room);
        self.add(chunk, range, step, first == begin && line == 0, (Run*)(room + copied));
      }
  }

  long first_unit(long range) const { return range * units() / ranges; }

  // The first row of the kernel in a unit.
  long unit_row(long unit) const {
    const long strip = unit / strip_units(), block = unit % blocks();
    return strip * strip_rows() + block * strip_rows() / blocks();
  }

  long unit_rows(long unit) const {
    const long block = unit % blocks();
    return (block + 1) * strip_rows() / blocks() - block * strip_rows() / blocks();
  }

  void clear(long chunk, long range) const {
    T* const to = sums + chunk * numbers();
    for (long unit = first_unit(range); unit < first_unit(range + 1); unit++) {
      const long row = unit_row(unit), group = unit / blocks() % groups;
      if (narrow())
        memset(to + row * all_columns() + group * outputs * channels, 0,
               outputs * channels * sizeof(T));
      else
        for (long next = row; next < row + unit_rows(unit); next++)
          memset(to + next * all_columns() + group * padded(), 0, padded() * sizeof(T));
    }
  }

  // Finds the gradients of a step, and copies them if their layout is unsuitable.
  void find(Step& step, T* room) const {
    const long all = groups * outputs, count = step.lines() * columns.outputs;
    const long offset = step.first * pixels() + step.begin * columns.outputs;
    if (!copies()) {
      step.g = g + offset * all, step.pixel = all;
      step.panel = panel_width(), step.group = outputs;
      return;
    }
    step.g = room, step.pixel = panel_width();
    step.panel = step.examples * count * step.pixel, step.group = step.panel * panels();
    for (long example = 0; example < step.examples; example++)
      for (long group = 0; group < groups; group++)
        for (long n = 0; n < outputs; n += WIDTH<T>) {
          const long at = (offset + example * pixels()) * all + group * outputs + n;
          T* to = room + group * step.group + n / panel_width() * step.panel +
                  example * count * step.pixel + n % panel_width();
          for (long pixel = 0; pixel < count; pixel++, to += step.pixel) {
            Vector<T> numbers = load(g + at + pixel * all, outputs - n);
            if (positive)
              numbers = load(positive + at + pixel * all, outputs - n) > 0 ? numbers : Vector<T>{};
            *(Vector<T>*)to = numbers;
          }
        }
  }

  // Whether the gradients before ReLU are computed once, because several parts need them.
  bool masks() const { return positive && ranges > 1; }

  static void mask(const void* data, long example) {
    const auto& self = *(const KernelGradient*)data;
    const long at = example * self.y_size();
    copy_where_positive(self.masked + at, self.g + at, self.positive + at, self.y_size());
  }

  // Stride between examples of a step in g.
  long example_step(const Step& step) const {
    return (copies() ? step.lines() * columns.outputs : pixels()) * step.pixel;
  }

  void add(long chunk, long range, const Step& step, bool fresh, Run* room) const {
    alignas(64) static constexpr T zeros[WIDE * WIDTH<T>] = {};
    const bool begins = fresh && !few() && !narrow();  // the sums are not initialized
    T* const to = sums + chunk * numbers();
    if (range == 0 && d_bias) add_bias(bias_sums + chunk * all_columns(), step);
    const long begin = first_unit(range), end = first_unit(range + 1);
    for (long strip = begin / strip_units(); strip * strip_units() < end; strip++) {
      const long from = most(begin, strip * strip_units());
      const long until = least(end, (strip + 1) * strip_units());
      const long row_tap = few() ? strip : strip / columns.taps;
      const Alike down = rows.seeing(row_tap).within(step.begin, step.end);
      const Alike alone = columns.seeing(strip % columns.taps);
      for (long sort = 0; sort < (few() ? sort_count : 1); sort++) {
        const Alike& across = few() ? sorts[sort] : alone;
        if (!begins && (!down.count || !across.count || !across.taps)) continue;
        Tile<T> tile;
        tile.start = begins ? zeros : nullptr;
        list_runs(tile, room, step, down, across);
        const T* a = x + step.first * x_size() + down.x * x_row() + across.x * groups * channels;
        for (long unit = from; unit < until; unit++)
          if (narrow())
            add_narrow_unit(tile, to, a, unit, step);
          else
            add_unit(tile, to, a, unit, row_tap, across, step);
      }
    }
  }

  void add_unit(Tile<T>& tile, T* to, const T* a, long unit, long row_tap, const Alike& across,
                const Step& step) const {
    const long group = unit / blocks() % groups, row = unit_row(unit);
    long count = 0;
    to += group * padded();
    for (long next = row, end = row + unit_rows(unit); next < end;) {
      const long tap = next / channels, c = next % channels, some = least(channels - c, end - next);
      const long place = across.place_of(tap - row_tap * columns.taps);
      const T* from = a + (place * across.tap_x * groups + group) * channels + c;
      for (long m = 0; place >= 0 && m < some; m++) {
        tile.a[count] = from + m;
        tile.out[count++] = to + (next + m) * all_columns();
      }
      next += some;
    }
    for (long panel = 0; count && panel < panels(); panel++) {
      const int wide = least(WIDE, vectors() - panel * WIDE);
      tile.b = step.g + group * step.group + panel * step.panel;
      tile.columns = wide * WIDTH<T>;
      compute(tile, count, wide);
      for (long m = 0; m < count; m++) tile.out[m] += panel_width();
    }
  }

  // Adds the gradient of a whole tap, [outputs, channels] from its first row on.
  void add_narrow_unit(Tile<T>& tile, T* to, const T* x, long unit, const Step& step) const {
    const long group = unit % groups;
    to += unit_row(unit) * all_columns() + group * outputs * channels;
    for (long c = 0; c < channels; c += WIDE * WIDTH<T>) {
      const int wide = least(WIDE, (channels - c) / WIDTH<T>);
      for (long o = 0; o < outputs; o++) {
        tile.a[o] = step.g + group * step.group + o;
        tile.out[o] = to + o * channels + c;
      }
      tile.b = x + group * channels + c;
      tile.columns = wide * WIDTH<T>;
      compute(tile, outputs, wide);
    }
  }

  // Lists the outputs of a step that use the same taps.
  void list_runs(Tile<T>& tile, Run* room, const Step& step, const Alike& down,
                 const Alike& across) const {
    const long a_row = down.x_step * x_row();
    const long b_row = down.step * columns.outputs * step.pixel;
    const bool by_rows = across.count > 1;
    tile.least = -INFINITY;
    tile.a_step = by_rows ? across.x_step * groups * channels : a_row;
    tile.b_step = by_rows ? across.step * step.pixel : b_row;
    if (narrow()) std::swap(tile.a_step, tile.b_step);
    Runs runs = {room};
    for (long example = 0; example < step.examples; example++)
      for (long row = 0; row < down.count; row++) {
        Run next = {example * x_size() + row * a_row,
                    example * example_step(step) + row * b_row +
                        ((down.first - step.begin) * columns.outputs + across.first) * step.pixel,
                    across.count};
        if (narrow()) std::swap(next.a, next.b);
        runs.add(next, tile.a_step, tile.b_step);
      }
    tile.runs = room;
    tile.run_count = runs.count;
  }

  void add_bias(T* to, const Step& step) const {
    const long count = step.lines() * columns.outputs;
    for (long group = 0; group < groups; group++)
      for (long n = 0; n < outputs; n += WIDTH<T>) {
        const T* from = step.g + group * step.group + n / panel_width() * step.panel +
                        n % panel_width();
        Vector<T> even = {}, odd = {};
        for (long example = 0; example < step.examples; example++) {
          const T* next = from + example * example_step(step);
          for (long left = count; left > 0; left -= 2, next += 2 * step.pixel) {
            even += *(const Vector<T>*)next;
            if (left > 1) odd += *(const Vector<T>*)(next + step.pixel);
          }
        }
        *(Vector<T>*)(to + group * padded() + n) += even + odd;
      }
  }

  // ---- Adding up: a part is some rows of the kernel ----

  long sum_parts() const { return whole() ? 1 : least(MOST_PARTS, depth()); }

  static void add_up(const void* data, long part) {
    const auto& self = *(const KernelGradient*)data;
    const long all = self.depth(), parts = self.sum_parts();
    if (part == 0 && self.d_bias) self.add_row(self.d_bias, self.bias_sums, self.all_columns());
    if (self.whole()) return;
    for (long row = part * all / parts; row < (part + 1) * all / parts; row++) {
      T* const to = self.d_kernel + row * self.groups * self.outputs;
      if (self.narrow())
        self.add_narrow_row(to, row / self.channels, row % self.channels);
      else
        self.add_row(to, self.sums + row * self.all_columns(), self.numbers());
    }
  }

  void add_row(T* to, const T* sums, long chunk_step) const {
    for (long group = 0; group < groups; group++)
      for (long n = 0; n < outputs; n += WIDTH<T>) {
        const T* from = sums + group * padded() + n;
        Vector<T> sum = *(const Vector<T>*)from;
        for (long chunk = 1; chunk < chunks; chunk++)
          sum += *(const Vector<T>*)(from + chunk * chunk_step);
        store<T>(to + group * outputs + n, sum, outputs - n);
      }
  }

  void add_narrow_row(T* to, long tap, long c) const {
    for (long o = 0; o < groups * outputs; o++) {
      const T* from = sums + tap * channels * all_columns() + o * channels + c;
      T sum = *from;
      for (long chunk = 1; chunk < chunks; chunk++) sum += from[chunk * numbers()];
      to[o] = sum;
    }
  }
};

// ---- Functions for XLA --------------------------------------------------------------------------

// All three functions have the attribute geometry, int64: stride, padding before, dilation and
// input dilation, each for rows and columns; the number of groups; whether ReLU follows.
static const int64_t* geometry_of(XLA_FFI_CallFrame* frame) {
  return (const int64_t*)((XLA_FFI_Array*)frame->attrs.attrs[0])->data;
}

static XLA_FFI_Buffer* returned(XLA_FFI_CallFrame* frame, int number) {
  return (XLA_FFI_Buffer*)frame->rets.rets[number];
}

static Shape shape_of(XLA_FFI_CallFrame* frame, const XLA_FFI_Buffer* x,
                      const XLA_FFI_Buffer* kernel, const XLA_FFI_Buffer* y) {
  const auto at = geometry_of(frame);
  const auto a = x->dims, b = kernel->dims, c = y->dims;
  const Axis down = {a[1], b[0], c[1], at[0], at[2], at[4], at[6]};
  const Axis across = {a[2], b[1], c[2], at[1], at[3], at[5], at[7]};
  return {a[0], down, across, at[8], b[2], b[3] / at[8]};
}

template <typename T>
static XLA_FFI_Error* convolve(XLA_FFI_CallFrame* frame, Convolution<T>& work, const T* bias) {
  if (work.rows.idle()) std::swap(work.rows, work.columns);  // a sequence is then divided by rows
  const long threads = threads_for(frame, work), groups = work.groups;
  const long pixels = most(1, work.pixels());
  work.some = most(1, least(pieces_of(2 * threads, work.batch), 256 / pixels));
  const long whole = pieces_of(work.some, work.batch);
  const long wanted = threads == 1 ? 1 : pieces_of(whole, 2 * threads);
  // Only some rows at a time of an example that exceeds the cache, unless it is copied as a whole.
  const long bytes = (work.x_size() + work.y_size()) * sizeof(T);
  const long bands = work.narrow() || work.positive ? 1 : pieces_of(CACHE_BYTES, bytes);
  work.by_panels =
      bands == 1 && !work.narrow() && groups * work.panels() >= pieces_of(whole, threads);
  work.splits = least(work.by_panels ? groups * work.panels() : work.rows.outputs,
                      most(wanted, bands));
  const size_t packed =
      work.packs() ? groups * work.padded() * work.depth() * sizeof(T) : 0;
  const size_t sorts = (work.rows.outputs + work.columns.outputs) * sizeof(Alike);
  const size_t biases = groups * work.padded() * sizeof(T);
  const auto room = (char*)memory(packed + biases + sorts);
  if (!room) return out_of_memory(frame);
  work.packed = (T*)room;
  const auto filled = (T*)(room + packed);
  const auto row_sorts = (Alike*)(room + packed + biases);
  const auto column_sorts = row_sorts + work.rows.outputs;
  memset(filled, 0, biases);
  for (long group = 0; bias && group < groups; group++)
    memcpy(filled + group * work.padded(), bias + group * work.outputs, work.outputs * sizeof(T));
  work.bias = filled;
  work.row_sorts = row_sorts, work.column_sorts = column_sorts;
  work.row_sort_count = work.rows.sort(row_sorts);
  work.column_sort_count = work.columns.sort(column_sorts);
  share(frame, threads, work.pack_parts(), work.pack, &work);
  share(frame, threads, work.parts(), work.take, &work);
  return work.failed ? out_of_memory(frame) : nullptr;
}

template <typename T>
static XLA_FFI_Error* gradient(XLA_FFI_CallFrame* frame, KernelGradient<T>& work) {
  work.plan();
  const long threads = threads_for(frame, work);
  const long sums = work.whole() ? 0 : work.chunks * work.numbers();
  const long biases = work.chunks * work.all_columns();
  const auto room = (T*)memory((sums + biases) * sizeof(T) + work.columns.outputs * sizeof(Alike));
  if (!room) return out_of_memory(frame);
  const auto sorts = (Alike*)(room + sums + biases);
  work.sums = work.whole() ? work.d_kernel : room, work.bias_sums = room + sums;
  work.sorts = sorts, work.sort_count = work.columns.sort(sorts);
  if (work.masks()) {
    work.masked = (T*)memory<2>(work.batch * work.y_size() * sizeof(T));
    if (!work.masked) return out_of_memory(frame);
    share(frame, threads, work.batch, work.mask, &work);
    work.g = work.masked, work.positive = nullptr;
  }
  share(frame, threads, work.ranges * work.chunks, work.take, &work);
  if (work.failed) return out_of_memory(frame);
  share(frame, threads, work.sum_parts(), work.add_up, &work);
  return nullptr;
}

// Arguments: x [N, H, W, C], the kernel [height, width, C / groups, O], optionally the bias [O].
// Results: y [N, H', W', O].
template <typename T>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  Convolution<T> work = {shape_of(frame, given(frame, 0), given(frame, 1), returned(frame, 0))};
  work.x = argument<T>(frame, 0), work.kernel = argument<T>(frame, 1);
  work.y = result<T>(frame, 0);
  work.relu = geometry_of(frame)[9];
  return convolve<T>(frame, work, frame->args.size > 2 ? argument<T>(frame, 2) : nullptr);
}

// Arguments: the gradient of y; the kernel; with ReLU, y.
// Results: the gradient of x.
template <typename T>
static XLA_FFI_Error* backward_input(XLA_FFI_CallFrame* frame) {
  const auto shape = shape_of(frame, returned(frame, 0), given(frame, 1), given(frame, 0));
  Convolution<T> work = {shape.turned()};
  work.x = argument<T>(frame, 0), work.kernel = argument<T>(frame, 1);
  work.y = result<T>(frame, 0);
  work.transposed = true;
  work.positive = geometry_of(frame)[9] ? argument<T>(frame, 2) : nullptr;
  return convolve<T>(frame, work, nullptr);
}

// Arguments: x; the gradient of y; with ReLU, y.
// Results: the gradients of the kernel and, optionally, of the bias.
template <typename T>
static XLA_FFI_Error* backward_kernel(XLA_FFI_CallFrame* frame) {
  KernelGradient<T> work = {shape_of(frame, given(frame, 0), returned(frame, 0), given(frame, 1))};
  work.x = argument<T>(frame, 0), work.g = argument<T>(frame, 1);
  work.positive = geometry_of(frame)[9] ? argument<T>(frame, 2) : nullptr;
  work.d_kernel = result<T>(frame, 0), work.d_bias = result<T>(frame, 1);
  return gradient<T>(frame, work);
}

HANDLER(convolution_forward, forward)
HANDLER(convolution_backward_input, backward_input)
HANDLER(convolution_backward_kernel, backward_kernel)
