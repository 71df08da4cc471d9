// Scaled dot-product attention, forward and backward, for XLA on CPUs.
//
// One thread computes each head of an example. Keys and values are packed for products whose sums
// stay in registers. A block of queries at a time goes through the product with the keys, softmax
// and the product with the values, so that its scores stay in the L1 cache. The backward pass
// recomputes the attention weights, which is faster than reading them from memory.
//
// Each result is computed in the same order for any number of threads, so it is reproducible.

#include <algorithm>
#include <cmath>

#include "calls.h"
#include "products.h"
#include "random.h"
#include "reductions.h"
#include "transpose.h"

constexpr int MOST_MASKS = 4;
// Numbers of queries in a block, and largest size of their scores in bytes.
constexpr long FEWEST_ROWS = 12, MOST_ROWS = 64, SCORES = 16384;
// Largest size in bytes up to which an example's inputs are prefetched.
constexpr long AHEAD = 1 << 19;

// An array of heads [examples, length, heads, size], which may be part of wider rows.
template <typename T>
struct Heads {
  T* at;
  long row, example;  // strides

  T* head(long number, long heads, long size) const {
    return at + number / heads * example + number % heads * size;
  }
};

// A mask that is added to the scores, [examples, heads, queries, keys]; any axis may be 1.
template <typename T>
struct Mask {
  const T* at;
  long example, head, query, key;  // strides, zero for axes of size 1
};

// ---- Packing and products -----------------------------------------------------------------------

// A panel has two vectors of columns; if their number is odd, the last panel has one.

// Packs rows [depth, columns] without transposition.
template <typename T>
static void pack(Vector<T>* to, const T* from, long row, long depth, long columns) {
  for (long n = 0; n < columns; n += PANEL<T>) {
    const long left = columns - n;
    for (long k = 0; k < depth; k++) {
      *to++ = load(from + k * row + n, left);
      if (left > WIDTH<T>) *to++ = load(from + k * row + n + WIDTH<T>, left - WIDTH<T>);
    }
  }
}

// Packs [columns, depth], transposed and multiplied by a factor.
template <typename T>
static void pack_transposed(Vector<T>* to, const T* from, long row, long depth, long columns,
                            T factor) {
  constexpr long width = WIDTH<T>;
  for (long n = 0; n < columns; n += PANEL<T>) {
    const long vectors = columns - n > width ? 2 : 1;
    for (long side = 0; side < vectors; side++)
      for (long k = 0; k < depth; k += width) {
        Vector<T> block[width];
        const T* corner = from + (n + side * width) * row + k;
        const long rows = columns - n - side * width;
        UNROLLED (int j = 0; j < width; j++)
          block[j] = j < rows ? factor * load(corner + j * row, depth - k) : Vector<T>{};
        transpose<T>(block);
        UNROLLED (int j = 0; j < width; j++)
          if (j < depth - k) to[(k + j) * vectors + side] = block[j];
      }
    to += depth * vectors;
  }
}

// sums [rows, vectors] += a times the first rows of a packed array [whole, vectors].
template <typename T>
static void add_product(Vector<T>* sums, long vectors, long used, long rows, const T* a, long a_row,
                        long a_step, const Vector<T>* packed, long whole, long depth) {
  for (long at = 0; at < used; at += 2) {
    const Vector<T>* panel = packed + at * whole;
    if (at + 1 < used)
      multiply_long<T, 2>(sums + at, vectors, rows, a, a_row, a_step, panel, depth);
    else
      multiply_long<T, 1>(sums + at, vectors, rows, a, a_row, a_step, panel, depth);
  }
}

// ---- One head -----------------------------------------------------------------------------------

template <typename T>
struct Attention {
  long examples, heads, queries, keys, size;
  bool causal;  // whether a query does not attend to later keys
  bool safe;    // whether the output of a query with all keys masked is zero
  T scale;
  Heads<const T> q, k, v;
  Heads<T> out, dq, dk, dv;
  Heads<const T> d_out;
  int masks;
  Mask<T> mask[MOST_MASKS];
  bool drops;  // whether weights are dropped
  Dropout<T> dropout;
  T* saved;  // the largest score and the reciprocal sum of each query, or null
  T* d_masks = nullptr;  // the gradient of a mask [N, heads, L, S], or null

  int inputs;                 // number of input arrays
  Heads<const T> input[4];
  long group;                 // heads in a part of the work, a divisor of all heads
  mutable std::atomic<bool> starved{false};  // whether a thread could not allocate memory

  // A part has all heads of an example, which are adjacent in memory, or one head for few examples.
  void divide(long threads) { group = examples >= 4 * threads ? heads : 1; }
  long parts() const { return examples * heads / group; }

  // Heads are read with a stride, which the hardware prefetcher does not predict.
  void read_ahead(long example) const {
    for (int one = 0; one < inputs; one++) {
      const T* at = input[one].at + example * input[one].example;
      if (group == 1 || input[one].example * sizeof(T) > AHEAD) continue;
      for (long n = 0; n < input[one].example; n += 64 / sizeof(T)) asm volatile("" ::"x"(at[n]));
    }
  }

  long score_vectors() const { return pieces_of(WIDTH<T>, keys); }
  long vectors() const { return pieces_of(WIDTH<T>, size); }
  long block() const {
    const long fit = most(FEWEST_ROWS, SCORES / (score_vectors() * BYTES));
    return least(queries, least(MOST_ROWS, fit));
  }
  // Number of vectors for the dropout factors of a query.
  long row_vectors() const { return score_vectors() + WORDS / WIDTH<T>; }
  // Number of keys that the queries before this one may attend to.
  long seen(long query) const { return causal ? least(keys, query) : keys; }

  static void go_forward(const void* data, long part) {
    const auto& self = *(const Attention*)data;
    const long packed_keys = self.size * self.score_vectors();
    const long packed_values = self.keys * self.vectors();
    const long scores = self.block() * self.score_vectors(), sums = self.block() * self.vectors();
    const long all = packed_keys + packed_values + scores + sums + self.row_vectors();
    const auto at = (Vector<T>*)memory(BYTES * all);
    if (!at) {
      self.starved = true;
      return;
    }
    self.read_ahead(part * self.group / self.heads);
    for (long one = 0; one < self.group; one++)
      self.attend(part * self.group + one, at, at + packed_keys, at + packed_keys + packed_values,
                  at + packed_keys + packed_values + scores, at + all - self.row_vectors());
  }

  void attend(long number, Vector<T>* packed_k, Vector<T>* packed_v, Vector<T>* scores,
              Vector<T>* sums, Vector<T>* factors) const {
    pack_transposed(packed_k, k.head(number, heads, size), k.row, size, keys, scale);
    pack(packed_v, v.head(number, heads, size), v.row, keys, size);
    T one_over[MOST_ROWS];
    for (long first = 0; first < queries; first += block()) {
      const long rows = least(block(), queries - first), limit = seen(first + rows);
      score(number, first, rows, limit, packed_k, scores);
      for (long row = 0; row < rows; row++) {
        Vector<T>* const of_row = scores + row * score_vectors();
        one_over[row] = exponentials(number, first + row, limit, of_row);
        if (!drops) continue;
        draw(number, first + row, factors);
        for (long at = 0; at * WIDTH<T> < seen(first + row + 1); at++) of_row[at] *= factors[at];
      }
      memset(sums, 0, rows * vectors() * BYTES);
      add_product(sums, vectors(), vectors(), rows, (const T*)scores, score_vectors() * WIDTH<T>, 1,
                  packed_v, keys, limit);
      for (long row = 0; row < rows; row++)
        write(out.head(number, heads, size) + (first + row) * out.row, sums + row * vectors(),
              one_over[row]);
    }
  }

  // Computes the scores of some queries and the first keys.
  void score(long number, long first, long rows, long limit, const Vector<T>* packed_k,
             Vector<T>* scores) const {
    memset(scores, 0, rows * score_vectors() * BYTES);
    const long used = least(score_vectors(), pieces_of(PANEL<T>, limit) * 2);
    add_product(scores, score_vectors(), used, rows, q.head(number, heads, size) + first * q.row,
                q.row, 1, packed_k, size, size);
  }

  // Draws the dropout factors of a query's weights.
  void draw(long number, long query, Vector<T>* factors) const {
    dropout.factors((T*)factors, (number * queries + query) * keys, seen(query + 1));
  }

  void add_masks(long number, long query, Vector<T>* scores, long limit) const {
    for (int one = 0; one < masks; one++) {
      const Mask<T>& m = mask[one];
      const T* from = m.at + number / heads * m.example + number % heads * m.head + query * m.query;
      for (long at = 0; at < limit; at += WIDTH<T>)
        scores[at / WIDTH<T>] += m.key ? load(from + at, limit - at) : everywhere(*from);
    }
  }

  // Replaces a query's scores by exp(score - largest), and masked ones by zeros. Returns the
  // reciprocal of their sum.
  T exponentials(long number, long query, long limit, Vector<T>* scores) const {
    const long n = seen(query + 1), last = (n - 1) / WIDTH<T>;
    if (masks) add_masks(number, query, scores, n);
    if (n % WIDTH<T>) scores[last] = first_of<T>(scores[last], n - last * WIDTH<T>, -INFINITY);
    Vector<T> top = scores[0];
    for (long at = 1; at <= last; at++) top = larger<T>(scores[at], top);
    top = across<T, larger<T>>(top);
    if (safe) top = top == -INFINITY ? Vector<T>{} : top;
    Vector<T> sum = {};
    for (long at = 0; at <= last; at++) sum += scores[at] = exponential<T>(scores[at] - top);
    for (long at = last + 1; at * WIDTH<T> < limit; at++) scores[at] = Vector<T>{};
    sum = sum_of<T>(sum);
    const T one_over = safe && sum[0] == 0 ? 0 : 1 / sum[0];
    if (saved) {
      saved[(number * queries + query) * 2] = top[0];
      saved[(number * queries + query) * 2 + 1] = one_over;
    }
    return one_over;
  }

  void write(T* to, const Vector<T>* from, T factor) const {
    for (long at = 0; at < size; at += WIDTH<T>)
      store<T>(to + at, from[at / WIDTH<T>] * factor, size - at);
  }

  // ---- Backward ---------------------------------------------------------------------------------

  static void go_back(const void* data, long part) {
    const auto& self = *(const Attention*)data;
    const long by_key = self.keys * self.vectors(), by_size = self.size * self.score_vectors();
    const long by_query = self.block() * self.vectors();
    const long scores = self.block() * self.score_vectors();
    const long all = 3 * by_key + 2 * by_size + 3 * by_query + 2 * scores + self.row_vectors();
    auto at = (Vector<T>*)memory(BYTES * all);
    if (!at) {
      self.starved = true;
      return;
    }
    const auto take = [&](long some) { return (at += some) - some; };
    // Consecutive pieces of the buffer, so the order matters.
    Back room;
    room.k_transposed = take(by_size), room.v_transposed = take(by_size);
    room.k = take(by_key), room.dk = take(by_key), room.dv = take(by_key);
    room.q = take(by_query), room.d_out = take(by_query), room.dq = take(by_query);
    room.weights = take(scores), room.d_scores = take(scores);
    room.factors = take(self.row_vectors());
    self.read_ahead(part * self.group / self.heads);
    for (long one = 0; one < self.group; one++) self.pull_back(part * self.group + one, room);
  }

  struct Back {
    Vector<T>*k_transposed, *v_transposed, *k, *dk, *dv, *q, *d_out, *dq, *weights, *d_scores,
        *factors;
  };

  void pull_back(long number, const Back& room) const {
    const T* keys_of = k.head(number, heads, size);
    pack_transposed(room.k_transposed, keys_of, k.row, size, keys, scale);
    pack_transposed(room.v_transposed, v.head(number, heads, size), v.row, size, keys, T(1));
    pack(room.k, keys_of, k.row, keys, size);
    memset(room.dk, 0, keys * vectors() * BYTES);
    memset(room.dv, 0, keys * vectors() * BYTES);
    for (long first = 0; first < queries; first += block()) go_back(number, first, room);
    for (long key = 0; key < keys; key++) {
      write(dk.head(number, heads, size) + key * dk.row, room.dk + key * vectors(), 1);
      write(dv.head(number, heads, size) + key * dv.row, room.dv + key * vectors(), 1);
    }
  }

  // The backward pass of some queries.
  void go_back(long number, long first, const Back& room) const {
    const long rows = least(block(), queries - first), limit = seen(first + rows);
    const long wide = score_vectors(), used = least(wide, pieces_of(PANEL<T>, limit) * 2);
    const T* queries_of = q.head(number, heads, size) + first * q.row;
    const T* d_out_of = d_out.head(number, heads, size) + first * d_out.row;
    score(number, first, rows, limit, room.k_transposed, room.weights);
    memset(room.d_scores, 0, rows * wide * BYTES);
    add_product(room.d_scores, wide, used, rows, d_out_of, d_out.row, 1, room.v_transposed, size,
                size);
    for (long row = 0; row < rows; row++)
      go_back_by_row(number, first + row, limit, room.weights + row * wide,
                     room.d_scores + row * wide, room.factors);
    pack(room.q, queries_of, q.row, rows, size);
    pack(room.d_out, d_out_of, d_out.row, rows, size);
    memset(room.dq, 0, rows * vectors() * BYTES);
    const auto weights = (const T*)room.weights, d_scores = (const T*)room.d_scores;
    const long row_size = wide * WIDTH<T>;
    add_product(room.dv, vectors(), vectors(), limit, weights, 1, row_size, room.d_out, rows, rows);
    add_product(room.dk, vectors(), vectors(), limit, d_scores, 1, row_size, room.q, rows, rows);
    add_product(room.dq, vectors(), vectors(), rows, d_scores, row_size, 1, room.k, keys, limit);
    for (long row = 0; row < rows; row++)
      write(dq.head(number, heads, size) + (first + row) * dq.row, room.dq + row * vectors(), 1);
  }

  // Computes a query's weights from its scores, and the gradients of the scores from those of the
  // weights. The gradients of the masks are those of the scores before the scale.
  void go_back_by_row(long number, long query, long limit, Vector<T>* scores, Vector<T>* d,
                      Vector<T>* factors) const {
    const long n = seen(query + 1), last = (n - 1) / WIDTH<T>;
    if (masks) add_masks(number, query, scores, n);
    if (n % WIDTH<T>) scores[last] = first_of<T>(scores[last], n - last * WIDTH<T>, -INFINITY);
    const Vector<T> top = everywhere(saved[(number * queries + query) * 2]);
    const T one_over = saved[(number * queries + query) * 2 + 1];
    if (drops) draw(number, query, factors);
    Vector<T> sum = {};
    for (long at = 0; at <= last; at++) {
      scores[at] = exponential<T>(scores[at] - top) * one_over;
      if (drops) d[at] *= factors[at];
      sum += scores[at] * d[at];
    }
    sum = sum_of<T>(sum);
    T* const kept = d_masks ? d_masks + (number * queries + query) * keys : nullptr;
    for (long at = 0; at <= last; at++) {
      d[at] = scores[at] * (d[at] - sum);
      if (kept) store<T>(kept + at * WIDTH<T>, d[at], n - at * WIDTH<T>);
      d[at] *= scale;
      if (drops) scores[at] *= factors[at];
    }
    if (kept) std::fill(kept + n, kept + keys, T(0));  // the keys that a causal mask hides
    for (long at = last + 1; at * WIDTH<T> < limit; at++) scores[at] = d[at] = Vector<T>{};
  }
};

// ---- Functions for XLA --------------------------------------------------------------------------

// Attributes, in the order of their names: causal, factor, heads, limit, packed, safe, scale.
template <typename V>
static V attribute(XLA_FFI_CallFrame* frame, int number) {
  return *(const V*)((XLA_FFI_Scalar*)frame->attrs.attrs[number])->value;
}

// Reads the input arrays: q [N, L, heads · d], k and v [N, S, heads · d]; or, if packed, one array
// [N, L, 3 heads · d]. Returns the index of the next argument.
template <typename T>
static int take_inputs(XLA_FFI_CallFrame* frame, Attention<T>& work) {
  const bool packed = attribute<int32_t>(frame, 4);
  const auto dims = given(frame, 0)->dims;
  work.causal = attribute<int32_t>(frame, 0);
  work.heads = attribute<int32_t>(frame, 2);
  work.safe = attribute<int32_t>(frame, 5);
  work.scale = attribute<double>(frame, 6);
  work.examples = dims[0];
  work.queries = dims[1];
  work.keys = given(frame, packed ? 0 : 1)->dims[1];
  const long row = dims[2], width = packed ? row / 3 : row;
  work.size = width / work.heads;
  const T* first = argument<T>(frame, 0);
  work.q = {first, row, work.queries * row};
  work.k = {packed ? first + width : argument<T>(frame, 1), row, work.keys * row};
  work.v = {packed ? first + 2 * width : argument<T>(frame, 2), row, work.keys * row};
  work.inputs = packed ? 1 : 3;
  const Heads<const T> inputs[] = {work.q, work.k, work.v};
  for (int one = 0; one < work.inputs; one++) work.input[one] = inputs[one];
  return work.inputs;
}

// Reads the key of dropout, if there is dropout, and the masks.
template <typename T>
static void take_others(XLA_FFI_CallFrame* frame, Attention<T>& work, int first) {
  const uint32_t limit = attribute<uint32_t>(frame, 3);
  work.drops = limit;
  if (work.drops) {
    const auto key = argument<uint32_t>(frame, first++);
    work.dropout = {{{key[0], key[1]}}, limit, T(attribute<double>(frame, 1))};
  }
  work.masks = frame->args.size - first;
  for (int one = 0; one < work.masks; one++) {
    const auto dims = given(frame, first + one)->dims;
    const auto apart = [&](int axis) {
      long numbers = dims[axis] > 1;
      for (int after = axis + 1; after < 4; after++) numbers *= dims[after];
      return numbers;
    };
    work.mask[one] = {argument<T>(frame, first + one), apart(0), apart(1), apart(2), apart(3)};
  }
}

// Arguments: the inputs; with dropout the key, two words; and masks [N, heads, L, S], in which any
// axis may be 1.
// Results: the outputs [N, L, heads · d] and, optionally, the residuals [N, heads, L, 2].
template <typename T>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  const long threads = threads_of(frame);
  Attention<T> work;
  take_others(frame, work, take_inputs(frame, work));
  const long width = work.heads * work.size;
  work.out = {result<T>(frame, 0), width, work.queries * width};
  work.saved = result<T>(frame, 1);
  work.divide(threads);
  share(frame, threads, work.parts(), work.go_forward, &work);
  return work.starved ? out_of_memory(frame) : nullptr;
}

// Arguments: the inputs; the gradient of the outputs [N, L, heads · d]; the residuals; the key, if
// there is dropout; the masks.
// Results: the gradients of the inputs, packed like these; optionally that of a mask without axes of
// size 1, [N, heads, L, S].
template <typename T>
static XLA_FFI_Error* backward(XLA_FFI_CallFrame* frame) {
  const long threads = threads_of(frame);
  Attention<T> work;
  const int next = take_inputs(frame, work);
  take_others(frame, work, next + 2);
  const long width = work.heads * work.size;
  work.d_out = {argument<T>(frame, next), width, work.queries * width};
  work.saved = argument<T>(frame, next + 1);
  work.input[work.inputs++] = work.d_out;
  const bool packed = next == 1;
  T* const first = result<T>(frame, 0);
  work.dq = {first, work.q.row, work.q.example};
  work.dk = {packed ? first + width : result<T>(frame, 1), work.k.row, work.k.example};
  work.dv = {packed ? first + 2 * width : result<T>(frame, 2), work.v.row, work.v.example};
  work.d_masks = result<T>(frame, packed ? 1 : 3);
  work.divide(threads);
  share(frame, threads, work.parts(), work.go_back, &work);
  return work.starved ? out_of_memory(frame) : nullptr;
}

HANDLER(attention_forward, forward)
HANDLER(attention_backward, backward)
