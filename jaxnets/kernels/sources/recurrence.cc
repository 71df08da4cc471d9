// Recurrent layers over all time steps, forward and backward, for XLA on CPUs.
//
// An example's recurrence needs no other example's, so each thread takes some examples through all
// steps, and meets the others at the end alone. XLA's own loop runs on one thread, or has its
// threads meet several times a step.
//
// Each number is computed in the same order whichever thread does it, and however many there are.

#include "calls.h"
#include "products.h"

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
    const long first = number * self.part;
    const long rows = least(self.part, self.batch - first);
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
    multiply<T, 2>(z, 4, rows, inputs_now, inputs, 1, kernel, inputs);
    kernel += 2 * inputs;
    multiply<T, 2>(z, 4, rows, h_before, hidden, 1, kernel, hidden);
    kernel += 2 * hidden;
    constexpr int others = Cell::gates - 2;
    multiply<T, others>(z + 2, 4, rows, inputs_now, inputs, 1, kernel, inputs);
    kernel += others * inputs;
    const auto apart = z + (Cell::gates == 3 ? 3 : 2);
    multiply<T, others>(apart, 4, rows, h_before, hidden, 1, kernel, hidden);
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

template <typename T, typename Cell>
struct Backward : Sizes {
  const T *d_outputs, *saved, *state, *initial, *d_h_last, *d_c_last;
  T *dz, *d_h, *d_c, *du;
  const Vector<T>* kernel;

  static constexpr long panel = PANEL<T>;

  static void pack(T* to, const T* kernel, long hidden) {
    const long width = Cell::gates * hidden;
    for (long j = 0; j < hidden; j += panel, to += panel * width)
      pack_panel(to, kernel, width, hidden, j, true);
  }

  static void take_part(const void* data, long number) {
    const auto& self = *(const Backward*)data;
    const long first = number * self.part, hidden = self.hidden;
    const long last = least(first + self.part, self.batch);
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
    store<T>(to, dc * g * (1 - i) * i, n);
    store<T>(to + hidden, dc * load(before, n) * (1 - f) * f, n);
    store<T>(to + 2 * hidden, dc * i * (1 - g * g), n);
    store<T>(to + 3 * hidden, dh * squashed * (1 - o) * o, n);
    store<T>(carried, dc * f, n);
    return Vector<T>{};
  }

  Vector<T> gru(const Vector<T>* all, Vector<T> dh, long at, long j, Vector<T> h, long n) const {
    const Vector<T> r = all[0], k = all[1], candidate = all[2], un = all[3];
    // In this order, as PyTorch: an infinite gradient spoils the same places.
    const Vector<T> dn = (dh - dh * k) * (1 - candidate * candidate);
    const Vector<T> dk = dh * (h - candidate) * (1 - k) * k, dr = dn * un * (1 - r) * r;
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
    multiply_long(sums, rows, from, width, 1, packed, width);
    for (long row = 0; row < rows; row++)
      for (int side = 0; side < 2; side++) {
        const long unit = j + side * WIDTH<T>;
        T* to = d_h + (first + row) * hidden + unit;
        store<T>(to, load(to, hidden - unit) + sums[row * 2 + side], hidden - unit);
      }
  }
};

// ---- What XLA calls -----------------------------------------------------------------------------

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
  const long blocks = pieces_of(WIDTH<T>, hidden);
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
  share(frame, threads, pieces_of(work.part, work.batch), work.take_part, &work);
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
  const long threads = threads_of(frame), hidden = dims[2], panel = PANEL<T>;
  const long panels = panels_of<T>(hidden);
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
  share(frame, threads, pieces_of(work.part, work.batch), work.take_part, &work);
  return nullptr;
}

HANDLER(lstm_forward, forward, Lstm)
HANDLER(lstm_backward, backward, Lstm)
HANDLER(gru_forward, forward, Gru)
HANDLER(gru_backward, backward, Gru)
