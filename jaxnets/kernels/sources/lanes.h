// Vectors of which only the first numbers count: a mask keeps the others from being read or written.
#pragma once

#include "vectors.h"

template <typename T>
struct Lanes {
#if BYTES == 64 && defined(__AVX512F__)
  uint16_t mask;
  explicit Lanes(long count) : mask(count >= WIDTH<T> ? ~0 : (1 << count) - 1) {}
#elif BYTES == 32
  __m256i mask;
  explicit Lanes(long count) {
    Bits<T> numbers = {};
    for (long lane = 0; lane < least(count, WIDTH<T>); lane++) numbers[lane] = -1;
    mask = (__m256i)numbers;
  }
#else
  long count;
  explicit Lanes(long count) : count(count) {}
#endif
};

INLINE Vector<float> load(const float* from, Lanes<float> lanes) {
#if BYTES == 64 && defined(__AVX512F__)
  return (Vector<float>)_mm512_maskz_loadu_ps(lanes.mask, from);
#elif BYTES == 32
  return (Vector<float>)_mm256_maskload_ps(from, lanes.mask);
#else
  return load(from, lanes.count);
#endif
}

INLINE Vector<double> load(const double* from, Lanes<double> lanes) {
#if BYTES == 64 && defined(__AVX512F__)
  return (Vector<double>)_mm512_maskz_loadu_pd(lanes.mask, from);
#elif BYTES == 32
  return (Vector<double>)_mm256_maskload_pd(from, lanes.mask);
#else
  return load(from, lanes.count);
#endif
}

INLINE void store(float* to, Vector<float> numbers, Lanes<float> lanes) {
#if BYTES == 64 && defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, lanes.mask, (__m512)numbers);
#elif BYTES == 32
  _mm256_maskstore_ps(to, lanes.mask, (__m256)numbers);
#else
  store(to, numbers, lanes.count);
#endif
}

INLINE void store(double* to, Vector<double> numbers, Lanes<double> lanes) {
#if BYTES == 64 && defined(__AVX512F__)
  _mm512_mask_storeu_pd(to, lanes.mask, (__m512d)numbers);
#elif BYTES == 32
  _mm256_maskstore_pd(to, lanes.mask, (__m256d)numbers);
#else
  store(to, numbers, lanes.count);
#endif
}

// The same where it is known that all numbers count.
template <bool whole, typename T>
INLINE Vector<T> load_lanes(const T* from, Lanes<T> lanes) {
  return whole ? *(const Vector<T>*)from : load(from, lanes);
}

template <bool whole, typename T>
INLINE void store_lanes(T* to, Vector<T> numbers, Lanes<T> lanes) {
  if (whole)
    *(Vector<T>*)to = numbers;
  else
    store(to, numbers, lanes);
}
