// Cross-entropy of logits and classes for each example, forward and backward, for XLA on CPUs.
//
// XLA writes several arrays of the size of the logits, which with many classes exceeds all caches.
// The only such array here is the gradient.

#include <cmath>

#include "calls.h"
#include "reductions.h"

#define METHOD __attribute__((always_inline))

// Number of elements of a part of the work.
constexpr long CHUNK = 16384;

template <typename T>
struct CrossEntropy {
  long rows, classes;
  const T *d, *logits, *labels;
  T *losses, *top, *sum, *d_logits;  // top: the largest logit; sum: the sum of exp(logit - top)

  long part() const { return most(1, CHUNK / classes); }
  long parts() const { return pieces_of(part(), rows); }

  template <void (CrossEntropy::*function)(long) const>
  static void run(const void* data, long number) {
    const auto& self = *(const CrossEntropy*)data;
    const long end = least((number + 1) * self.part(), self.rows);
    for (long row = number * self.part(); row < end; row++) (self.*function)(row);
  }

  // Adds log(sum of exp(logit - largest)) and the difference between the largest and the label's
  // logit.
  void go_forward(long row) const {
    const T* x = logits + row * classes;
    Vector<T> largest = everywhere<T>(-INFINITY), sums = {};
    for (long at = 0; at < classes; at += WIDTH<T>) largest = larger<T>(here(x, at), largest);
    largest = across<T, larger<T>>(largest);
    for (long at = 0; at < classes; at += WIDTH<T>) sums += exponential<T>(here(x, at) - largest);
    const T all = sum_of<T>(sums)[0], label = labels[row];
    losses[row] = std::log(all) - (label < 0 ? 0 : x[(long)label] - largest[0]);
    if (!top) return;
    top[row] = largest[0];
    sum[row] = all;
  }

  // Computes (softmax - one-hot label) times the gradient of the loss.
  void go_back(long row) const {
    const T *x = logits + row * classes, label = labels[row];
    T* dx = d_logits + row * classes;
    const Vector<T> factor = everywhere(d[row] / sum[row]), largest = everywhere(top[row]);
    for (long at = 0; at < classes; at += WIDTH<T>) {
      const Vector<T> logit = load(x + at, classes - at);
      store<T>(dx + at, exponential<T>(logit - largest) * factor, classes - at);
    }
    if (label >= 0) dx[(long)label] -= d[row];
  }

  // Loads a row's logits from `at` on; elements after the last one do not affect sum or maximum.
  METHOD Vector<T> here(const T* x, long at) const {
    const long left = classes - at;
    const Vector<T> logits = load(x + at, left);
    return left >= WIDTH<T> ? logits : first_of<T>(logits, left, -INFINITY);
  }
};

static void shape_of(const XLA_FFI_Buffer* logits, long& rows, long& classes) {
  rows = 1;
  for (long axis = 0; axis < logits->rank - 1; axis++) rows *= logits->dims[axis];
  classes = logits->dims[logits->rank - 1];
}

// Arguments: logits [..., C]; labels [...], as floating-point numbers, negative if invalid.
// Results: the losses [...]; optionally each example's largest logit and its sum of
// exp(logit - largest), [...].
template <typename T>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  CrossEntropy<T> work = {};
  shape_of(given(frame, 0), work.rows, work.classes);
  work.logits = argument<T>(frame, 0);
  work.labels = argument<T>(frame, 1);
  T** results[] = {&work.losses, &work.top, &work.sum};
  for (int number = 0; number < 3; number++) *results[number] = result<T>(frame, number);
  share(frame, threads_of(frame), work.parts(), work.template run<&CrossEntropy<T>::go_forward>,
        &work);
  return nullptr;
}

// Arguments: logits and labels; the largest logits and the sums; the gradients of the losses.
// Result: the gradient of the logits.
template <typename T>
static XLA_FFI_Error* backward(XLA_FFI_CallFrame* frame) {
  CrossEntropy<T> work = {};
  shape_of(given(frame, 0), work.rows, work.classes);
  work.logits = argument<T>(frame, 0);
  work.labels = argument<T>(frame, 1);
  work.top = argument<T>(frame, 2);
  work.sum = argument<T>(frame, 3);
  work.d = argument<T>(frame, 4);
  work.d_logits = result<T>(frame, 0);
  share(frame, threads_of(frame), work.parts(), work.template run<&CrossEntropy<T>::go_back>,
        &work);
  return nullptr;
}

HANDLER(cross_entropy_forward, forward)
HANDLER(cross_entropy_backward, backward)
