// Linear layers with ReLU between them, forward and backward, for XLA on CPUs.
//
// Each thread computes all layers for some examples, forward and backward. Then the gradients of
// the kernels, which are sums over all examples, are divided between threads by rows. XLA
// synchronizes its threads for each product, or uses one thread.
//
// Each result is computed in the same order for any number of threads, so it is reproducible.

#include "calls.h"
#include "products.h"

constexpr int MOST_LAYERS = 8;
// Rows of a kernel in one part of the gradient, and examples whose inputs for these rows fit into
// the L1 cache.
constexpr long ROWS = 48, EXAMPLES = 64;

template <typename T>
struct Layers {
  int count;
  long batch, part;
  long size[MOST_LAYERS + 1];     // sizes of the inputs, and of each layer's outputs
  T* outputs[MOST_LAYERS + 1];    // the inputs, and each layer's outputs
  const T* kernel[MOST_LAYERS];   // [inputs, outputs]
  const T* bias[MOST_LAYERS];
  T* packed[MOST_LAYERS];         // kernels in panels; backward transposed, without the first
  T* dz[MOST_LAYERS];             // the gradients of the outputs before ReLU
  T* dz_packed[MOST_LAYERS];      // these gradients in panels
  T *d_kernel[MOST_LAYERS], *d_bias[MOST_LAYERS];

  long parts() const { return pieces_of(part, batch); }
  long examples(long first) const { return least(part, batch - first); }
  long panels(int layer) const { return panels_of<T>(size[layer]); }
  long row_parts(int layer) const { return pieces_of(ROWS, size[layer]); }

  // ---- Forward ----------------------------------------------------------------------------------

  static void pack(const void* data, long number) {
    const auto& self = *(const Layers*)data;
    int layer = 0;
    for (; number >= self.panels(layer + 1); layer++) number -= self.panels(layer + 1);
    const long n = number * PANEL<T>, depth = self.size[layer];
    pack_panel(self.packed[layer] + n * depth, self.kernel[layer], depth, self.size[layer + 1], n,
               false);
  }

  static void go_forward(const void* data, long number) {
    const auto& self = *(const Layers*)data;
    const long first = number * self.part;
    for (int layer = 0; layer < self.count; layer++)
      for (long n = 0; n < self.size[layer + 1]; n += PANEL<T>)
        self.apply(layer, first, self.examples(first), n);
  }

  // Computes a layer's outputs for some examples and the columns of a panel.
  void apply(int layer, long first, long rows, long n) const {
    const long in = size[layer], out = size[layer + 1];
    Vector<T> z[MOST * 2];
    for (long row = 0; row < rows; row++)
      for (int side = 0; side < 2; side++) {
        const long at = n + side * WIDTH<T>;
        z[row * 2 + side] = load(bias[layer] + at, out - at);
      }
    const auto panel = (const Vector<T>*)(packed[layer] + n * in);
    multiply_long(z, rows, outputs[layer] + first * in, in, 1, panel, in);
    for (long row = 0; row < rows; row++)
      for (int side = 0; side < 2; side++) {
        const long at = n + side * WIDTH<T>;
        Vector<T> y = z[row * 2 + side];
        if (layer < count - 1) y = y < 0 ? Vector<T>{} : y;  // NaN stays NaN
        store<T>(outputs[layer + 1] + (first + row) * out + at, y, out - at);
      }
  }

  // ---- Backward ---------------------------------------------------------------------------------

  static void pack_transposed(const void* data, long number) {
    const auto& self = *(const Layers*)data;
    int layer = 1;
    for (; number >= self.panels(layer); layer++) number -= self.panels(layer);
    const long n = number * PANEL<T>, depth = self.size[layer + 1];
    pack_panel(self.packed[layer] + n * depth, self.kernel[layer], depth, self.size[layer], n, true);
  }

  static void go_back(const void* data, long number) {
    const auto& self = *(const Layers*)data;
    const long first = number * self.part, rows = self.examples(first);
    for (int layer = self.count - 1; layer >= 0; layer--) {
      for (long n = 0; layer && n < self.size[layer]; n += PANEL<T>)
        self.through(layer, first, rows, n);
      for (long n = 0; n < self.size[layer + 1]; n += PANEL<T>) {
        T* to = self.dz_packed[layer] + n * self.batch + first * PANEL<T>;
        pack_panel(to, self.dz[layer] + first * self.size[layer + 1], rows, self.size[layer + 1], n,
                   false);
      }
    }
  }

  // Computes the gradients of the previous layer's outputs for some examples and a panel of
  // columns.
  void through(int layer, long first, long rows, long n) const {
    const long in = size[layer], out = size[layer + 1];
    Vector<T> sums[MOST * 2] = {};
    const auto panel = (const Vector<T>*)(packed[layer] + n * out);
    multiply_long(sums, rows, dz[layer] + first * out, out, 1, panel, out);
    for (long row = 0; row < rows; row++)
      for (int side = 0; side < 2; side++) {
        const long column = n + side * WIDTH<T>, at = (first + row) * in + column;
        const Vector<T> y = load(outputs[layer] + at, in - column), d = sums[row * 2 + side];
        store<T>(dz[layer - 1] + at, y > 0 ? d : Vector<T>{}, in - column);
      }
  }

  static void add_up(const void* data, long number) {
    const auto& self = *(const Layers*)data;
    int layer = 0;
    for (; number >= self.row_parts(layer); layer++) number -= self.row_parts(layer);
    self.add_kernel(layer, number * ROWS);
  }

  // Computes the gradient of some rows of a kernel, and with the first rows that of the bias.
  void add_kernel(int layer, long first) const {
    const long in = size[layer], out = size[layer + 1];
    const long rows = least(ROWS, in - first);
    for (long n = 0; n < out; n += PANEL<T>) {
      Vector<T> sums[ROWS * 2] = {};
      const auto panel = (const Vector<T>*)(dz_packed[layer] + n * batch);
      multiply_long(sums, rows, outputs[layer] + first, 1, in, panel, batch, EXAMPLES);
      for (long row = 0; row < rows; row++)
        for (int side = 0; side < 2; side++) {
          const long at = n + side * WIDTH<T>;
          store<T>(d_kernel[layer] + (first + row) * out + at, sums[row * 2 + side], out - at);
        }
      if (first == 0) add_bias(layer, n, panel);
    }
  }

  void add_bias(int layer, long n, const Vector<T>* panel) const {
    for (int side = 0; side < 2; side++) {
      const long at = n + side * WIDTH<T>;
      Vector<T> sum = {};
      for (long row = 0; row < batch; row++) sum += panel[row * 2 + side];
      store<T>(d_bias[layer] + at, sum, size[layer + 1] - at);
    }
  }
};

// ---- Functions for XLA --------------------------------------------------------------------------

// Divides a buffer into aligned pieces; with a null buffer, only computes the total size.
template <typename T>
struct Pieces {
  T* at;
  long taken = 0;

  T* take(long numbers) {
    const long before = taken;
    taken += (numbers + 63) / 64 * 64;
    return at + before;
  }
};

// Arguments: x [B, I] or its address; for each layer the kernel [inputs, outputs] and the bias
// [outputs]. Results: the outputs [B, outputs] of each layer, or of the last one only.
template <typename T>
static XLA_FFI_Error* forward(XLA_FFI_CallFrame* frame) {
  const long threads = threads_of(frame);
  Layers<T> work;
  work.count = (frame->args.size - 1) / 2;
  const int first_result = work.count - frame->rets.size;  // the first layer that is a result
  work.batch = sizes_of_result(frame, 0)[0];
  work.part = part_size(work.batch, threads);
  work.size[0] = given(frame, 1)->dims[0];
  work.outputs[0] = located<T>(frame, 0);
  long panels = 0;
  for (int layer = 0; layer < work.count; layer++) {
    work.size[layer + 1] = given(frame, 2 * layer + 1)->dims[1];
    work.kernel[layer] = argument<T>(frame, 2 * layer + 1);
    work.bias[layer] = argument<T>(frame, 2 * layer + 2);
    if (layer >= first_result) work.outputs[layer + 1] = result<T>(frame, layer - first_result);
    panels += work.panels(layer + 1);
  }
  const auto lay_out = [&](Pieces<T> pieces) {
    for (int layer = 0; layer < work.count; layer++) {
      work.packed[layer] = pieces.take(work.panels(layer + 1) * PANEL<T> * work.size[layer]);
      if (layer < first_result)
        work.outputs[layer + 1] = pieces.take(work.batch * work.size[layer + 1]);
    }
    return pieces.taken;
  };
  const auto at = (T*)memory(lay_out({nullptr}) * sizeof(T));
  if (!at) return out_of_memory(frame);
  lay_out({at});
  share(frame, threads, panels, work.pack, &work);
  share(frame, threads, work.parts(), work.go_forward, &work);
  return nullptr;
}

// Arguments: x [B, I]; the outputs of all layers except the last [B, outputs]; the gradient of the
// last layer's outputs; the kernels.
// Results: for each layer the gradients of kernel and bias; for several layers also that of the
// first layer's outputs before ReLU [B, outputs].
template <typename T>
static XLA_FFI_Error* backward(XLA_FFI_CallFrame* frame) {
  const long threads = threads_of(frame);
  Layers<T> work;
  const int count = work.count = frame->rets.size / 2;
  work.batch = given(frame, 0)->dims[0];
  work.part = part_size(work.batch, threads);
  long panels = 0, row_parts = 0;
  for (int layer = 0; layer <= count; layer++) work.size[layer] = given(frame, layer)->dims[1];
  for (int layer = 0; layer < count; layer++) {
    work.outputs[layer] = argument<T>(frame, layer);
    work.kernel[layer] = argument<T>(frame, count + 1 + layer);
    work.d_kernel[layer] = result<T>(frame, 2 * layer);
    work.d_bias[layer] = result<T>(frame, 2 * layer + 1);
    if (layer) panels += work.panels(layer);
    row_parts += work.row_parts(layer);
  }
  const auto lay_out = [&](Pieces<T> pieces) {
    for (int layer = 0; layer < count; layer++) {
      const long out = work.size[layer + 1];
      if (layer) work.packed[layer] = pieces.take(work.panels(layer) * PANEL<T> * out);
      if (layer && layer < count - 1) work.dz[layer] = pieces.take(work.batch * out);
      work.dz_packed[layer] = pieces.take(work.panels(layer + 1) * PANEL<T> * work.batch);
    }
    return pieces.taken;
  };
  const auto at = (T*)memory(lay_out({nullptr}) * sizeof(T));
  if (!at) return out_of_memory(frame);
  lay_out({at});
  if (count > 1) work.dz[0] = result<T>(frame, 2 * count);
  work.dz[count - 1] = argument<T>(frame, count);
  share(frame, threads, panels, work.pack_transposed, &work);
  share(frame, threads, work.parts(), work.go_back, &work);
  share(frame, threads, row_parts, work.add_up, &work);
  return nullptr;
}

HANDLER(linear_forward, forward)
HANDLER(linear_backward, backward)
