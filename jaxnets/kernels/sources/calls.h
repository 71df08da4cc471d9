// The interface to XLA: threads, memory, arguments and results.
#pragma once

#include <sched.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "vectors.h"
#include "xla/ffi/api/c_api.h"

// ---- Threads and their memory -------------------------------------------------------------------

// Parts of some work, which any free thread takes. The calling thread takes parts too, and only
// waits for parts that have begun, so there is no deadlock if all of XLA's threads are busy.
struct Job {
  void (*work)(const void* data, long part);
  const void* data;
  const long parts;
  std::atomic<long> holders;
  std::atomic<long> next{0}, done{0};

  void take() {
    for (long part; (part = next.fetch_add(1)) < parts; done.fetch_add(1)) work(data, part);
  }
  void let_go() {
    if (holders.fetch_sub(1) == 1) delete this;
  }
};

static void help(void* given) {
  const auto job = (Job*)given;
  job->take();
  job->let_go();
}

static bool failed(XLA_FFI_CallFrame* frame, XLA_FFI_Error* error) {
  if (!error) return false;
  XLA_FFI_Error_Destroy_Args args = {sizeof args, nullptr, error};
  frame->api->XLA_FFI_Error_Destroy(&args);
  return true;
}

static long threads_of(XLA_FFI_CallFrame* frame) {
  int64_t threads = 1;
  XLA_FFI_ThreadPool_NumThreads_Args args = {sizeof args, nullptr, frame->ctx, &threads};
  return failed(frame, frame->api->XLA_FFI_ThreadPool_NumThreads(&args)) ? 1 : threads;
}

static void share(XLA_FFI_CallFrame* frame, long threads, long parts,
                  void (*work)(const void*, long), const void* data) {
  const long helpers = least(threads, parts) - 1;
  if (helpers < 1) {
    for (long part = 0; part < parts; part++) work(data, part);
    return;
  }
  const auto job = new Job{work, data, parts, helpers + 1};
  for (long helper = 0; helper < helpers; helper++) {
    XLA_FFI_ThreadPool_Schedule_Args args = {sizeof args, nullptr, frame->ctx, help, job};
    if (failed(frame, frame->api->XLA_FFI_ThreadPool_Schedule(&args))) job->let_go();
  }
  job->take();
  for (long turns = 1; job->done.load() < parts; turns++)
    if (turns % 1024 == 0) sched_yield();
  job->let_go();
}

// Number of examples in a part: few enough for the cache, and enough parts for all threads.
constexpr long MOST = 64, LEAST = 4;

static long part_size(long batch, long threads) {
  return least(MOST, most(LEAST, pieces_of(threads, batch)));
}

// A buffer that each thread keeps between calls, one for each use: the page faults of newly
// allocated memory take longer than filling it.
template <int use = 0>
static void* memory(size_t bytes) {
  struct Kept {
    void* at = nullptr;
    size_t bytes = 0;
    ~Kept() { free(at); }
  };
  static thread_local Kept kept;
  if (bytes > kept.bytes) {
    free(kept.at);
    kept.bytes = (bytes + 63) / 64 * 64;
    kept.at = aligned_alloc(64, kept.bytes);
    if (!kept.at) kept.bytes = 0;
  }
  return kept.at;
}

// ---- Arguments and results ----------------------------------------------------------------------

static bool asked_for_version(XLA_FFI_CallFrame* frame) {
  const auto extension = frame->extension_start;
  if (!extension || extension->type != XLA_FFI_Extension_Metadata) return false;
  const auto metadata = ((XLA_FFI_Metadata_Extension*)extension)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  return true;
}

static XLA_FFI_Error* out_of_memory(XLA_FFI_CallFrame* frame) {
  XLA_FFI_Error_Create_Args args = {sizeof args, nullptr, "no memory for a layer's packed kernels",
                                    XLA_FFI_Error_Code_RESOURCE_EXHAUSTED};
  return frame->api->XLA_FFI_Error_Create(&args);
}

static XLA_FFI_Buffer* given(XLA_FFI_CallFrame* frame, int number) {
  return (XLA_FFI_Buffer*)frame->args.args[number];
}

template <typename T>
static T* argument(XLA_FFI_CallFrame* frame, int number) {
  return (T*)given(frame, number)->data;
}

// Returns the data of an argument. A buffer of two unsigned integers contains the address of the
// data, the lower half first (see borrowed.py).
template <typename T>
static T* located(XLA_FFI_CallFrame* frame, int number) {
  const auto buffer = given(frame, number);
  if (buffer->dtype != XLA_FFI_DataType_U32) return (T*)buffer->data;
  const auto half = (const uint32_t*)buffer->data;
  return (T*)(uintptr_t)((uint64_t)half[1] << 32 | half[0]);
}

static int64_t* sizes_of_result(XLA_FFI_CallFrame* frame, int number) {
  return ((XLA_FFI_Buffer*)frame->rets.rets[number])->dims;
}

// Requests huge pages. XLA allocates large buffers anew in each run of a program, and page faults
// of 512 small pages take ten times as long as that of one huge page.
static void use_huge_pages(void* at, size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr size_t huge = 1 << 21;
  if (bytes < huge) return;
  const auto first = (uintptr_t)at / huge * huge;
  const auto last = ((uintptr_t)at + bytes + huge - 1) / huge * huge;
  madvise((void*)first, last - first, MADV_HUGEPAGE);  // a hint, which may fail
#endif
}

template <typename T>
static T* result(XLA_FFI_CallFrame* frame, int number) {
  if (number >= frame->rets.size) return nullptr;
  const auto buffer = (XLA_FFI_Buffer*)frame->rets.rets[number];
  size_t bytes = sizeof(T);
  for (int axis = 0; axis < buffer->rank; axis++) bytes *= buffer->dims[axis];
  use_huge_pages(buffer->data, bytes);
  return (T*)buffer->data;
}

// Each library is compiled for one floating-point type; see DOUBLE in native.py.
#ifdef DOUBLE
typedef double Number;
#else
typedef float Number;
#endif

// Exports a function template, instantiated for the floating-point type and other arguments, to
// XLA.
#define HANDLER(name, function, ...)                                     \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* name( \
      XLA_FFI_CallFrame* frame) {                                        \
    if (asked_for_version(frame)) return nullptr;                        \
    return function<Number, ##__VA_ARGS__>(frame);                       \
  }
