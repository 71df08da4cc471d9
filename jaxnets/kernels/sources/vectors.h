// Vectors of floating-point numbers, and functions of them.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#ifndef BYTES  // size of a vector
#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
#endif

#define INLINE static inline __attribute__((always_inline))

template <typename T>
struct Format;

template <>
struct Format<float> {
  typedef float Vector __attribute__((vector_size(BYTES), aligned(1), may_alias));
  typedef int32_t Bits __attribute__((vector_size(BYTES)));
  static constexpr int terms = 7, exponent_bias = 127, mantissa = 23;
  static constexpr float most = 88, overflow = 88.72284f, magic = 0x1.8p23f;
  static constexpr float ln2_high = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;
};

template <>
struct Format<double> {
  typedef double Vector __attribute__((vector_size(BYTES), aligned(1), may_alias));
  typedef int64_t Bits __attribute__((vector_size(BYTES)));
  static constexpr int terms = 13, exponent_bias = 1023, mantissa = 52;
  static constexpr double most = 709, overflow = 709.782712893384, magic = 0x1.8p52;
  static constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
};

template <typename T>
using Vector = typename Format<T>::Vector;

// A vector of integers of the same size.
template <typename T>
using Bits = typename Format<T>::Bits;

template <typename T>
constexpr long WIDTH = BYTES / sizeof(T);

constexpr long least(long a, long b) { return a < b ? a : b; }
constexpr long most(long a, long b) { return a > b ? a : b; }

// Number of pieces of a size, including a smaller last one.
constexpr long pieces_of(long size, long all) { return (all + size - 1) / size; }

// Loads fewer elements than a vector has, and zeros. Memory beyond them is not accessed.
template <typename T>
INLINE Vector<T> load_few(const T* from, long n) {
  Vector<T> numbers = {};
  if (n > 0) memcpy(&numbers, from, n * sizeof(T));
  return numbers;
}

template <typename T>
INLINE void store_few(T* to, Vector<T> numbers, long n) {
  if (n > 0) memcpy(to, &numbers, n * sizeof(T));
}

#if BYTES == 64 && defined(__AVX512F__)
INLINE uint32_t first_few(long n) { return n > 0 ? (1u << n) - 1 : 0; }

INLINE Vector<float> load_few(const float* from, long n) {
  return (Vector<float>)_mm512_maskz_loadu_ps(first_few(n), from);
}
INLINE Vector<double> load_few(const double* from, long n) {
  return (Vector<double>)_mm512_maskz_loadu_pd(first_few(n), from);
}
INLINE void store_few(float* to, Vector<float> numbers, long n) {
  _mm512_mask_storeu_ps(to, first_few(n), (__m512)numbers);
}
INLINE void store_few(double* to, Vector<double> numbers, long n) {
  _mm512_mask_storeu_pd(to, first_few(n), (__m512d)numbers);
}
#elif BYTES == 32
template <typename T>
INLINE __m256i first_few(long n) {
  Bits<T> lanes;
  for (int lane = 0; lane < WIDTH<T>; lane++) lanes[lane] = lane;
  return (__m256i)(lanes < Bits<T>{} + (int)n);
}

INLINE Vector<float> load_few(const float* from, long n) {
  return (Vector<float>)_mm256_maskload_ps(from, first_few<float>(n));
}
INLINE Vector<double> load_few(const double* from, long n) {
  return (Vector<double>)_mm256_maskload_pd(from, first_few<double>(n));
}
INLINE void store_few(float* to, Vector<float> numbers, long n) {
  _mm256_maskstore_ps(to, first_few<float>(n), (__m256)numbers);
}
INLINE void store_few(double* to, Vector<double> numbers, long n) {
  _mm256_maskstore_pd(to, first_few<double>(n), (__m256d)numbers);
}
#endif

// Loads up to n elements, and zeros after them.
template <typename T>
INLINE Vector<T> load(const T* from, long n) {
  return n >= WIDTH<T> ? *(const Vector<T>*)from : load_few(from, n);
}

template <typename T>
INLINE void store(T* to, Vector<T> numbers, long n) {
  if (n >= WIDTH<T>)
    *(Vector<T>*)to = numbers;
  else
    store_few(to, numbers, n);
}

template <typename T>
INLINE Vector<T> everywhere(T number) {
  return number - Vector<T>{};
}

// Forces the compiler to keep a vector in a register instead of loading it for each use.
template <typename T>
INLINE Vector<T> kept(Vector<T> numbers) {
#if BYTES == 32 || defined(__AVX512F__)
  asm("" : "+v"(numbers));
#endif
  return numbers;
}

// a b + c with one rounding. Without an intrinsic, compilers contract a sum or not depending on the
// surrounding code, and results would differ in the last bit.
INLINE Vector<float> fused(Vector<float> a, Vector<float> b, Vector<float> c) {
#if BYTES == 32
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__AVX512F__)
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
  return a * b + c;
#endif
}

INLINE Vector<double> fused(Vector<double> a, Vector<double> b, Vector<double> c) {
#if BYTES == 32
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__AVX512F__)
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#else
  return a * b + c;
#endif
}

// Computes exp(x) = 2^n exp(r) with |r| <= ln(2)/2: returns exp(r) - 1, and 2^n in `power`. x must
// not overflow.
template <typename T>
INLINE Vector<T> exp_by_power(Vector<T> x, Vector<T>& power) {
  using F = Format<T>;
  constexpr double factorial[] = {1,     1,      2,       6,        24,        120,        720,
                                  5040,  40320,  362880,  3628800,  39916800,  479001600,  6227020800};
  Vector<T> n = x * (T)1.44269504088896340736 + F::magic;  // rounded to whole numbers
  const auto bits = (Bits<T>)n;
  n -= F::magic;
  const Vector<T> r = x - n * F::ln2_high - n * F::ln2_low;
  Vector<T> series = Vector<T>{} + (T)(1 / factorial[F::terms]);
#pragma GCC unroll 16
  for (int term = F::terms - 1; term > 0; term--) series = series * r + (T)(1 / factorial[term]);
  power = (Vector<T>)((bits + F::exponent_bias) << F::mantissa);
  return series * r;
}

// exp(x) - 1, accurate also near zero.
template <typename T>
INLINE Vector<T> exp_minus_one(Vector<T> x) {
  const Vector<T> most = Vector<T>{} + Format<T>::most;
  x = x > most ? most : x;
  x = x < -most ? -most : x;
  Vector<T> power;
  const Vector<T> small = exp_by_power<T>(x, power);
  return small * power + (power - 1);
}

// exp(x) for x <= 0; the smallest results become zero, and NaN stays NaN.
template <typename T>
INLINE Vector<T> exponential(Vector<T> x) {
  const Vector<T> most = Vector<T>{} + Format<T>::most;
  x = x < -most ? -most : x;
  Vector<T> power;
  const Vector<T> small = exp_by_power<T>(x, power);
  return small * power + power;
}

template <typename T>
INLINE Vector<T> sigmoid(Vector<T> x) {
  const Vector<T> value = 1 / (exp_minus_one<T>(-x) + 2);
  return x < -Format<T>::overflow ? Vector<T>{} : value;  // zero times infinity is NaN
}

template <typename T>
INLINE Vector<T> tangent(Vector<T> x) {  // the hyperbolic tangent
  const Vector<T> e = exp_minus_one<T>(2 * x);
  return e / (e + 2);
}
