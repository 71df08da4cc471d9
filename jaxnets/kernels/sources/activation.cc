// Exact GELU, x Φ(x) with Φ the normal distribution function, forward and backward, for XLA on
// CPUs.
//
// XLA evaluates three series for Φ, one for each range, and selects one of them for each element.
// Here one series covers the whole range.

#include "calls.h"

// Number of elements of a part of the work.
constexpr long CHUNK = 16384;

// A series for Φ(-a) exp(a²/2), a >= 0, in powers of (a - center) / (a + center), obtained by
// interpolation at Chebyshev points.
template <typename T>
struct Tail;

template <>
struct Tail<float> {
  static constexpr float center = 3.75f;
  static constexpr float terms[] = {0.100039219f,     -0.1784643168f,    0.1254833025f,
                                    -0.06726166014f,  0.02520461679f,    -0.004836578602f,
                                    -7.217617829e-4f, 6.182737564e-4f,   -5.384640554e-6f,
                                    -5.573128946e-5f};
};

template <>
struct Tail<double> {
  static constexpr double center = 4;
  static constexpr double terms[] = {
      0.0944106413019689367,    -0.17039772154845436,     0.124379255339263705,
      -0.071707407337829957,    0.0308648041062912003,    -0.00849209547970567605,
      5.07562075780869647e-4,   6.38813822965132589e-4,   -1.87184278622329503e-4,
      -4.55547036683773945e-5,  2.86484054124117185e-5,   4.63078765212980289e-6,
      -4.3037963543616206e-6,   -8.27411224786384537e-7,  6.62096618872350094e-7,
      2.02599052465660128e-7,   -9.51077613528847312e-8,  -4.90272501310471728e-8,
      1.03025836598891308e-8,   9.25116586448565888e-9,   -3.84036795679138929e-10,
      -9.52702345278524153e-10, -6.11448271752980012e-11};
};

// Φ(x), and exp(-x²/2).
template <typename T>
INLINE Vector<T> distribution(Vector<T> x, Vector<T>& density) {
  constexpr int count = sizeof Tail<T>::terms / sizeof(T);
  const Vector<T> a = x < 0 ? -x : x;
  density = exponential<T>(x * x * (T)-0.5);
  const Vector<T> far = a > 40 ? Vector<T>{} + 40 : a;  // infinity / infinity is NaN
  const Vector<T> u = (far - Tail<T>::center) / (far + Tail<T>::center);
  Vector<T> series = Vector<T>{} + Tail<T>::terms[count - 1];
#pragma GCC unroll 32
  for (int term = count - 2; term >= 0; term--)
    series = fused(series, u, Vector<T>{} + Tail<T>::terms[term]);
  const Vector<T> tail = density * series;
  return x < 0 ? tail : 1 - tail;
}

template <typename T>
struct Gelu {
  long numbers;
  const T *d, *x;
  T* result;

  static void go_forward(const void* data, long number) {
    const auto& self = *(const Gelu*)data;
    const long end = least((number + 1) * CHUNK, self.numbers);
    for (long at = number * CHUNK; at < end; at += WIDTH<T>) {
      const Vector<T> x = load(self.x + at, end - at);
      Vector<T> density;
      store<T>(self.result + at, x * distribution<T>(x, density), end - at);
    }
  }

  // Φ(x) + x φ(x), with φ the normal density.
  static void go_back(const void* data, long number) {
    const auto& self = *(const Gelu*)data;
    const long end = least((number + 1) * CHUNK, self.numbers);
    for (long at = number * CHUNK; at < end; at += WIDTH<T>) {
      const Vector<T> x = load(self.x + at, end - at), d = load(self.d + at, end - at);
      Vector<T> density;
      const Vector<T> value = distribution<T>(x, density);
      const Vector<T> slope = fused(x * (T)0.398942280401432678, density, value);
      store<T>(self.result + at, d * slope, end - at);
    }
  }
};

static long numbers_of(const XLA_FFI_Buffer* x) {
  long numbers = 1;
  for (long axis = 0; axis < x->rank; axis++) numbers *= x->dims[axis];
  return numbers;
}

// Arguments: x, of any shape; result: the outputs.
template <typename T>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  const Gelu<T> work = {numbers_of(given(frame, 0)), nullptr, argument<T>(frame, 0),
                        result<T>(frame, 0)};
  share(frame, threads_of(frame), pieces_of(CHUNK, work.numbers), work.go_forward, &work);
  return nullptr;
}

// Arguments: the gradient of the outputs, and x; result: the gradient of x.
template <typename T>
static XLA_FFI_Error* backward(XLA_FFI_CallFrame* frame) {
  const Gelu<T> work = {numbers_of(given(frame, 0)), argument<T>(frame, 0), argument<T>(frame, 1),
                        result<T>(frame, 0)};
  share(frame, threads_of(frame), pieces_of(CHUNK, work.numbers), work.go_back, &work);
  return nullptr;
}

HANDLER(gelu_forward, forward)
HANDLER(gelu_backward, backward)
