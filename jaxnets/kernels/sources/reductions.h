// Reductions of a vector.
#pragma once

#include <utility>

#include "vectors.h"

template <typename T>
INLINE Vector<T> larger(Vector<T> a, Vector<T> b) {
  return a > b ? a : b;
}

template <typename T>
INLINE Vector<T> total(Vector<T> a, Vector<T> b) {
  return a + b;
}

template <typename T, int apart, int... at>
INLINE Vector<T> swapped(Vector<T> a, std::integer_sequence<int, at...>) {
  return __builtin_shufflevector(a, a, (at ^ apart)...);
}

// Reduces a vector; every element of the result is the reduced value.
template <typename T, Vector<T> (*both)(Vector<T>, Vector<T>), int apart = WIDTH<T> / 2>
INLINE Vector<T> across(Vector<T> a) {
  a = both(a, swapped<T, apart>(a, std::make_integer_sequence<int, WIDTH<T>>()));
  if constexpr (apart > 1) return across<T, both, apart / 2>(a);
  return a;
}

// Returns a vector with its first n elements, and `rest` after them.
template <typename T, int... at>
INLINE Vector<T> first_of(Vector<T> a, long n, T rest, std::integer_sequence<int, at...>) {
  const Bits<T> place = {at...};
  return place < (decltype(place[0] + 0))n ? a : everywhere(rest);
}

template <typename T>
INLINE Vector<T> first_of(Vector<T> a, long n, T rest) {
  return first_of<T>(a, n, rest, std::make_integer_sequence<int, WIDTH<T>>());
}

template <typename T>
INLINE Vector<T> sum_of(Vector<T> a) {
  return across<T, total<T>>(a);
}
