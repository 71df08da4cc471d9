// Generation of the same random numbers as jax.random, for dropout.
#pragma once

#include <utility>

#include "vectors.h"

// A vector of 32-bit words.
typedef uint32_t Words __attribute__((vector_size(BYTES), aligned(4), may_alias));
constexpr long WORDS = BYTES / 4;

INLINE Words turned(Words a, int places) { return a << places | a >> (32 - places); }

template <int... at>
INLINE Words counted(std::integer_sequence<int, at...>) {
  return Words{at...};
}

// Threefry-2x32 with twenty rounds. For element n < 2^32 of an array, the two words of the block
// with counter n are combined by XOR, as in jax.random.bits.
struct Threefry {
  uint32_t key[2];

  __attribute__((always_inline)) Words words(uint32_t first) const {
    constexpr int turns[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const uint32_t keys[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA};
    Words a = Words{} + keys[0];
    Words b = counted(std::make_integer_sequence<int, WORDS>()) + first + keys[1];
#pragma GCC unroll 5
    for (uint32_t group = 0; group < 5; group++) {
#pragma GCC unroll 4
      for (int round = 0; round < 4; round++) {
        a += b;
        b = turned(b, turns[group % 2][round]) ^ a;
      }
      a += keys[(group + 1) % 3];
      b += keys[(group + 2) % 3] + group + 1;
    }
    return a ^ b;
  }
};

// The factors of dropout: zero, or one over the probability of keeping an element, which is
// limit / 2^23.
template <typename T>
struct Dropout {
  Threefry random;
  uint32_t limit;
  T factor;

  // Computes the factors of n elements of the array; writes whole vectors.
  void factors(T* to, uint32_t first, long n) const {
    for (long at = 0; at < n; at += WORDS) {
      const Words words = random.words(first + at) >> 9;
      const auto kept = words < limit;
      if constexpr (sizeof(T) == 4)
        *(Vector<T>*)(to + at) = kept ? everywhere(factor) : Vector<T>{};
      else
        for (int one = 0; one < WORDS; one++) to[at + one] = kept[one] ? factor : 0;
    }
  }
};
