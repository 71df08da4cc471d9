// Linear layers of any size, with or without ReLU, forward and backward, for XLA on CPUs.
//
// All three products are computed in blocks. The inputs of a block are packed, so that they are
// contiguous and stay in the thread's own cache, and its outputs are written row by row.
//
// Each result is computed in the same order for any number of threads, so it is reproducible.

#include <cmath>

#include "calls.h"
#include "products.h"

// Depth of a step, so that the step of a panel fits into the L1 cache; rows of a block; columns of
// x whose gradients are sums that fit into the L1 cache.
constexpr long STEP = 256, ROWS = 64, BLOCK = 48;
// Number of rows up to which the work is divided by columns, and each part packs its own kernel.
constexpr long FEW_ROWS = 256, COLUMNS = 4;  // panels
// Number of parts that is enough for a few threads.
constexpr long PARTS = 4;
// For one or two rows: vectors of columns in a part of the work, for wide and for narrow kernels,
// and number of rows of the kernel that are prefetched.
constexpr int THIN = 2, VECTORS = EIGHT ? 8 : 4, FEW_VECTORS = 2, SOON = 8;
// Columns of x in a tile of registers, largest number in a part of the work, and rows that are
// packed at a time.
constexpr long TILE = EIGHT ? 8 : 6, WIDEST = 96, ROUND = 512;
// Sums of a gradient in a part of the work; rows that justify separate sums; limits of groups and
// sums.
constexpr long SUMS = 1 << 17, LONG = 512, MOST_GROUPS = 32, ALL_SUMS = 1 << 20;
// Size in bytes from which rows are written as a whole instead of panel by panel.
constexpr long WIDE = 1024;

// Loads the gradient before ReLU, which is zero where the output is not positive.
template <typename T>
INLINE Vector<T> load_gradient(const T* d, const T* y, long n) {
  const Vector<T> gradient = load(d, n);
  return y ? load(y, n) > 0 ? gradient : Vector<T>{} : gradient;
}

// Prefetches memory piece by piece during other computations.
struct Ahead {
  const char *at, *end;
  long step;

  template <typename T>
  Ahead(const T* from, long numbers, long pieces)
      : at((const char*)from), end((const char*)(from + numbers)),
        step(numbers * sizeof(T) / pieces + 64) {}

  void fetch() {
    for (const char* until = end - at < step ? end : at + step; at < until; at += 64)
      __builtin_prefetch(at, 0, 2);
  }
};

// ---- Products of rows with the kernel -----------------------------------------------------------

// to [rows, columns] = a [rows, depth] times the kernel, plus the bias: the layer's outputs; or
// with the transposed kernel, the gradient of its inputs.
template <typename T>
struct Rows {
  long rows, depth, columns;
  const T *a, *y;  // y: outputs of ReLU, if a is their gradient
  const T *kernel, *bias;
  bool transposed, relu;
  T* to;
  T* packed;  // the kernel in panels, if all parts share it
  mutable std::atomic<bool> starved{false};

  long panels() const { return panels_of<T>(columns); }
  // Number of panels in a part of the work, if it is divided by columns.
  long together() const { return least(COLUMNS, most(1, panels() / PARTS)); }
  bool by_columns() const {
    return rows <= FEW_ROWS && (panels() >= PARTS || rows < PARTS * ROWS);
  }
  long parts() const {
    return by_columns() ? pieces_of(together(), panels()) : pieces_of(ROWS, rows);
  }

  static void pack(const void* data, long panel) {
    const auto& self = *(const Rows*)data;
    T* const to = self.packed + panel * PANEL<T> * self.depth;
    pack_panel(to, self.kernel, self.depth, self.columns, panel * PANEL<T>, self.transposed);
  }

  static void take(const void* data, long part) {
    const auto& self = *(const Rows*)data;
    if (self.by_columns())
      self.take_columns(part * self.together(), self.together());
    else
      self.take_rows(part * ROWS, least(ROWS, self.rows - part * ROWS));
  }

  // Computes some panels of all rows, in steps of the depth.
  void take_columns(long first, long count) const {
    count = least(count, panels() - first);
    const long sums = count * rows * 2, step = least(depth, STEP), panel_size = step * PANEL<T>;
    const long gradients = y ? rows * step : 0;
    const long numbers = count * panel_size + gradients;
    const auto z = (Vector<T>*)memory<1>(sums * BYTES + numbers * sizeof(T));
    if (!z) return give_up();
    T *const at = (T*)(z + sums), *const own = at + count * panel_size;
    for (long panel = 0; panel < count; panel++)
      begin(z + panel * rows * 2, rows, first + panel);
    for (long k = 0; k < depth; k += step) {
      const long some = least(step, depth - k);
      for (long panel = 0; panel < count; panel++)
        pack_some(at + panel * panel_size, first + panel, k, some);
      for (long row = 0; y && row < rows; row++)
        copy_gradients(own + row * step, row * depth + k, some);
      const T* from = y ? own : a + k;
      for (long row = 0; row < rows; row += ROWS)
        for (long panel = 0; panel < count; panel++)
          multiply<T, 2>(z + (panel * rows + row) * 2, 2, least(ROWS, rows - row),
                         from + row * (y ? step : depth), y ? step : depth, 1,
                         (const Vector<T>*)(at + panel * panel_size), some);
    }
    for (long panel = 0; panel < count; panel++) end(to, z + panel * rows * 2, rows, first + panel);
  }

  void pack_some(T* at, long panel, long k, long some) const {
    if (transposed)
      pack_panel_transposed(at, kernel + k, depth, some, columns, panel * PANEL<T>);
    else
      pack_panel(at, kernel + k * columns, some, columns, panel * PANEL<T>);
  }

  void take_rows(long first, long some) const {
    const bool apart = columns * sizeof(T) >= WIDE;
    const long made_apart = apart ? ROWS * columns : 0, gradients = y ? ROWS * depth : 0;
    const auto at = (T*)memory<1>((made_apart + gradients + 1) * sizeof(T));
    if (!at) return give_up();
    T *const made = apart ? at : to + first * columns, *const own = at + made_apart;
    if (y) copy_gradients(own, first * depth, some * depth);
    for (long panel = 0; panel < panels(); panel++) {
      Vector<T> z[ROWS * 2];
      begin(z, some, panel);
      multiply_long(z, some, y ? own : a + first * depth, depth, 1,
                    (const Vector<T>*)(packed + panel * PANEL<T> * depth), depth, STEP);
      end(made, z, some, panel);
    }
    if (apart) memcpy(to + first * columns, made, some * columns * sizeof(T));
  }

  void give_up() const { starved = true; }

  // Copies gradients before ReLU, from element `first` on.
  void copy_gradients(T* at, long first, long numbers) const {
    for (long n = 0; n < numbers; n += WIDTH<T>)
      store<T>(at + n, load_gradient(a + first + n, y + first + n, numbers - n), numbers - n);
  }

  void begin(Vector<T>* z, long some, long panel) const {
    for (int side = 0; side < 2; side++) {
      const long column = panel * PANEL<T> + side * WIDTH<T>;
      const auto start = bias ? load(bias + column, columns - column) : Vector<T>{};
      for (long row = 0; row < some; row++) z[row * 2 + side] = start;
    }
  }

  void end(T* made, const Vector<T>* z, long some, long panel) const {
    for (long row = 0; row < some; row++)
      for (int side = 0; side < 2; side++) {
        const long column = panel * PANEL<T> + side * WIDTH<T>;
        Vector<T> sum = z[row * 2 + side];
        if (relu) sum = sum < 0 ? Vector<T>{} : sum;  // NaN stays NaN
        store<T>(made + row * columns + column, sum, columns - column);
      }
  }
};

// ---- Products of one or two rows with the kernel ------------------------------------------------

// The kernel is read once without packing. The work is divided by columns.
template <typename T>
struct Thin {
  long rows, depth, columns;
  const T *a, *kernel, *bias;
  bool relu;
  T* to;

  bool narrow() const { return columns < PARTS * VECTORS * WIDTH<T>; }
  long width() const { return (narrow() ? FEW_VECTORS : VECTORS) * WIDTH<T>; }
  long parts() const { return pieces_of(width(), columns); }

  static void take(const void* data, long part) {
    const auto& self = *(const Thin*)data;
    const long first = part * self.width();
    if (self.narrow())
      self.rows == 1 ? self.template multiply<1, FEW_VECTORS>(first) : self.template multiply<2, FEW_VECTORS>(first);
    else
      self.rows == 1 ? self.template multiply<1, VECTORS>(first) : self.template multiply<2, VECTORS>(first);
  }

  template <int R, int C>
  void multiply(long first) const {
    const long depth = this->depth, columns = this->columns, left = columns - first;
    Vector<T> sums[R][C];
    UNROLLED (int n = 0; n < C; n++) {
      const long at = n * WIDTH<T>;
      const auto start = bias ? load(bias + first + at, left - at) : Vector<T>{};
      for (int row = 0; row < R; row++) sums[row][n] = start;
    }
    for (long k = 0; k < depth; k++) {
      const T* from = kernel + k * columns + first;
      UNROLLED (int n = 0; n < C; n++) {
        __builtin_prefetch(from + SOON * columns + n * WIDTH<T>, 0, 2);
        const auto some = load(from + n * WIDTH<T>, left - n * WIDTH<T>);
        for (int row = 0; row < R; row++)
          sums[row][n] = fused(some, everywhere(a[row * depth + k]), sums[row][n]);
      }
    }
    UNROLLED (int n = 0; n < C; n++)
      for (int row = 0; row < R; row++) {
        Vector<T> sum = sums[row][n];
        if (relu) sum = sum < 0 ? Vector<T>{} : sum;  // NaN stays NaN
        store<T>(to + row * columns + first + n * WIDTH<T>, sum, left - n * WIDTH<T>);
      }
  }
};

// ---- The gradient of kernel and bias for few rows -----------------------------------------------

// d_kernel [in, out] = x transposed times d, both [rows, …], in rounds of some rows. The work is
// divided by columns of x, and all parts share the packed d.
template <typename T>
struct Columns {
  long in, out;
  const T *x, *d, *y;  // y: outputs of ReLU, or null
  T *d_kernel, *d_bias;
  long first, rows;     // rows of this round
  long width;           // columns in a part of the work, at most WIDEST
  T* packed;            // d in panels
  mutable std::atomic<bool> starved{false};

  long panels() const { return panels_of<T>(out); }
  long parts() const { return pieces_of(width, in); }

  // Divides the columns evenly between threads.
  static long width_of(long in, long threads) {
    const long wanted = most(pieces_of(WIDEST, in), least(PARTS, in / WIDEST));
    const long parts = pieces_of(threads, wanted) * threads;
    return pieces_of(TILE, pieces_of(parts, in)) * TILE;
  }

  // Packs a panel, and sums it for the gradient of the bias.
  static void pack(const void* data, long panel) {
    const auto& self = *(const Columns*)data;
    for (int side = 0; side < 2; side++) {
      const long column = panel * PANEL<T> + side * WIDTH<T>, left = self.out - column;
      T* to = self.packed + panel * PANEL<T> * self.rows + side * WIDTH<T>;
      Vector<T> sum = self.first ? load(self.d_bias + column, left) : Vector<T>{};
      for (long row = 0; row < self.rows; row++, to += PANEL<T>) {
        const long at = (self.first + row) * self.out + column;
        const auto gradient = load_gradient(self.d + at, self.y ? self.y + at : nullptr, left);
        store<T>(to, gradient, WIDTH<T>);
        sum += gradient;
      }
      store<T>(self.d_bias + column, sum, left);
    }
  }

  static void copy_few(T* to, const T* from, long numbers) {
    if (numbers >= TILE)
      memcpy(to, from, TILE * sizeof(T));  // a constant size, which compiles to vector instructions
    else
      memcpy(to, from, numbers * sizeof(T));
  }

  static void take(const void* data, long part) {
    const auto& self = *(const Columns*)data;
    const long begin = part * self.width, count = least(self.width, self.in - begin);
    const long size = TILE * self.rows;
    const auto tiles = (T*)memory<1>(pieces_of(TILE, count) * size * sizeof(T));
    if (!tiles) {
      self.starved = true;
      return;
    }
    for (long row = 0; row < self.rows; row++)
      for (long n = 0; n < count; n += TILE)
        copy_few(tiles + n * self.rows + row * TILE,
                 self.x + (self.first + row) * self.in + begin + n, count - n);
    for (long panel = 0; panel < self.panels(); panel++) {
      Vector<T> sums[WIDEST * 2];
      self.begin(sums, begin, count, panel);
      const auto from = (const Vector<T>*)self.packed + panel * self.rows * 2;
      for (long k = 0; k < self.rows; k += STEP)
        for (long n = 0; n < count; n += TILE)
          multiply<T, 2>(sums + n * 2, 2, least(TILE, count - n), tiles + n * self.rows + k * TILE,
                         1, TILE, from + k * 2, least(STEP, self.rows - k));
      self.end(sums, begin, count, panel);
    }
  }

  void begin(Vector<T>* sums, long row, long count, long panel) const {
    for (long one = 0; one < count; one++)
      for (int side = 0; side < 2; side++) {
        const long column = panel * PANEL<T> + side * WIDTH<T>;
        const T* from = d_kernel + (row + one) * out + column;
        sums[one * 2 + side] = first ? load(from, out - column) : Vector<T>{};
      }
  }

  void end(const Vector<T>* sums, long row, long count, long panel) const {
    for (long one = 0; one < count; one++)
      for (int side = 0; side < 2; side++) {
        const long column = panel * PANEL<T> + side * WIDTH<T>;
        store<T>(d_kernel + (row + one) * out + column, sums[one * 2 + side], out - column);
      }
  }
};

// ---- The gradient of kernel and bias for many rows ----------------------------------------------

// The work is divided by columns of x and by groups of rows, which have separate sums.
template <typename T>
struct Sums {
  long rows, in, out;
  const T *x, *d, *y;  // y: outputs of ReLU, or null
  T *d_kernel, *d_bias;
  long groups, blocks;  // blocks: blocks of columns in a part of the work
  Vector<T>* partial;   // [groups, all blocks, panels, BLOCK, 2]
  Vector<T>* of_bias;   // sums of the bias, [groups, panels, 2]
  mutable std::atomic<bool> starved{false};

  long panels() const { return panels_of<T>(out); }
  long all_blocks() const { return pieces_of(BLOCK, in); }
  long block_size() const { return panels() * BLOCK * 2; }
  long by_group() const { return pieces_of(blocks, all_blocks()); }
  long parts() const { return groups * by_group(); }

  static long groups_of(long rows, long in, long out) {
    return least(least(MOST_GROUPS, rows / LONG), ALL_SUMS / (in * out));
  }

  void divide() {
    groups = groups_of(rows, in, out);
    blocks = least(all_blocks(), most(1, SUMS / (BLOCK * out)));
  }
  long kept() const { return groups * all_blocks() * block_size(); }

  static void take(const void* data, long part) {
    const auto& self = *(const Sums*)data;
    const long group = part / self.by_group(), first = part % self.by_group() * self.blocks;
    const long some = least(self.blocks, self.all_blocks() - first);
    const auto at = (Vector<T>*)memory<1>(ROWS * (self.panels() * 2 * BYTES +
                                                  some * BLOCK * sizeof(T)));
    if (!at) {
      self.starved = true;
      return;
    }
    const auto sums = self.partial + (group * self.all_blocks() + first) * self.block_size();
    memset(sums, 0, some * self.block_size() * BYTES);
    const auto bias = first ? nullptr : self.of_bias + group * self.panels() * 2;
    if (bias) memset(bias, 0, self.panels() * 2 * BYTES);
    const long size = pieces_of(self.groups, self.rows);
    const long end = least(self.rows, (group + 1) * size);
    for (long row = group * size; row < end; row += ROWS)
      self.add(sums, bias, row, end, first, some, at);
  }

  // Adds the products of some rows to the blocks of a gradient.
  void add(Vector<T>* sums, Vector<T>* bias, long row, long end, long first, long some,
           Vector<T>* packed_d) const {
    const long some_rows = least(ROWS, end - row);
    pack_gradients(packed_d, row, some_rows);
    const auto packed_x = (T*)(packed_d + ROWS * panels() * 2);
    pack_inputs(packed_x, row, some_rows, first * BLOCK, some);
    const long next = row + some_rows, rows_ahead = least(ROWS, end - next);
    Ahead of_d(d + next * out, rows_ahead * out, some * panels());
    Ahead of_y(y + next * out, y ? rows_ahead * out : 0, some * panels());
    Ahead of_x(x + next * in, some == all_blocks() ? rows_ahead * in : 0, some * panels());
    for (long block = 0; block < some; block++)
      for (long panel = 0; panel < panels(); panel++, of_d.fetch(), of_y.fetch(), of_x.fetch()) {
        const auto to = sums + (block * panels() + panel) * BLOCK * 2;
        const long columns = least(BLOCK, in - (first + block) * BLOCK);
        multiply<T, 2>(to, 2, columns, packed_x + block * BLOCK * ROWS, 1, BLOCK,
                       packed_d + panel * 2 * some_rows, some_rows);
      }
    if (!bias) return;
    for (long panel = 0; panel < panels(); panel++)
      for (int side = 0; side < 2; side++) {
        Vector<T> sum = bias[panel * 2 + side];
        const Vector<T>* from = packed_d + panel * 2 * some_rows + side;
        for (long one = 0; one < some_rows; one++) sum += from[one * 2];
        bias[panel * 2 + side] = sum;
      }
  }

  void pack_gradients(Vector<T>* to, long row, long some_rows) const {
    for (long one = 0; one < some_rows; one++)
      for (long n = 0; n < panels() * PANEL<T>; n += WIDTH<T>) {
        const long at = (row + one) * out + n;
        to[n / PANEL<T> * 2 * some_rows + one * 2 + n / WIDTH<T> % 2] =
            load_gradient(d + at, y ? y + at : nullptr, out - n);
      }
  }

  // Packs some blocks of columns, [blocks, rows, BLOCK].
  void pack_inputs(T* to, long row, long some_rows, long column, long some) const {
    const long end = least(in, column + some * BLOCK);
    for (long one = 0; one < some_rows; one++)
      for (long n = 0; n < end - column; n += WIDTH<T>) {
        const T* from = x + (row + one) * in + column + n;
        store<T>(to + n / BLOCK * BLOCK * ROWS + one * BLOCK + n % BLOCK,
                 load(from, end - column - n), WIDTH<T>);
      }
  }

  // Sums a block over the groups.
  static void add_up(const void* data, long block) {
    const auto& self = *(const Sums*)data;
    const long columns = least(BLOCK, self.in - block * BLOCK);
    for (long panel = 0; panel < self.panels(); panel++) {
      const auto from = self.partial + block * self.block_size() + panel * BLOCK * 2;
      for (long row = 0; row < columns; row++)
        self.write(self.d_kernel + (block * BLOCK + row) * self.out, from + row * 2,
                   self.all_blocks() * self.block_size(), panel);
      if (block == 0)
        self.write(self.d_bias, self.of_bias + panel * 2, self.panels() * 2, panel);
    }
  }

  void write(T* to, const Vector<T>* from, long apart, long panel) const {
    for (int side = 0; side < 2; side++) {
      Vector<T> sum = from[side];
      for (long group = 1; group < groups; group++) sum += from[group * apart + side];
      const long column = panel * PANEL<T> + side * WIDTH<T>;
      store<T>(to + column, sum, out - column);
    }
  }
};

// ---- Functions for XLA --------------------------------------------------------------------------

template <typename T>
static XLA_FFI_Error* multiply_rows_by(XLA_FFI_CallFrame* frame, Rows<T>& work) {
  const long threads = threads_of(frame);
  if (!work.by_columns()) {
    work.packed = (T*)memory(work.panels() * PANEL<T> * work.depth * sizeof(T));
    if (!work.packed) return out_of_memory(frame);
    share(frame, threads, work.panels(), work.pack, &work);
  }
  share(frame, threads, work.parts(), work.take, &work);
  return work.starved ? out_of_memory(frame) : nullptr;
}

template <typename T>
static XLA_FFI_Error* multiply_thin(XLA_FFI_CallFrame* frame, const Rows<T>& rows) {
  Thin<T> work;
  work.rows = rows.rows, work.depth = rows.depth, work.columns = rows.columns;
  work.a = rows.a, work.kernel = rows.kernel, work.bias = rows.bias;
  work.relu = rows.relu, work.to = rows.to;
  share(frame, threads_of(frame), work.parts(), work.take, &work);
  return nullptr;
}

static bool has_relu(XLA_FFI_CallFrame* frame) {
  return *(const int32_t*)((XLA_FFI_Scalar*)frame->attrs.attrs[0])->value;
}

// Arguments: x [R, I] or its address, the kernel [I, O], optionally the bias [O]. Attribute: relu.
// Result: the outputs [R, O].
template <typename T>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  const auto kernel = given(frame, 1)->dims;
  Rows<T> work;
  work.rows = sizes_of_result(frame, 0)[0], work.depth = kernel[0], work.columns = kernel[1];
  work.a = located<T>(frame, 0), work.y = nullptr;
  work.kernel = argument<T>(frame, 1);
  work.bias = frame->args.size > 2 ? argument<T>(frame, 2) : nullptr;
  work.transposed = false, work.relu = has_relu(frame);
  work.to = result<T>(frame, 0);
  return work.rows <= THIN ? multiply_thin(frame, work) : multiply_rows_by(frame, work);
}

// Arguments: the gradient of the outputs [R, O], the kernel [I, O] and, with ReLU, the outputs.
// Result: the gradient of x [R, I].
template <typename T>
static XLA_FFI_Error* input_gradient(XLA_FFI_CallFrame* frame) {
  const auto d = given(frame, 0)->dims, kernel = given(frame, 1)->dims;
  Rows<T> work;
  work.rows = d[0], work.depth = d[1], work.columns = kernel[0];
  work.a = argument<T>(frame, 0);
  work.y = frame->args.size > 2 ? argument<T>(frame, 2) : nullptr;
  work.kernel = argument<T>(frame, 1), work.bias = nullptr;
  work.transposed = true, work.relu = false;
  work.to = result<T>(frame, 0);
  return multiply_rows_by(frame, work);
}

template <typename Work, typename T>
static void take_gradients(XLA_FFI_CallFrame* frame, Work& work) {
  work.x = argument<T>(frame, 0), work.d = argument<T>(frame, 1);
  work.y = has_relu(frame) ? argument<T>(frame, 2) : nullptr;
  work.d_kernel = result<T>(frame, 0), work.d_bias = result<T>(frame, 1);
}

template <typename T>
static XLA_FFI_Error* multiply_columns(XLA_FFI_CallFrame* frame, Columns<T>& work, long rows) {
  take_gradients<Columns<T>, T>(frame, work);
  const long threads = threads_of(frame);
  work.width = work.width_of(work.in, threads);
  work.packed = (T*)memory(work.panels() * PANEL<T> * least(ROUND, rows) * sizeof(T));
  if (!work.packed) return out_of_memory(frame);
  for (work.first = 0; work.first < rows; work.first += ROUND) {
    work.rows = least(ROUND, rows - work.first);
    share(frame, threads, work.panels(), work.pack, &work);
    share(frame, threads, work.parts(), work.take, &work);
    if (work.starved) return out_of_memory(frame);
  }
  return nullptr;
}

template <typename T>
static XLA_FFI_Error* add_up(XLA_FFI_CallFrame* frame, Sums<T>& work) {
  take_gradients<Sums<T>, T>(frame, work);
  work.divide();
  const long kept = work.kept(), threads = threads_of(frame);
  work.partial = (Vector<T>*)memory((kept + work.groups * work.panels() * 2) * BYTES);
  if (!work.partial) return out_of_memory(frame);
  work.of_bias = work.partial + kept;
  share(frame, threads, work.parts(), work.take, &work);
  if (work.starved) return out_of_memory(frame);
  share(frame, threads, work.all_blocks(), work.add_up, &work);
  return nullptr;
}

// Arguments: x [R, I], the gradient of the outputs [R, O], with ReLU the outputs, and optionally
// the gradient of x, which is not read but computed before (see linear_layer.py). Attribute: relu.
// Results: the gradients of the kernel [I, O] and of the bias [O].
template <typename T>
static XLA_FFI_Error* kernel_gradient(XLA_FFI_CallFrame* frame) {
  const auto x = given(frame, 0)->dims, d = given(frame, 1)->dims;
  if (Sums<T>::groups_of(x[0], x[1], d[1]) > 1) {
    Sums<T> many;
    many.rows = x[0], many.in = x[1], many.out = d[1];
    return add_up(frame, many);
  }
  Columns<T> few;
  few.in = x[1], few.out = d[1];
  return multiply_columns(frame, few, x[0]);
}

HANDLER(linear_layer_forward, forward)
HANDLER(linear_layer_input_gradient, input_gradient)
HANDLER(linear_layer_kernel_gradient, kernel_gradient)
