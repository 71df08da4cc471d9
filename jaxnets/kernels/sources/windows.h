// The input positions that the windows of a convolution or a pool read.
#pragma once

#include "calls.h"
#include "vectors.h"

#define UNROLLED _Pragma("GCC unroll 16") for
#define INLINED inline __attribute__((always_inline))

// One axis. Tap k of output o reads position o stride + k dilation - low of the inputs, with
// spread - 1 zeros between neighbouring inputs.
struct Axis {
  long inputs, outputs, taps;
  long stride, low, dilation, spread;
  bool turned = false;  // whether the taps are numbered in reverse

  // The axis of the backward pass, from the outputs to the inputs.
  Axis transposed() const {
    return {outputs, inputs, taps, spread, (taps - 1) * dilation - low, dilation, stride, !turned};
  }
};

// `count` outputs from `out` on whose windows have the same taps on inputs and not on padding:
// `taps` taps from `tap` on, which for the first output read the inputs from `in` on.
struct Segment {
  long out, count, in, tap, taps;
};

static long common_divisor(long a, long b) { return b ? common_divisor(b, a % b) : a; }

// The outputs of an axis divided into segments, and the distances between neighbouring outputs and
// neighbouring taps of a segment.
struct Walk {
  long out_step, in_step, tap_in, tap_step;
  long count = 0;
  const Segment* segments;

  // Writes the segments to `room`, with space for one per output, and at most `longest` outputs
  // each.
  Walk(const Axis& axis, Segment* room, long longest) : segments(room) {
    const long shared = common_divisor(axis.spread, axis.stride);
    const long shared_by_taps = common_divisor(axis.spread, axis.dilation);
    out_step = axis.spread / shared, in_step = axis.stride / shared;
    tap_step = axis.spread / shared_by_taps, tap_in = axis.dilation / shared_by_taps;
    for (long phase = 0; phase < least(out_step, axis.outputs); phase++)
      count += segment(axis, phase, room + count, longest);
    if (axis.turned) tap_step = -tap_step;
  }

  // The segments of outputs phase, phase + out_step, …, whose taps meet the same inputs; taps that
  // meet zeros between inputs are left out.
  long segment(const Axis& axis, long phase, Segment* to, long longest) const {
    const auto place = [&](long tap) {
      return phase * axis.stride + tap * axis.dilation - axis.low;
    };
    // Without dilation, the first tap on an input follows from its position: a loop over the taps of
    // every phase would take longer than a pool of large windows.
    const long behind = -place(0) % axis.spread;
    long first = axis.dilation > 1 ? 0 : behind < 0 ? behind + axis.spread : behind;
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

// Loads up to n elements; the template argument tells whether they are a whole vector.
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

// The arrangement of vectors along an image's row: several vectors for the channels of a column, or
// one vector for several columns with few channels.
template <typename T>
struct Vectors {
  long columns, count, numbers;  // columns of a vector, vectors, and elements on these columns

  Vectors(long channels, bool adjacent)
      : columns(adjacent ? most(1, WIDTH<T> / channels) : 1),
        count(pieces_of(WIDTH<T>, channels)),
        numbers(columns * channels) {}
};

// Number of elements of a band of rows, which fits into the L1 cache, and of a part of the work.
constexpr long BAND = 4096, PART = 16384;

struct Images {
  long height, width, channels;

  explicit Images(const XLA_FFI_Buffer* x)
      : height(x->dims[1]), width(x->dims[2]), channels(x->dims[3]) {}
  long row() const { return width * channels; }
  long size() const { return height * row(); }
};

// The computation of images from others by windows.
template <typename T>
struct Plan {
  const long batch;
  const Images from, to;
  const Axis across;
  const long tall, wide;     // size of a window
  const Walk rows, columns;  // rows are divided into bands
  const Vectors<T> vectors;
  const long taps = tall * wide;

  // Strides in memory: between vectors of outputs and between their inputs; between taps and
  // between rows of taps, in an image and in a packed kernel.
  const bool several = vectors.columns > 1;
  const long out_jump = several ? vectors.numbers : columns.out_step * to.channels;
  const long in_jump = several ? vectors.numbers : columns.in_step * from.channels;
  const long tap_in = columns.tap_in * from.channels, row_in = rows.tap_in * from.row();
  const long tap_step = columns.tap_step * vectors.count;
  const long row_step = rows.tap_step * wide * vectors.count;
  const long in_line = rows.in_step * from.row(), out_line = rows.out_step * to.row();

  // Whether the fast path for stride 1 without dilation applies, in which every window has an
  // input.
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

  // Offset of a segment's first tap in a packed kernel.
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

// ---- Arguments from XLA -------------------------------------------------------------------------

// Integers, the only attribute: for rows and for columns the stride, the padding before x, the
// dilation and the input dilation; then others.
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

