// Transposition of square blocks in registers, with as many rows as a vector has elements.
#pragma once

#include <utility>

#include "vectors.h"

// A loop that is unrolled completely, so that the arrays that it indexes stay in registers.
#define UNROLLED _Pragma("GCC unroll 16") for

// Transposes 2x2 blocks: rows a and b, and columns with the same distance as the rows.
template <typename T, int apart, int... at>
INLINE void exchange(Vector<T>& a, Vector<T>& b, std::integer_sequence<int, at...>) {
  constexpr int b0 = WIDTH<T>;  // where b begins, after a
  const Vector<T> upper = __builtin_shufflevector(a, b, (at & apart ? b0 + at - apart : at)...);
  b = __builtin_shufflevector(a, b, (at & apart ? b0 + at : at + apart)...);
  a = upper;
}

template <typename T, int apart = WIDTH<T> / 2>
INLINE void transpose(Vector<T>* rows) {
  UNROLLED (int row = 0; row < WIDTH<T>; row++)
    if (!(row & apart))
      exchange<T, apart>(rows[row], rows[row + apart], std::make_integer_sequence<int, WIDTH<T>>());
  if constexpr (apart > 1) transpose<T, apart / 2>(rows);
}
