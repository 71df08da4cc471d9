// Matrix products with a kernel that is packed into panels, which fit into the L1 cache.
#pragma once

#include "transpose.h"
#include "vectors.h"

// z[row][column] += sum over k of a[row * a_row + k * a_step] * panel[k][column], for R rows and C
// vectors of columns. The sums stay in registers.
template <typename T, int R, int C>
INLINE void multiply_rows(Vector<T>* z, long z_row, const T* a, long a_row, long a_step,
                          const Vector<T>* panel, long depth) {
  Vector<T> sum[R][C];
#pragma GCC unroll 8
  for (int row = 0; row < R; row++)
#pragma GCC unroll 2
    for (int column = 0; column < C; column++) sum[row][column] = z[row * z_row + column];
  for (long k = 0; k < depth; k++, a += a_step, panel += C) {
    Vector<T> columns[C];
#pragma GCC unroll 2
    for (int column = 0; column < C; column++) columns[column] = kept<T>(panel[column]);
#pragma GCC unroll 8
    for (int row = 0; row < R; row++) {
      const Vector<T> factors = everywhere(a[row * a_row]);
#pragma GCC unroll 2
      for (int column = 0; column < C; column++)
        sum[row][column] = fused(columns[column], factors, sum[row][column]);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < R; row++)
#pragma GCC unroll 2
    for (int column = 0; column < C; column++) z[row * z_row + column] = sum[row][column];
}

// Whether the sums of eight rows and two vectors fit into the registers.
constexpr bool EIGHT = BYTES == 64;

// multiply_rows for any number of rows.
template <typename T, int C>
__attribute__((noinline)) static void multiply(Vector<T>* z, long z_row, long rows, const T* a,
                                               long a_row, long a_step, const Vector<T>* panel,
                                               long depth) {
  for (long row = 0, some; row < rows; row += some) {
    const long left = rows - row;
    some = EIGHT && left % 8 == 0           ? 8
           : left >= 10 || left == 6          ? 6
           : left >= 4                        ? 4
           : left >= 3                        ? 3
                                              : left;
    const auto to = z + row * z_row;
    const auto from = a + row * a_row;
    if (EIGHT && some == 8)
      multiply_rows<T, EIGHT ? 8 : 1, C>(to, z_row, from, a_row, a_step, panel, depth);
    if (some == 6) multiply_rows<T, 6, C>(to, z_row, from, a_row, a_step, panel, depth);
    if (some == 4) multiply_rows<T, 4, C>(to, z_row, from, a_row, a_step, panel, depth);
    if (some == 3) multiply_rows<T, 3, C>(to, z_row, from, a_row, a_step, panel, depth);
    if (some == 2) multiply_rows<T, 2, C>(to, z_row, from, a_row, a_step, panel, depth);
    if (some == 1) multiply_rows<T, 1, C>(to, z_row, from, a_row, a_step, panel, depth);
  }
}

// multiply for a large depth, in steps so short that a step of the panel fits into the L1 cache.
template <typename T, int C>
static void multiply_long(Vector<T>* z, long z_row, long rows, const T* a, long a_row, long a_step,
                          const Vector<T>* panel, long depth, long step = 256) {
  for (long k = 0; k < depth; k += step)
    multiply<T, C>(z, z_row, rows, a + k * a_step, a_row, a_step, panel + C * k,
                   least(step, depth - k));
}

// multiply_long for panels of two vectors.
template <typename T>
static void multiply_long(Vector<T>* z, long rows, const T* a, long a_row, long a_step,
                          const Vector<T>* panel, long depth, long step = 256) {
  multiply_long<T, 2>(z, 2, rows, a, a_row, a_step, panel, depth, step);
}

// Number of columns of a panel.
template <typename T>
constexpr long PANEL = 2 * WIDTH<T>;

template <typename T>
constexpr long panels_of(long columns) {
  return pieces_of(PANEL<T>, columns);
}

// Packs a panel: the columns of a kernel [depth, columns] from n on.
template <typename T>
static void pack_panel(T* to, const T* kernel, long depth, long columns, long n) {
  for (long k = 0; k < depth; k++, to += PANEL<T>)
    for (int side = 0; side < 2; side++) {
      const long at = n + side * WIDTH<T>;
      store<T>(to + side * WIDTH<T>, load(kernel + k * columns + at, columns - at), WIDTH<T>);
    }
}

// Packs a panel of the transpose of a kernel [columns, depth], with `apart` elements between rows.
template <typename T>
static void pack_panel_transposed(T* to, const T* kernel, long apart, long depth, long columns,
                                  long n) {
  constexpr long width = WIDTH<T>;
  for (int side = 0; side < 2; side++, n += width, to += width)
    for (long k = 0; k < depth; k += width) {
      Vector<T> block[width];
      UNROLLED (int j = 0; j < width; j++)
        block[j] = n + j < columns ? load(kernel + (n + j) * apart + k, depth - k) : Vector<T>{};
      transpose<T>(block);
      UNROLLED (int j = 0; j < width; j++)
        if (k + j < depth) store<T>(to + (k + j) * PANEL<T>, block[j], width);
    }
}

template <typename T>
static void pack_panel(T* to, const T* kernel, long depth, long columns, long n, bool transposed) {
  if (transposed)
    pack_panel_transposed(to, kernel, depth, depth, columns, n);
  else
    pack_panel(to, kernel, depth, columns, n);
}
