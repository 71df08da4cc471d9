// Which inputs the windows of a convolution or a pool look at.
#pragma once

#include "calls.h"
#include "lanes.h"

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

// Whole numbers that the caller gives, by their only attribute.
static const int64_t* settings(XLA_FFI_CallFrame* frame) {
  return (const int64_t*)((XLA_FFI_Array*)frame->attrs.attrs[0])->data;
}
