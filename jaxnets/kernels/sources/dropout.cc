// Dropout, for XLA on CPUs: draws the same bits as jax.random.bernoulli, in the forward pass and
// again in the backward pass, so that no mask is stored.

#include "calls.h"
#include "random.h"

// Number of elements of a part of the work, and number of random numbers drawn at a time.
constexpr long PART = 1 << 14, SOME = 256;

template <typename T>
struct Work {
  const T* x;
  T* y;
  long count;
  bool backward;
  Dropout<T> dropout;

  static void take(const void* data, long part) {
    const auto& self = *(const Work*)data;
    const long end = least(self.count, (part + 1) * PART);
    for (long at = part * PART; at < end; at += SOME) self.drop(at, least(SOME, end - at));
  }

  void drop(long first, long some) const {
    T factors[SOME];
    dropout.factors(factors, first, some);
    for (long n = 0; n < some; n += WIDTH<T>) {
      const Vector<T> factor = *(const Vector<T>*)(factors + n);
      const Vector<T> number = load(x + first + n, some - n);
      // A dropped NaN or infinity becomes NaN, as 0 times it does in XLA; in the gradient it is
      // zero.
      const Vector<T> dropped = backward ? Vector<T>{} : number - number;
      store<T>(y + first + n, factor != 0 ? number * factor : dropped, some - n);
    }
  }
};

// Arguments: x and a key, two words. Attributes: factor, gradient and limit.
// Result: x with some elements dropped; or, with the attribute gradient, the gradient of x from
// that of the result.
template <typename T>
static XLA_FFI_Error* drop(XLA_FFI_CallFrame* frame) {
  const auto attribute = [&](int number) {
    return ((XLA_FFI_Scalar*)frame->attrs.attrs[number])->value;
  };
  const auto x = given(frame, 0);
  const auto key = argument<uint32_t>(frame, 1);
  Work<T> work;
  work.x = argument<T>(frame, 0);
  work.y = result<T>(frame, 0);
  work.count = 1;
  for (int axis = 0; axis < x->rank; axis++) work.count *= x->dims[axis];
  work.backward = *(const int32_t*)attribute(1);
  const T factor = *(const double*)attribute(0);
  work.dropout = {{{key[0], key[1]}}, *(const uint32_t*)attribute(2), factor};
  share(frame, threads_of(frame), pieces_of(PART, work.count), work.take, &work);
  return nullptr;
}

HANDLER(dropout, drop)
