// Functions of single elements, for XLA on CPUs: exact GELU, x Φ(x) with Φ the normal distribution
// function, forward and backward; sine and cosine, which are each other's derivatives.

#include <cmath>

#include "calls.h"

// Number of elements of a part of the work.
constexpr long CHUNK = 16384;

static long numbers_of(const XLA_FFI_Buffer* x) {
  long numbers = 1;
  for (long axis = 0; axis < x->rank; axis++) numbers *= x->dims[axis];
  return numbers;
}

// ---- Exact GELU ---------------------------------------------------------------------------------

// XLA evaluates three series for Φ, one for each range, and selects one of them for each element.
// Here one series covers the whole range.

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

// ---- Sine and cosine ----------------------------------------------------------------------------

// π/2 as a sum of three numbers, each rounded down; the largest |x| for which the remainder of x
// divided by π/2 is computed with them; and minimax polynomials in r² for |r| <= π/4: of
// (sin r - r) / r³, and of (cos r - 1 + r²/2) / r⁴.
template <typename T>
struct Circle;

template <>
struct Circle<float> {
  static constexpr float far = 1e5f, two_over_pi = 0x1.45f306p-1f;
  static constexpr float quarter[] = {0x1.921fb4p0f, 0x1.4442dp-24f, 0x1.846988p-48f};
  static constexpr float sine[] = {-0.1666665365f, 0.008332099751f, -1.950694252e-4f};
  static constexpr float cosine[] = {0.041666644f, -0.001388723344f, 2.442362548e-5f};
};

template <>
struct Circle<double> {
  static constexpr double far = 1e7, two_over_pi = 0x1.45f306dc9c883p-1;
  static constexpr double quarter[] = {0x1.921fb54442d18p0, 0x1.1a62633145c06p-54,
                                       0x1.c1cd129024e08p-107};
  static constexpr double sine[] = {-0.1666666666666662481,   0.008333333333320599527,
                                    -1.98412698283413735e-4,  2.755731317856406171e-6,
                                    -2.505067706999265929e-8, 1.589206245192805142e-10};
  static constexpr double cosine[] = {0.04166666666666658062,   -0.001388888888887088818,
                                      2.480158728747697116e-5,  -2.755731377684042288e-7,
                                      2.087564549192362506e-9,  -1.135564084998726946e-11};
};

template <typename T, int count>
INLINE Vector<T> polynomial(const T (&terms)[count], Vector<T> x) {
  Vector<T> sum = Vector<T>{} + terms[count - 1];
#pragma GCC unroll 8
  for (int term = count - 2; term >= 0; term--) sum = fused(sum, x, Vector<T>{} + terms[term]);
  return sum;
}

// Sine and cosine of x = n π/2 + r, for |x| <= far.
template <typename T>
INLINE void circle(Vector<T> x, Vector<T>& sine, Vector<T>& cosine) {
  using C = Circle<T>;
  constexpr int sign = 8 * sizeof(T) - 2;  // from the second bit to that of the sign
  const Vector<T> shifted = fused(x, Vector<T>{} + C::two_over_pi, Vector<T>{} + Format<T>::magic);
  const auto n = (Bits<T>)shifted;  // its last two bits are the quadrant
  const Vector<T> turns = shifted - Format<T>::magic;
  Vector<T> r = x;
#pragma GCC unroll 3
  for (const T part : C::quarter) r = fused(turns, Vector<T>{} - part, r);
  const Vector<T> square = r * r;
  const Vector<T> rise = fused(r * square, polynomial(C::sine, square), r);
  // The sum above is positive zero for negative zero; otherwise it has the sign of r.
  const auto up = (Vector<T>)((Bits<T>)rise | ((Bits<T>)r & (Bits<T>)everywhere<T>(-(T)0)));
  const Vector<T> curve = fused(square, polynomial(C::cosine, square), Vector<T>{} - (T)0.5);
  const Vector<T> flat = fused(square, curve, Vector<T>{} + 1);
  const Bits<T> odd = -(n & 1);
  sine = (Vector<T>)((Bits<T>)(odd ? flat : up) ^ ((n & 2) << sign));
  cosine = (Vector<T>)((Bits<T>)(odd ? up : flat) ^ (((n + 1) & 2) << sign));
}

template <typename T>
struct Sines {
  long numbers;
  const T* x;
  T *sine, *cosine;  // results; null for one that is not wanted

  static void go(const void* data, long number) {
    const auto& self = *(const Sines*)data;
    const long first = number * CHUNK, end = least(first + CHUNK, self.numbers);
    Bits<T> beyond = {};
    for (long at = first; at < end; at += WIDTH<T>) {
      const Vector<T> x = load(self.x + at, end - at);
      Vector<T> sine, cosine;
      circle<T>(x, sine, cosine);
      beyond |= ~((x <= Circle<T>::far) & (x >= -Circle<T>::far));  // also NaN
      if (self.sine) store<T>(self.sine + at, sine, end - at);
      if (self.cosine) store<T>(self.cosine + at, cosine, end - at);
    }
    bool any = false;
    for (int lane = 0; lane < WIDTH<T>; lane++) any |= beyond[lane] != 0;
    if (any) self.mend(first, end);
  }

  // Computes the results of elements that are too large for `circle`, infinite or NaN.
  void mend(long first, long end) const {
    for (long at = first; at < end; at++) {
      if (std::abs(x[at]) <= Circle<T>::far) continue;
      if (sine) sine[at] = std::sin(x[at]);
      if (cosine) cosine[at] = std::cos(x[at]);
    }
  }
};

// Argument: x, of any shape; results: those of sine and cosine that are wanted, in this order.
template <typename T, bool sine, bool cosine>
static XLA_FFI_Error* sines(XLA_FFI_CallFrame* frame) {
  const Sines<T> work = {numbers_of(given(frame, 0)), argument<T>(frame, 0),
                         sine ? result<T>(frame, 0) : nullptr,
                         cosine ? result<T>(frame, sine) : nullptr};
  share(frame, threads_of(frame), pieces_of(CHUNK, work.numbers), work.go, &work);
  return nullptr;
}

HANDLER(gelu_forward, forward)
HANDLER(gelu_backward, backward)
HANDLER(sine, sines, true, false)
HANDLER(cosine, sines, false, true)
HANDLER(sine_and_cosine, sines, true, true)
