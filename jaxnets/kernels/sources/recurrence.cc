// Recurrent layers over all time steps, in one or both directions, forward and backward.
//
// Examples are independent: each thread computes all steps of some examples, and threads
// synchronize only at the end. In the backward pass, the gradients of the gates stay in the cache
// until they are multiplied with the kernels, the inputs and the hidden states.
//
// Each result is computed in the same order for any number of threads, so it is reproducible.

#include <initializer_list>
#include <type_traits>
#include <utility>

#include "calls.h"
#include "products.h"
#include "transpose.h"

// For each hidden unit: the number of gates in the kernels, of sums that become gates, and of
// values that are kept for the backward pass.
struct Lstm {
  static constexpr int gates = 4, sums = 4, kept = 5;  // kept: i, f, g, o and c
};
struct Gru {
  static constexpr int gates = 3, sums = 4, kept = 4;  // the candidate has two sums
};
struct Tanh {
  static constexpr int gates = 1, sums = 1, kept = 0;
};
struct Relu : Tanh {};

template <typename Cell>
constexpr bool is_lstm = Cell::gates == 4;
template <typename Cell>
constexpr bool is_gru = Cell::gates == 3;

// The arrays of a direction.
template <typename T>
struct Direction {
  bool reverse;
  // Arguments of the forward pass; in the backward pass their gradients.
  T *kernel, *recurrent, *bias, *recurrent_bias, *h_first, *c_first;
  T *c_last, *saved;  // results of the forward pass
  // Arguments of the backward pass.
  const T *input_kernel, *hidden_kernel, *h_before, *c_before, *d_h_last, *d_c_last;
  Vector<T>*packed, *packed_biases;
};

template <typename T, typename Cell>
struct Layer {
  static constexpr int most_directions = 2;
  static constexpr long W = WIDTH<T>;

  long batch, time, inputs, hidden, directions, part;
  const T* x;              // [batch, time, inputs]
  T* outputs;              // [batch, time, directions, hidden]
  const int32_t* lengths;  // length of each example, or null
  Direction<T> direction[most_directions];
  std::atomic<bool> starved{false};

  long parts() const { return pieces_of(part, batch); }

  // The time of a step, in the order of computation.
  long step(const Direction<T>& way, long number) const {
    return way.reverse ? time - 1 - number : number;
  }

  bool lasts(long example, long t) const { return !lengths || t < lengths[example]; }

  long place(long example, long t) const { return example * time + t; }

  long side(const Direction<T>& way) const { return &way - direction; }

  T* output(const Direction<T>& way, long example, long t) const {
    return outputs + (place(example, t) * directions + side(way)) * hidden;
  }

  T* kept(const Direction<T>& way, long example, long t) const {
    return way.saved + (t * batch + example) * Cell::kept * hidden;
  }
};

// ---- Forward ------------------------------------------------------------------------------------

template <typename T, typename Cell>
struct Forward : Layer<T, Cell> {
  using Base = Layer<T, Cell>;
  using Base::hidden, Base::inputs, Base::batch, Base::time, Base::W;

  // A block has as many hidden units as two vectors of sums, or at least one vector of units.
  static constexpr long unit_vectors = Cell::sums == 1 ? 2 : 1, units = unit_vectors * W;
  static constexpr int columns = Cell::gates * unit_vectors;  // vectors of a block in a kernel
  static constexpr int biases = Cell::sums * unit_vectors;

  long blocks() const { return pieces_of(units, hidden); }
  long width() const { return inputs + hidden; }

  static void pack(const void* data, long number) {
    const auto& self = *(const Forward*)data;
    const auto& way = self.direction[number / self.blocks()];
    const long block = number % self.blocks();
    Vector<T>* to = way.packed + block * columns * self.width();
    for (int first = 0; first < columns; first += 2) {
      to = self.pack_columns(to, way.kernel, self.inputs, block, first);
      to = self.pack_columns(to, way.recurrent, self.hidden, block, first);
    }
    to = way.packed_biases + block * biases;
    for (int column = 0; column < columns; column++) {
      const auto one = self.column(way.bias, block, column);
      const auto other = self.column(way.recurrent_bias, block, column);
      const bool apart = is_gru<Cell> && column == 2;
      *to++ = apart ? one : one + other;
      if (apart) *to++ = other;
    }
  }

  // Packs two columns of a block, or the last one, in the layout of the products.
  Vector<T>* pack_columns(Vector<T>* to, const T* kernel, long depth, long block,
                          int first) const {
    for (long k = 0; k < depth; k++, kernel += Cell::gates * hidden)
      for (int one = first; one < least(first + 2, columns); one++)
        *to++ = column(kernel, block, one);
    return to;
  }

  Vector<T> column(const T* row, long block, int number) const {
    const long j = block * units + number % unit_vectors * W;
    return load(row + number / unit_vectors * hidden + j, hidden - j);
  }

  static void take(const void* data, long number) {
    auto& self = *(Forward*)data;
    const long first = number / self.directions * self.part;
    self.run(self.direction[number % self.directions], first, least(self.part, self.batch - first));
  }

  // Computes all steps of some examples.
  void run(const Direction<T>& way, long first, long rows) {
    T* now = (T*)memory<1>(sizeof(T) * rows * (2 * width() + hidden));  // [rows, inputs and hidden]
    if (!now) {
      this->starved = true;
      return;
    }
    T *next = now + rows * width(), *c = next + rows * width();
    copy_rows(now + inputs, width(), way.h_first + first * hidden, hidden, rows, hidden);
    if (is_lstm<Cell>) copy_rows(c, hidden, way.c_first + first * hidden, hidden, rows, hidden);
    for (long number = 0; number < time; number++) {
      const long t = this->step(way, number);
      const T* x = this->x + this->place(first, t) * inputs;
      copy_rows(now, width(), x, time * inputs, rows, inputs);
      for (long block = 0; block < blocks(); block++)
        advance(way, t, first, rows, block, now, next, c);
      copy_rows(this->output(way, first, t), time * this->directions * hidden, next + inputs,
                width(), rows, hidden);
      std::swap(now, next);
    }
    if (is_lstm<Cell>) copy_rows(way.c_last + first * hidden, hidden, c, hidden, rows, hidden);
  }

  static void copy_rows(T* to, long to_row, const T* from, long from_row, long rows, long numbers) {
    for (long row = 0; row < rows; row++, to += to_row, from += from_row)
      memcpy(to, from, numbers * sizeof(T));
  }

  // Computes a step of some examples, for a block of hidden units.
  void advance(const Direction<T>& way, long t, long first, long rows, long block, const T* now,
               T* next, T* c) const {
    Vector<T> z[MOST * 4];
    const Vector<T>* bias = way.packed_biases + block * biases;
    for (long row = 0; row < rows; row++)
      for (int sum = 0; sum < biases; sum++) z[row * biases + sum] = bias[sum];
    const Vector<T>* kernel = way.packed + block * columns * width();
    kernel = add<2>(z, rows, now, kernel, inputs);
    kernel = add<2>(z, rows, now + inputs, kernel, hidden);
    if constexpr (columns > 2) {
      kernel = add<columns - 2>(z + 2, rows, now, kernel, inputs);
      add<columns - 2>(z + (is_gru<Cell> ? 3 : 2), rows, now + inputs, kernel, hidden);
    }
    for (long row = 0; row < rows; row++)
      for (long j = block * units, v = 0; v < unit_vectors && j < hidden; v++, j += W) {
        const T* before = now + row * width() + inputs + j;
        T* after = next + row * width() + inputs + j;
        T* keep = way.saved ? this->kept(way, first + row, t) + j : nullptr;
        if (this->lasts(first + row, t))
          gate(z + row * biases + v, before, after, c + row * hidden + j, keep, hidden - j);
        else
          hold(before, after, c + row * hidden + j, keep, hidden - j);
      }
  }

  template <int vectors>
  const Vector<T>* add(Vector<T>* z, long rows, const T* a, const Vector<T>* kernel,
                       long depth) const {
    multiply_long<T, vectors>(z, biases, rows, a, width(), 1, kernel, depth);
    return kernel + vectors * depth;
  }

  void gate(const Vector<T>* z, const T* before, T* after, T* c, T* keep, long n) const {
    if constexpr (is_lstm<Cell>) {
      const Vector<T> i = sigmoid<T>(z[0]), f = sigmoid<T>(z[1]);
      const Vector<T> g = tangent<T>(z[2]), o = sigmoid<T>(z[3]);
      const Vector<T> cell = f * load(c, n) + i * g;
      store<T>(c, cell, n);
      store<T>(after, o * tangent<T>(cell), n);
      keep_all<5>(keep, {i, f, g, o, cell}, n);
    } else if constexpr (is_gru<Cell>) {
      const Vector<T> r = sigmoid<T>(z[0]), k = sigmoid<T>(z[1]);
      const Vector<T> candidate = tangent<T>(z[2] + r * z[3]);
      store<T>(after, candidate + k * (load(before, n) - candidate), n);
      keep_all<4>(keep, {r, k, candidate, z[3]}, n);
    } else if constexpr (std::is_same_v<Cell, Relu>) {
      store<T>(after, z[0] < 0 ? Vector<T>{} : z[0], n);  // NaN stays NaN
    } else {
      store<T>(after, tangent<T>(z[0]), n);
    }
  }

  void hold(const T* before, T* after, const T* c, T* keep, long n) const {
    store<T>(after, load(before, n), n);
    if (is_lstm<Cell> && keep) store<T>(keep + 4 * hidden, load(c, n), n);
  }

  template <int count>
  void keep_all(T* to, const Vector<T> (&all)[count], long n) const {
    for (int one = 0; to && one < count; one++) store(to + one * hidden, all[one], n);
  }
};

// ---- Forward, for few examples ------------------------------------------------------------------

// With few examples, reading the kernel takes most of the time of a step, so threads divide the
// hidden units of each step. The products with the inputs are computed for all steps in advance.
template <typename T, typename Cell>
struct Few : Forward<T, Cell> {
  using Base = Forward<T, Cell>;
  using Base::hidden, Base::inputs, Base::batch, Base::time, Base::directions, Base::W;

  static constexpr int gates = Cell::gates, sums = Cell::sums;
  static constexpr long most_examples = 2;
  static constexpr int rows = 4;  // rows of the kernel that are read at once

  long chunk;    // vectors of hidden units in a part of the work
  Vector<T>* z;  // for each direction [time, batch, sums, vectors]
  T* states;     // for each direction c [batch, hidden], and h [batch, hidden] before and after
  std::atomic<long> done{0};

  long vectors() const { return pieces_of(W, hidden); }
  long chunks() const { return pieces_of(chunk, vectors()); }
  long row() const { return sums * vectors(); }
  long columns() const { return gates * vectors(); }
  long panels() const { return pieces_of(2, columns()); }
  long state() const { return batch * hidden; }
  Vector<T>* z_of(long side) const { return z + side * time * batch * row(); }

  // Adds the inputs' contribution to two columns, for all steps.
  static void add_inputs(const void* data, long number) {
    auto& self = *(Few*)data;
    const auto panel = (Vector<T>*)memory<1>(BYTES * 2 * self.inputs);
    if (!panel) {
      self.starved = true;
      return;
    }
    const long side = number / self.panels(), first = number % self.panels() * 2;
    const auto& way = self.direction[side];
    const long count = least(2, self.columns() - first);
    for (long one = 0; one < count; one++) {
      const long gate = (first + one) / self.vectors(), j = (first + one) % self.vectors() * W;
      const T* from = way.kernel + gate * self.hidden + j;
      for (long k = 0; k < self.inputs; k++, from += gates * self.hidden)
        panel[k * count + one] = load(from, self.hidden - j);
      self.fill(side, gate, j);
    }
    for (long example = 0; example < self.batch; example++) {
      Vector<T>* to = self.z_of(side) + example * self.row() + first;
      const T* x = self.x + example * self.time * self.inputs;
      const long to_row = self.batch * self.row();
      if (count == 2)
        multiply_long<T, 2>(to, to_row, self.time, x, self.inputs, 1, panel, self.inputs);
      else
        multiply_long<T, 1>(to, to_row, self.time, x, self.inputs, 1, panel, self.inputs);
    }
  }

  // Initializes the sums with the biases.
  void fill(long side, long gate, long j) const {
    const auto& way = this->direction[side];
    const auto one = load(way.bias + gate * hidden + j, hidden - j);
    const auto other = load(way.recurrent_bias + gate * hidden + j, hidden - j);
    const bool apart = is_gru<Cell> && gate == 2;
    Vector<T>* to = z_of(side) + gate * vectors() + j / W;
    for (long step = 0; step < time * batch; step++, to += row()) {
      *to = apart ? one : one + other;
      if (apart) to[vectors()] = other;
    }
  }

  // Computes a chunk of hidden units in a step. Chunks are started in order, so all earlier ones
  // are complete or in progress, and waiting for them cannot deadlock.
  static void take(const void* data, long number) {
    auto& self = *(Few*)data;
    const long of_step = self.chunks() * self.directions, step = number / of_step;
    for (long turns = 1; self.done.load() < step * of_step; turns++)
      if (turns % 1024 == 0) sched_yield();
    const long first = number % of_step / self.directions * self.chunk;
    self.advance(self.direction[number % self.directions], step, first);
    self.done.fetch_add(1);
  }

  void advance(const Direction<T>& way, long number, long first) const {
    const long t = this->step(way, number), count = least(chunk, vectors() - first);
    T *c = states + this->side(way) * 3 * state(), *both[] = {c + state(), c + 2 * state()};
    const T* now = number ? both[number % 2] : way.h_first;
    if (!number && is_lstm<Cell>)
      Base::copy_rows(c + first * W, hidden, way.c_first + first * W, hidden, batch,
                      least(count * W, hidden - first * W));
    Vector<T>* sum = z_of(this->side(way)) + t * batch * row() + first;
    for (long k = 0; k < hidden; k += rows)
      for (long example = 0; example < batch; example++)
        add_hidden(sum + example * row(), way, now + example * hidden, k, first, count);
    for (long example = 0; example < batch; example++)
      for (long v = 0; v < count; v++) {
        const long j = (first + v) * W, at = example * hidden + j;
        T* after = both[(number + 1) % 2] + at;
        T* keep = way.saved ? this->kept(way, example, t) + j : nullptr;
        Vector<T> all[sums];
        for (int one = 0; one < sums; one++) all[one] = sum[example * row() + one * vectors() + v];
        if (this->lasts(example, t))
          this->gate(all, now + at, after, c + at, keep, hidden - j);
        else
          this->hold(now + at, after, c + at, keep, hidden - j);
        store<T>(this->output(way, example, t) + j, load(after, hidden - j), hidden - j);
        if (is_lstm<Cell> && number == time - 1)
          store<T>(way.c_last + at, load(c + at, hidden - j), hidden - j);
      }
  }

  // Adds the contribution of some hidden units to the sums of all gates.
  void add_hidden(Vector<T>* sum, const Direction<T>& way, const T* h, long k, long first,
                  long count) const {
    const long width = gates * hidden;
    for (int gate = 0; gate < gates; gate++) {
      Vector<T>* to = sum + (is_gru<Cell> && gate == 2 ? 3 : gate) * vectors();
      const T* from = way.recurrent + k * width + gate * hidden + first * W;
      const long n = hidden - first * W;
      if (k + rows <= hidden)
        add_rows<rows>(to, from, width, h + k, n, count);
      else
        for (long one = k; one < hidden; one++, from += width)
          add_rows<1>(to, from, width, h + one, n, count);
    }
  }

  template <int depth>
  static void add_rows(Vector<T>* to, const T* from, long width, const T* h, long n, long count) {
    Vector<T> factors[depth];
    UNROLLED (int k = 0; k < depth; k++) factors[k] = kept<T>(everywhere(h[k]));
    const long whole = least(count, n / W);
    for (long v = 0; v < whole; v++) {
      Vector<T> total = to[v];
      UNROLLED (int k = 0; k < depth; k++)
        total = fused(*(const Vector<T>*)(from + k * width + v * W), factors[k], total);
      to[v] = total;
    }
    for (long v = whole; v < count; v++)
      UNROLLED (int k = 0; k < depth; k++)
        to[v] = fused(load(from + k * width + v * W, n - v * W), factors[k], to[v]);
  }
};

// ---- Backward -----------------------------------------------------------------------------------

template <typename T, typename Cell>
struct Backward : Layer<T, Cell> {
  using Base = Layer<T, Cell>;
  using Base::hidden, Base::inputs, Base::batch, Base::time, Base::W;

  static constexpr long panel = PANEL<T>;
  static constexpr int gates = Cell::gates, sums = Cell::sums;

  const T* d_outputs;
  T* dx;             // or null
  Vector<T>* total;  // for each part and direction, the gradients of the rows (see row_length)

  // Each gate begins at a vector boundary.
  long padded() const { return pieces_of(W, hidden) * W; }
  long depth() const { return gates * padded(); }
  long vectors() const { return depth() / W; }
  long dz_row() const { return sums * padded() + W; }
  // A row has the inputs, a one for the bias, the hidden state, and a one for its bias.
  long row_length() const { return inputs + hidden + 2; }
  long totals() const { return row_length() * vectors(); }
  Vector<T>* total_of(long part, long side) const {
    return total + (part * this->directions + side) * totals();
  }
  long input_panels() const { return dx ? panels_of<T>(inputs) : 0; }
  long panels() const { return input_panels() + panels_of<T>(hidden); }

  // Packs the transposed kernels: panels of inputs, then of hidden units.
  static void pack(const void* data, long number) {
    const auto& self = *(const Backward*)data;
    const auto& way = self.direction[number / self.panels()];
    const long at = number % self.panels(), inputs = self.input_panels(), hidden = self.hidden;
    const bool input = at < inputs;
    const T* kernel = input ? way.input_kernel : way.hidden_kernel;
    const long n = (input ? at : at - inputs) * panel, count = input ? self.inputs : hidden;
    Vector<T>* to = way.packed + at * 2 * self.depth();
    for (int gate = 0; gate < gates; gate++)
      for (long unit = 0; unit < self.padded(); unit += W, to += 2 * W)
        for (int side = 0; side < 2; side++) {
          Vector<T> block[W];
          for (long j = 0; j < W; j++) {
            const long row = n + side * W + j;
            const T* from = kernel + (row * gates + gate) * hidden + unit;
            block[j] = row < count ? load(from, hidden - unit) : Vector<T>{};
          }
          transpose<T>(block);
          for (long k = 0; k < W; k++) to[2 * k + side] = block[k];
        }
  }

  static void take(const void* data, long number) {
    auto& self = *(Backward*)data;
    const long end = least((number + 1) * self.part, self.batch);
    memset(self.total_of(number, 0), 0, BYTES * self.directions * self.totals());
    for (long first = number * self.part; first < end; first += MOST)
      for (long side = 0; side < self.directions; side++)
        self.run(self.direction[side], first, least(MOST, end - first),
                 self.total_of(number, side));
  }

  // Number of rows that are added to the kernels' gradients at once. With more rows, these
  // gradients, which may exceed the cache, are read and written less often.
  long rows_at_once() const {
    const long numbers = totals() * W;
    return numbers < 1 << 18 ? 64 : numbers < 1 << 20 ? 128 : 256;
  }

  // A thread's buffers: rows of examples for some steps, and the gradients of their states.
  struct Room {
    T *dz, *row, *d_h, *d_c;
    Vector<T>* panel;
  };

  void run(const Direction<T>& way, long first, long rows, Vector<T>* total) {
    const long steps = most(1, rows_at_once() / rows), all = steps * rows;
    const auto at = (T*)memory<1>(
        sizeof(T) * (all * (2 * W + dz_row() + row_length()) + rows * 2 * hidden));
    if (!at) {
      this->starved = true;
      return;
    }
    Room room = {at + all * 2 * W, nullptr, nullptr, nullptr, (Vector<T>*)at};
    room.row = room.dz + all * dz_row();
    room.d_h = room.row + all * row_length();
    room.d_c = room.d_h + rows * hidden;
    const size_t bytes = rows * hidden * sizeof(T);
    memcpy(room.d_h, way.d_h_last + first * hidden, bytes);
    if (is_lstm<Cell>) memcpy(room.d_c, way.d_c_last + first * hidden, bytes);
    for (long number = time - 1, filled = 0; number >= 0; number--) {
      Room now = room;
      now.dz += filled * rows * dz_row(), now.row += filled * rows * row_length();
      for (long row = 0; row < rows; row++) {
        fill(way, now.row + row * row_length(), first + row, number);
        go_back(way, now, row, first + row, number);
      }
      const long t = this->step(way, number);
      for (long at = 0; at < panels(); at++) through_kernel(way, now, first, rows, t, at);
      if (++filled < steps && number) continue;
      add_up(room, filled * rows, total);
      filled = 0;
    }
    memcpy(way.h_first + first * hidden, room.d_h, bytes);
    if (is_lstm<Cell>) memcpy(way.c_first + first * hidden, room.d_c, bytes);
  }

  const T* h_before(const Direction<T>& way, long example, long number) const {
    return number ? this->output(way, example, this->step(way, number - 1))
                  : way.h_before + example * hidden;
  }

  // Fills the row with which an example's gradients are multiplied.
  void fill(const Direction<T>& way, T* to, long example, long number) const {
    const long t = this->step(way, number);
    memcpy(to, this->x + this->place(example, t) * inputs, inputs * sizeof(T));
    to[inputs] = 1;
    memcpy(to + inputs + 1, h_before(way, example, number), hidden * sizeof(T));
    to[inputs + 1 + hidden] = 1;
  }

  // Computes the gradients of an example's gates.
  void go_back(const Direction<T>& way, const Room& room, long row, long example,
               long number) const {
    const long t = this->step(way, number);
    const T* given =
        d_outputs + (this->place(example, t) * this->directions + this->side(way)) * hidden;
    const bool lasts = this->lasts(example, t);
    const T* kept = this->kept(way, example, t);
    const T* h = h_before(way, example, number);
    for (long j = 0; j < hidden; j += W) {
      const long n = hidden - j;
      T *d_h = room.d_h + row * hidden + j, *dz = room.dz + row * dz_row() + j;
      const Vector<T> dh = load(d_h, n) + load(given + j, n);
      if (!lasts) {
        for (int sum = 0; sum < sums; sum++) put(dz, sum, Vector<T>{});
        store<T>(d_h, dh, n);
      } else if constexpr (is_lstm<Cell>) {
        const T* c = number ? this->kept(way, example, this->step(way, number - 1)) + 4 * hidden
                            : way.c_before + example * hidden;
        lstm(dz, kept + j, dh, load(c + j, n), room.d_c + row * hidden + j, n);
        store<T>(d_h, Vector<T>{}, n);
      } else if constexpr (is_gru<Cell>) {
        store<T>(d_h, gru(dz, kept + j, dh, load(h + j, n), n), n);
      } else {
        const Vector<T> y = load(this->output(way, example, t) + j, n);
        constexpr bool relu = std::is_same_v<Cell, Relu>;
        put(dz, 0, relu ? (y > 0 ? dh : Vector<T>{}) : dh * (1 - y * y));
        store<T>(d_h, Vector<T>{}, n);
      }
    }
  }

  void put(T* dz, int sum, Vector<T> d) const { *(Vector<T>*)(dz + sum * padded()) = d; }

  void lstm(T* dz, const T* kept, Vector<T> dh, Vector<T> c_before, T* d_c, long n) const {
    const Vector<T> i = load(kept, n), f = load(kept + hidden, n);
    const Vector<T> g = load(kept + 2 * hidden, n), o = load(kept + 3 * hidden, n);
    const Vector<T> squashed = tangent<T>(load(kept + 4 * hidden, n));
    const Vector<T> dc = load(d_c, n) + dh * o * (1 - squashed * squashed);
    put(dz, 0, dc * g * (1 - i) * i);
    put(dz, 1, dc * c_before * (1 - f) * f);
    put(dz, 2, dc * i * (1 - g * g));
    put(dz, 3, dh * squashed * (1 - o) * o);
    store<T>(d_c, dc * f, n);
  }

  Vector<T> gru(T* dz, const T* kept, Vector<T> dh, Vector<T> h, long n) const {
    const Vector<T> r = load(kept, n), k = load(kept + hidden, n);
    const Vector<T> candidate = load(kept + 2 * hidden, n), un = load(kept + 3 * hidden, n);
    // In the same order as PyTorch, so that infinite gradients give NaN at the same positions.
    const Vector<T> dn = (dh - dh * k) * (1 - candidate * candidate);
    put(dz, 0, dn * un * (1 - r) * r);
    put(dz, 1, dh * (h - candidate) * (1 - k) * k);
    put(dz, 2, dn);
    put(dz, 3, dn * r);
    return dh * k;
  }

  // Computes a panel of the gradients of the inputs, or of the previous hidden state.
  void through_kernel(const Direction<T>& way, const Room& room, long first, long rows, long t,
                      long at) const {
    const bool input = at < input_panels();
    Vector<T> product[MOST * 2] = {};
    const Vector<T>* packed = way.packed + at * 2 * depth();
    // The candidate of a GRU has different gradients for its sums of inputs and of hidden states.
    const long together = is_gru<Cell> && !input ? 2 * padded() : depth();
    multiply_long(product, rows, room.dz, dz_row(), 1, packed, together);
    if (together < depth())
      multiply_long(product, rows, room.dz + 3 * padded(), dz_row(), 1, packed + 2 * together,
                    padded());
    const long n = (input ? at : at - input_panels()) * panel, count = input ? inputs : hidden;
    const bool adds = !input || this->side(way) > 0;
    T* to = input ? dx + this->place(first, t) * inputs : room.d_h;
    const long to_row = input ? time * inputs : hidden;
    for (long row = 0; row < rows; row++)
      for (int side = 0; side < 2; side++) {
        const long column = n + side * W;
        T* one = to + row * to_row + column;
        const Vector<T> d = product[row * 2 + side];
        store<T>(one, adds ? load(one, count - column) + d : d, count - column);
      }
  }

  // Adds the products of some rows to the gradients of kernels and biases, which are in panels.
  void add_up(const Room& room, long rows, Vector<T>* total) const {
    for (long v = 0; v < vectors(); v += 2) {
      if (v + 1 < vectors())
        add_columns<2>(room, rows, total + v * row_length(), v);
      else
        add_columns<1>(room, rows, total + v * row_length(), v);
    }
  }

  template <int count>
  void add_columns(const Room& room, long rows, Vector<T>* total, long v) const {
    const long of_inputs = inputs + 1, of_hidden = hidden + 1;
    const long shared = 2 * padded() / W;  // vectors of a GRU that both kernels share
    pack_columns<count>(room, rows, v, 0);
    if (!is_gru<Cell> || v + count <= shared) {
      add<count>(room, rows, total, 0, of_inputs + of_hidden);
    } else {
      add<count>(room, rows, total, 0, of_inputs);
      pack_columns<count>(room, rows, v, shared);
      add<count>(room, rows, total, of_inputs, of_hidden);
    }
  }

  template <int count>
  void add(const Room& room, long rows, Vector<T>* total, long first, long numbers) const {
    multiply<T, count>(total + first * count, count, numbers, room.row + first, 1, row_length(),
                       room.panel, rows);
  }

  // Packs vectors of the rows' gradients; from `shared` on, if given, the vectors after them.
  template <int count>
  void pack_columns(const Room& room, long rows, long v, long shared) const {
    for (int one = 0; one < count; one++) {
      const long shift = shared && v + one >= shared ? padded() : 0;
      const T* from = room.dz + (v + one) * W + shift;
      for (long row = 0; row < rows; row++)
        room.panel[row * count + one] = *(const Vector<T>*)(from + row * dz_row());
    }
  }

  static constexpr long rows_of_sum = 8;
  long sum_parts() const { return pieces_of(rows_of_sum, row_length()) * this->directions; }

  // Sums the gradients over the parts, for some rows.
  static void sum_up(const void* data, long number) {
    const auto& self = *(const Backward*)data;
    const long side = number % self.directions, first = number / self.directions * rows_of_sum;
    for (long row = first; row < least(first + rows_of_sum, self.row_length()); row++)
      self.sum_row(side, row);
  }

  void sum_row(long side, long row) const {
    T* to = gradient(this->direction[side], row);
    for (int gate = 0; gate < gates; gate++)
      for (long j = 0; j < hidden; j += W) {
        const long at = place_in_total(row, (gate * padded() + j) / W);
        Vector<T> sum = total_of(0, side)[at];
        for (long part = 1; part < this->parts(); part++) sum += total_of(part, side)[at];
        store<T>(to + gate * hidden + j, sum, hidden - j);
      }
  }

  long place_in_total(long row, long v) const {
    const long first = v / 2 * 2, count = least(2, vectors() - first);
    return first * row_length() + row * count + v % 2;
  }

  T* gradient(const Direction<T>& way, long row) const {
    if (row < inputs) return way.kernel + row * gates * hidden;
    if (row == inputs) return way.bias;
    row -= inputs + 1;
    return row < hidden ? way.recurrent + row * gates * hidden : way.recurrent_bias;
  }
};

// ---- Functions for XLA --------------------------------------------------------------------------

static int32_t number_attribute(XLA_FFI_CallFrame* frame, int number) {
  return *(const int32_t*)((XLA_FFI_Scalar*)frame->attrs.attrs[number])->value;
}

// Reads arguments or results in order.
struct Reader {
  XLA_FFI_CallFrame* frame;
  int number = 0;
  template <typename T>
  T* argument() {
    return ::argument<T>(frame, number++);
  }
  template <typename T>
  T* result() {
    return ::result<T>(frame, number++);
  }
};

// Attributes of both passes, in the order of their names: the number of directions; whether there
// are lengths; whether the last direction is reversed.
template <typename T, typename Cell>
static void describe(XLA_FFI_CallFrame* frame, Layer<T, Cell>& work, Reader& arguments) {
  const auto dims = given(frame, 0)->dims;
  work.batch = dims[0], work.time = dims[1], work.inputs = dims[2];
  work.directions = number_attribute(frame, 0);
  for (long side = 0; side < work.directions; side++)
    work.direction[side].reverse = side == work.directions - 1 && number_attribute(frame, 2);
  work.x = arguments.argument<T>();
  work.lengths = number_attribute(frame, 1) ? arguments.argument<int32_t>() : nullptr;
}

template <typename T, typename Cell>
static XLA_FFI_Error* run_many(XLA_FFI_CallFrame* frame, Forward<T, Cell>& work, long threads) {
  const long directions = work.directions;
  const long packed = work.blocks() * work.columns * work.width();
  const long all = packed + work.blocks() * work.biases;
  const auto at = (Vector<T>*)memory(BYTES * directions * all);
  if (!at) return out_of_memory(frame);
  for (long side = 0; side < directions; side++) {
    work.direction[side].packed = at + side * all;
    work.direction[side].packed_biases = at + side * all + packed;
  }
  work.part = part_size(work.batch, pieces_of(directions, threads));
  share(frame, threads, directions * work.blocks(), work.pack, &work);
  share(frame, threads, directions * work.parts(), work.take, &work);
  return work.starved ? out_of_memory(frame) : nullptr;
}

template <typename T, typename Cell>
static XLA_FFI_Error* run_few(XLA_FFI_CallFrame* frame, Few<T, Cell>& work, long threads) {
  const long directions = work.directions, least_vectors = 4;
  work.chunk = most(least_vectors, pieces_of(pieces_of(threads, directions), work.vectors()));
  const long of_step = directions * work.chunks();
  const long sums = directions * work.time * work.batch * work.row();
  const size_t states = sizeof(T) * directions * 3 * work.state();
  work.z = (Vector<T>*)memory(BYTES * sums + states);
  if (!work.z) return out_of_memory(frame);
  work.states = (T*)(work.z + sums);
  share(frame, threads, directions * work.panels(), work.add_inputs, &work);
  if (work.starved) return out_of_memory(frame);
  share(frame, least(threads, of_step), work.time * of_step, work.take, &work);
  return nullptr;
}

// Arguments: x [B, T, I]; optionally the lengths, int [B]; for each direction the kernels [I, G·H]
// and [H, G·H], two biases [G·H], h [B, H] and for an LSTM c [B, H].
// Results: the outputs [B, T, directions · H]; for each direction of an LSTM the last c [B, H];
// optionally the residuals of each direction, [T, B, kept · H].
template <typename T, typename Cell>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  Few<T, Cell> work;
  Reader arguments = {frame}, results = {frame};
  describe(frame, work, arguments);
  const long threads = threads_of(frame), directions = work.directions;
  for (long side = 0; side < directions; side++) {
    auto& way = work.direction[side];
    way.kernel = arguments.argument<T>();
    work.hidden = given(frame, arguments.number)->dims[0];
    for (T** one : {&way.recurrent, &way.bias, &way.recurrent_bias, &way.h_first})
      *one = arguments.argument<T>();
    if (is_lstm<Cell>) way.c_first = arguments.argument<T>();
  }
  work.outputs = results.result<T>();
  for (long side = 0; is_lstm<Cell> && side < directions; side++)
    work.direction[side].c_last = results.result<T>();
  for (long side = 0; side < directions; side++)
    work.direction[side].saved = results.result<T>();
  return work.batch <= work.most_examples ? run_few(frame, work, threads)
                                          : run_many<T, Cell>(frame, work, threads);
}

// Number of examples in a part of the backward pass: enough to limit the memory for the gradients
// of kernels, of which each part has its own. It does not depend on the number of threads, so that
// the order of sums does not either.
static long part_back(long batch, long numbers) {
  constexpr long most_parts = 16, least_examples = 8, most_numbers = 1 << 23;
  const long parts = most(1, least(most_parts, most_numbers / numbers));
  return most(least_examples, pieces_of(parts, batch));
}

// Arguments: x and the lengths as in the forward pass; the outputs and their gradient
// [B, T, directions · H]; for each direction the kernels, the state before the first step, the
// residuals, and the gradients of the state after the last step.
// Results: for each direction the gradients of the kernels, the biases and the first state;
// optionally that of x.
template <typename T, typename Cell>
static XLA_FFI_Error* backward(XLA_FFI_CallFrame* frame) {
  Backward<T, Cell> work;
  Reader arguments = {frame}, results = {frame};
  describe(frame, work, arguments);
  const long threads = threads_of(frame), directions = work.directions;
  work.outputs = arguments.argument<T>();
  work.d_outputs = arguments.argument<T>();
  for (long side = 0; side < directions; side++) {
    auto& way = work.direction[side];
    way.input_kernel = arguments.argument<T>();
    work.hidden = given(frame, arguments.number)->dims[0];
    way.hidden_kernel = arguments.argument<T>();
    way.h_before = arguments.argument<T>();
    if (is_lstm<Cell>) way.c_before = arguments.argument<T>();
    if (Cell::kept) way.saved = arguments.argument<T>();
    way.d_h_last = arguments.argument<T>();
    if (is_lstm<Cell>) way.d_c_last = arguments.argument<T>();
    for (T** one : {&way.kernel, &way.recurrent, &way.bias, &way.recurrent_bias, &way.h_first})
      *one = results.result<T>();
    if (is_lstm<Cell>) way.c_first = results.result<T>();
  }
  work.dx = results.result<T>();
  work.part = part_back(work.batch, directions * work.totals() * work.W);
  const long packed = work.panels() * 2 * work.depth(), totals = directions * work.totals();
  const auto at = (Vector<T>*)memory(BYTES * (directions * packed + work.parts() * totals));
  if (!at) return out_of_memory(frame);
  for (long side = 0; side < directions; side++) work.direction[side].packed = at + side * packed;
  work.total = at + directions * packed;
  share(frame, threads, directions * work.panels(), work.pack, &work);
  share(frame, threads, work.parts(), work.take, &work);
  if (work.starved) return out_of_memory(frame);
  share(frame, threads, work.sum_parts(), work.sum_up, &work);
  return nullptr;
}

HANDLER(lstm_forward, forward, Lstm)
HANDLER(lstm_backward, backward, Lstm)
HANDLER(gru_forward, forward, Gru)
HANDLER(gru_backward, backward, Gru)
HANDLER(tanh_forward, forward, Tanh)
HANDLER(tanh_backward, backward, Tanh)
HANDLER(relu_forward, forward, Relu)
HANDLER(relu_backward, backward, Relu)
