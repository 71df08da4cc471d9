// Which inputs the windows of a convolution or a pool look at.
#pragma once

#include "calls.h"
#include "vectors.h"

#define UNROLLED _Pragma("GCC unroll 16") for
#define INLINED inline __attribute__((always_inline))

// One axis. Output o looks with tap k at place o stride + k dilation - low of the inputs, between
// which spread - 1 zeros lie.
struct Axis {
  long inputs, outputs, taps;
  long stride, low, dilation, spread;
  bool turned = false;  // whether the taps are numbered from the last one on

  // From the outputs back to the inputs.
  Axis transposed() const {
    return {outputs, inputs, taps, spread, (taps - 1) * dilation - low, dilation, stride, !turned};
  }
};

// Outputs whose windows have the same taps on inputs: `count` of them from `out` on. The first one
// looks with tap `tap`, and `taps` in all, at the inputs from `in` on.
struct Segment {
  long out, count, in, tap, taps;
};

static long common_divisor(long a, long b) { return b ? common_divisor(b, a % b) : a; }

// All outputs of an axis by segments, and the steps from one output of a segment to the next and
// from one of its taps to the next.
struct Walk {
  long out_step, in_step, tap_in, tap_step;
  long count = 0;
  const Segment* segments;

  // Into a room for as many segments as there are outputs, of at most so many outputs each.
  Walk(const Axis& axis, Segment* room, long longest) : segments(room) {
    const long shared = common_divisor(axis.spread, axis.stride);
    const long shared_by_taps = common_divisor(axis.spread, axis.dilation);
    out_step = axis.spread / shared, in_step = axis.stride / shared;
    tap_step = axis.spread / shared_by_taps, tap_in = axis.dilation / shared_by_taps;
    for (long phase = 0; phase < least(out_step, axis.outputs); phase++)
      count += segment(axis, phase, room + count, longest);
    if (axis.turned) tap_step = -tap_step;
  }

  // The outputs from a phase on; of the taps those that meet inputs there, not zeros between them.
  long segment(const Axis& axis, long phase, Segment* to, long longest) const {
    const auto place = [&](long tap) {
      return phase * axis.stride + tap * axis.dilation - axis.low;
    };
    long first = 0;
    while (first < least(tap_step, axis.taps) && place(first) % axis.spread) first++;
    const bool meets = first < least(tap_step, axis.taps);
    const long taps = meets ? (axis.taps - 1 - first) / tap_step + 1 : 0;
    Segment* last = nullptr;
    for (long out = phase, in = place(first) / axis.spread; out < axis.outputs;
         out += out_step, in += in_step) {
      const long begin = in < 0 ? least(taps, pieces_of(tap_in, -in)) : 0;
      const long end = in < axis.inputs ? least(taps, (axis.inputs - 1 - in) / tap_in + 1) : 0;
      const long tap = first + begin * tap_step, inside = most(0, end - begin);
      Segment next = {out, 1, 0, 0, 0};
      if (inside)
        next = {out, 1, in + begin * tap_in, axis.turned ? axis.taps - 1 - tap : tap, inside};
      if (last && last->tap == next.tap && last->taps == inside && last->count < longest)
        last->count++;
      else
        *(last = last ? last + 1 : to) = next;
    }
    return last - to + 1;
  }
};

// The first n numbers at a place, where it is known when compiled whether they are a whole vector.
template <bool whole, typename T>
INLINE Vector<T> load(const T* from, long n) {
  return whole ? *(const Vector<T>*)from : load_few(from, n);
}

template <bool whole, typename T>
INLINE void store(T* to, Vector<T> numbers, long n) {
  if (whole)
    *(Vector<T>*)to = numbers;
  else
    store_few(to, numbers, n);
}

// How vectors lie on the channels of an image's columns: a column takes some vectors; or one takes
// several columns, of few channels each.
template <typename T>
struct Vectors {
  long columns, count, numbers;  // of vectors, and of the numbers that they have on some columns

  Vectors(long channels, bool adjacent)
      : columns(adjacent ? most(1, WIDTH<T> / channels) : 1),
        count(pieces_of(WIDTH<T>, channels)),
        numbers(columns * channels) {}
};

// Numbers of a band of rows, which stay in the nearest cache, and of a part of the work.
constexpr long BAND = 4096, PART = 16384;

struct Images {
  long height, width, channels;

  explicit Images(const XLA_FFI_Buffer* x)
      : height(x->dims[1]), width(x->dims[2]), channels(x->dims[3]) {}
  long row() const { return width * channels; }
  long size() const { return height * row(); }
};

// How the numbers of some images are made of those of others.
template <typename T>
struct Plan {
  const long batch;
  const Images from, to;
  const Axis across;
  const long tall, wide;     // of a window
  const Walk rows, columns;  // the rows by bands
  const Vectors<T> vectors;
  const long taps = tall * wide;

  // Steps in memory: from a vector of outputs to the next, and of what they are made of; from a tap
  // to the next and from a row of taps to the next, in an image and in a packed kernel.
  const bool several = vectors.columns > 1;
  const long out_jump = several ? vectors.numbers : columns.out_step * to.channels;
  const long in_jump = several ? vectors.numbers : columns.in_step * from.channels;
  const long tap_in = columns.tap_in * from.channels, row_in = rows.tap_in * from.row();
  const long tap_step = columns.tap_step * vectors.count;
  const long row_step = rows.tap_step * wide * vectors.count;
  const long in_line = rows.in_step * from.row(), out_line = rows.out_step * to.row();

  // Whether neighbouring inputs make neighbouring outputs, all of which have one at least.
  const bool streams = !several && (wide == 3 || wide == 5 || wide == 7) && across.stride == 1 &&
                       across.dilation == 1 && across.spread == 1 && across.low < wide &&
                       to.width - across.low <= from.width;
  const long first_tap = across.turned ? wide - 1 : 0;

  Plan(long batch, Images from, Images to, Axis down, Axis across, Segment* room)
      : batch(batch),
        from(from),
        to(to),
        across(across),
        tall(down.taps),
        wide(across.taps),
        rows(down, room, most(1, BAND / to.row())),
        columns(across, room + to.height, to.width),
        vectors(to.channels, columns.in_step == 1 && columns.out_step == 1) {}

  long bands() const { return batch * rows.count; }
  long parts() const { return most(1, least(bands(), batch * to.size() / PART)); }

  // Where the first tap of a segment is in a packed kernel.
  long place(const Segment& row, const Segment& column) const {
    return (row.tap * wide + column.tap) * vectors.count;
  }

  // Calls work(image, band) for the bands of a part.
  template <typename Work>
  void each_band(long part, long parts, Work work) const {
    for (long at = part * bands() / parts; at < (part + 1) * bands() / parts; at++)
      work(at / rows.count, rows.segments[at % rows.count]);
  }
};

// ---- What XLA gives -----------------------------------------------------------------------------

// Whole numbers, the only attribute: by rows and then by columns the stride, the zeros before x, the
// dilation, and how far apart the inputs are between which zeros lie; then others.
static const int64_t* settings(XLA_FFI_CallFrame* frame) {
  return (const int64_t*)((XLA_FFI_Array*)frame->attrs.attrs[0])->data;
}

static Axis axis_of(XLA_FFI_CallFrame* frame, int axis, const XLA_FFI_Buffer* x, long taps,
                    const XLA_FFI_Buffer* y) {
  const auto given = settings(frame) + axis * 4;
  return {x->dims[axis + 1], y->dims[axis + 1], taps, given[0], given[1], given[2], given[3]};
}

static XLA_FFI_Buffer* first_result(XLA_FFI_CallFrame* frame) {
  return (XLA_FFI_Buffer*)frame->rets.rets[0];
}

