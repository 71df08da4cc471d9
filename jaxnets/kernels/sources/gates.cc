// The gates of an LSTM cell without its product, forward and backward, for XLA on CPUs:
//   c' = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c').

#include "calls.h"

// Number of elements of the state in a part of the work.
constexpr long CHUNK = 4096;

// The activations of some units.
template <typename T>
struct Units {
  Vector<T> i, f, g, o, c, squashed;  // c is the new state, and squashed its hyperbolic tangent

  INLINE Units compute(const T* gates, const long (&places)[4], Vector<T> c, long n) {
    Units units;
    units.i = sigmoid<T>(load(gates + places[0], n));
    units.f = sigmoid<T>(load(gates + places[1], n));
    units.g = tangent<T>(load(gates + places[2], n));
    units.o = sigmoid<T>(load(gates + places[3], n));
    units.c = fused(units.f, c, units.i * units.g);
    units.squashed = tangent<T>(units.c);
    return units;
  }
};

// Rows of 4 `width` gates and of `width` units.
template <typename T>
struct Gates {
  long rows, width;
  long places[4];  // where a row's gates i, f, g and o begin
  const T *gates, *c, *d_h, *d_state;
  T *h, *state, *d_gates, *d_c;

  long part() const { return most(1, CHUNK / width); }

  static void go_forward(const void* data, long number) {
    const auto& self = *(const Gates*)data;
    const long width = self.width, end = least((number + 1) * self.part(), self.rows);
    for (long row = number * self.part(); row < end; row++)
      for (long unit = 0; unit < width; unit += WIDTH<T>) {
        const long at = row * width + unit, left = width - unit;
        const auto units = Units<T>::compute(self.gates + row * 4 * width + unit, self.places,
                                             load(self.c + at, left), left);
        store<T>(self.h + at, units.o * units.squashed, left);
        store<T>(self.state + at, units.c, left);
      }
  }

  static void go_back(const void* data, long number) {
    const auto& self = *(const Gates*)data;
    const long width = self.width, end = least((number + 1) * self.part(), self.rows);
    for (long row = number * self.part(); row < end; row++)
      for (long unit = 0; unit < width; unit += WIDTH<T>) self.go_back(row, unit);
  }

  INLINE Vector<T> slope(Vector<T> sigmoid) { return sigmoid * (1 - sigmoid); }

  __attribute__((always_inline)) void go_back(long row, long unit) const {
    const long at = row * width + unit, wide = row * 4 * width + unit, left = width - unit;
    const Vector<T> before = load(c + at, left), d = load(d_h + at, left);
    const auto units = Units<T>::compute(gates + wide, places, before, left);
    const Vector<T> through = d * units.o * (1 - units.squashed * units.squashed);
    const Vector<T> d_new = load(d_state + at, left) + through;
    T* to = d_gates + wide;
    store<T>(to + places[0], d_new * units.g * slope(units.i), left);
    store<T>(to + places[1], d_new * before * slope(units.f), left);
    store<T>(to + places[2], d_new * units.i * (1 - units.g * units.g), left);
    store<T>(to + places[3], d * units.squashed * slope(units.o), left);
    store<T>(d_c + at, d_new * units.f, left);
  }
};

// Attribute order, int64: the numbers of the gates i, f, g and o in a row.
template <typename T>
static Gates<T> work_of(XLA_FFI_CallFrame* frame) {
  Gates<T> work = {};
  const auto c = given(frame, 1);
  work.width = c->dims[c->rank - 1];
  work.rows = 1;
  for (long axis = 0; axis < c->rank - 1; axis++) work.rows *= c->dims[axis];
  const auto order = (const int64_t*)((XLA_FFI_Array*)frame->attrs.attrs[0])->data;
  for (int gate = 0; gate < 4; gate++) work.places[gate] = order[gate] * work.width;
  work.gates = argument<T>(frame, 0);
  work.c = argument<T>(frame, 1);
  return work;
}

// Arguments: gates [..., 4 width] and c [..., width]; results: h and the new state, like c.
template <typename T>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  auto work = work_of<T>(frame);
  work.h = result<T>(frame, 0);
  work.state = result<T>(frame, 1);
  share(frame, threads_of(frame), pieces_of(work.part(), work.rows), work.go_forward, &work);
  return nullptr;
}

// Arguments: those of forward, and the gradients of its results; results: the gradients of gates
// and c.
template <typename T>
static XLA_FFI_Error* backward(XLA_FFI_CallFrame* frame) {
  auto work = work_of<T>(frame);
  work.d_h = argument<T>(frame, 2);
  work.d_state = argument<T>(frame, 3);
  work.d_gates = result<T>(frame, 0);
  work.d_c = result<T>(frame, 1);
  share(frame, threads_of(frame), pieces_of(work.part(), work.rows), work.go_back, &work);
  return nullptr;
}

HANDLER(gates_forward, forward)
HANDLER(gates_backward, backward)
