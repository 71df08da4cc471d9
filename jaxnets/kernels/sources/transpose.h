// Blocks of as many rows and columns as a vector has numbers, transposed in registers.
#pragma once

#include <utility>

#include "vectors.h"

// A loop that is written out, so that the arrays it goes through are registers.
#define UNROLLED _Pragma("GCC unroll 16") for

// Transposes each 2x2 numbers of rows a and b and of columns that are as far apart as the rows.
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
