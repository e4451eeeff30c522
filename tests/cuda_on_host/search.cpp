// A search for races in the kernels: their threads run in a random order, a hostile writer changes
// given memory between the steps, and every access to memory is noted.
//
// The kernels are compiled with -fsanitize=thread, whose calls to its run-time library end here.
// A race is a word that two threads touch between the same two barriers, one of them writing; an
// exchange within a warp orders no memory.
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "fibers.h"
#include "kernels/cuda_rows.h"
#include "kernels/dtype.h"
#include "kernels/lanes.h"
#include "launchers/cuda_rows.h"

namespace emokernel {

// What a library with a fault in it does without.
template <>
__attribute__((weak)) CudaRowKernel cuda_row_kernel<Bf16>(CudaShape, bool) {
  throw std::runtime_error("this library has no kernel for bfloat16");
}
template <>
__attribute__((weak)) CudaRowKernel cuda_row_kernel<Fp16>(CudaShape, bool) {
  throw std::runtime_error("this library has no kernel for float16");
}

namespace portable {
__attribute__((weak)) const KernelTable& kernel_table();
}

}  // namespace emokernel

extern "C" {

// Memory that is rewritten between the steps, each time with one of `count` versions.
struct HostRewrite {
  void* target;
  int64_t bytes;
  const void* versions;
  int64_t count;
};

// Contiguous rows, and the tables of a layer; as in search.py. Without a residual, x is y.
struct HostRows {
  const void *x, *residual, *weight, *bias;
  void *y, *normed;
  const void *basis, *token_slot, *ids, *weights, *law;
  int64_t rows, d, vectors, slots, components;
  int64_t dtype, basis_dtype;  // of emokernel::DType
  int64_t cast;
  double eps;
};

struct HostSearch {
  int64_t seed;
  int64_t apart;  // whether the lanes of a warp take their steps each for itself
  const HostRewrite* rewrites;
  int64_t count;
  int64_t most_reads;  // out: how often a block read one word of what is rewritten, at most
};

#define EXPORTED __attribute__((visibility("default")))
EXPORTED const char* emokernel_host_rows(const HostRows* given, HostSearch* options);
EXPORTED void emokernel_host_cpu_rows(const HostRows* given, HostSearch* options);
}

namespace {

constexpr unsigned kWarp = 32;
constexpr int kNobody = -1, kSeveral = -2;

class Races : public Search {
 public:
  explicit Races(HostSearch& options) : options_(options), random_(options.seed) {}

  unsigned unit() const override { return options_.apart ? 1 : kWarp; }
  unsigned choose(unsigned count) override { return random_() % count; }

  void begin_block() override {
    touched_.clear();
    reads_.clear();
  }

  void meet() override { touched_.clear(); }

  void between() override {
    for (int64_t i = 0; i < options_.count; ++i) {
      const HostRewrite& rewrite = options_.rewrites[i];
      if (choose(3) != 0) continue;
      const char* version = static_cast<const char*>(rewrite.versions);
      std::memcpy(rewrite.target, version + choose(rewrite.count) * rewrite.bytes, rewrite.bytes);
    }
  }

  // Notes an access: of a running thread of a block, or of a kernel for CPUs.
  void touch(const char* address, size_t size, bool writes) {
    if (!writes && rewritten(address)) {
      const int64_t reads = ++reads_[address];
      if (reads > options_.most_reads) options_.most_reads = reads;
    }
    if (running_thread() < 0 || on_running_stack(address)) return;
    for (size_t i = 0; i < size; ++i) touch_byte(address + i, writes);
  }

  const std::string& found() const { return found_; }

  bool rewritten(const char* address) const {
    for (int64_t i = 0; i < options_.count; ++i) {
      const auto* target = static_cast<const char*>(options_.rewrites[i].target);
      if (address >= target && address < target + options_.rewrites[i].bytes) return true;
    }
    return false;
  }

 private:
  struct Touched {
    int reader = kNobody, writer = kNobody;
  };

  void touch_byte(const char* address, bool writes) {
    const int self = running_thread();
    const auto other = [self](int thread) { return thread != kNobody && thread != self; };
    Touched& touched = touched_[address];
    if (found_.empty() && (other(touched.writer) || (writes && other(touched.reader)))) {
      const bool wrote = other(touched.writer);
      const int who = wrote ? touched.writer : touched.reader;
      found_ = "a race: thread " + std::to_string(self) + (writes ? " writes" : " reads") +
               " a word that " +
               (who == kSeveral ? "several threads" : "thread " + std::to_string(who)) +
               (wrote ? " wrote" : " read") + ", with no barrier between";
    }
    int& slot = writes ? touched.writer : touched.reader;
    slot = slot == kNobody || slot == self ? self : kSeveral;
  }

  HostSearch& options_;
  std::mt19937 random_;
  std::unordered_map<const char*, Touched> touched_;  // since the last barrier
  std::unordered_map<const char*, int64_t> reads_;    // of this block
  std::string found_;
};

Races* races = nullptr;

void note(const void* address, size_t size, bool writes) {
  if (races != nullptr) races->touch(static_cast<const char*>(address), size, writes);
}

emokernel::RowProblem problem_of(const HostRows& given) {
  emokernel::RowProblem problem;
  const int64_t d = given.d, components = given.components;
  problem.rows = given.rows;
  problem.d = d;
  problem.x = {given.x, d};
  if (given.residual != nullptr) problem.residual = {given.residual, d};
  problem.y = given.y;
  problem.normed = given.normed;
  problem.weight = given.weight;
  problem.bias = given.bias;
  problem.eps = static_cast<float>(given.eps);
  problem.cast = static_cast<emokernel::Cast>(given.cast);
  problem.tables.basis = {given.basis, d};
  problem.tables.token_slot = {static_cast<const int32_t*>(given.token_slot), 1};
  problem.tables.ids = {static_cast<const int32_t*>(given.ids), components};
  problem.tables.weights = {static_cast<const float*>(given.weights), components};
  problem.tables.law = {static_cast<const int32_t*>(given.law), 1};
  problem.tables.vectors = given.vectors;
  problem.tables.slots = given.slots;
  problem.tables.components = static_cast<int>(components);
  return problem;
}

emokernel::Operation operation_of(const HostRows& given) {
  using emokernel::Operation;
  if (given.residual == nullptr) return Operation::kSteerRmsNorm;
  if (given.bias != nullptr) return Operation::kAddSteerLayerNorm;
  return given.weight != nullptr ? Operation::kAddSteerRmsNorm : Operation::kAddSteer;
}

}  // namespace

// Why the rows could not be computed as they should, or null; without options, nothing is searched.
const char* emokernel_host_rows(const HostRows* given, HostSearch* options) {
  static std::string said;
  said.clear();
  std::optional<Races> searching;
  if (options != nullptr) search = races = &searching.emplace(*options);
  try {
    emokernel::launch_cuda_rows(problem_of(*given), operation_of(*given),
                                static_cast<emokernel::DType>(given->dtype),
                                static_cast<emokernel::DType>(given->basis_dtype), 0, nullptr);
  } catch (const std::exception& error) {
    said = error.what();
  }
  search = races = nullptr;
  if (searching && !searching->found().empty()) {
    said = searching->found() + (said.empty() ? "" : "; ") + said;
  }
  return said.empty() ? nullptr : said.c_str();
}

// The same rows by the portable kernel for CPUs, one after the other.
void emokernel_host_cpu_rows(const HostRows* given, HostSearch* options) {
  const auto kernel = emokernel::portable::kernel_table().kernels[static_cast<int>(
      operation_of(*given))][given->dtype][given->dtype == given->basis_dtype ? 0 : 1];
  const emokernel::RowProblem problem = problem_of(*given);
  std::vector<float> scratch(emokernel::scratch_floats(problem.d));
  for (int64_t row = 0; row < problem.rows; ++row) {
    Races searching(*options);
    races = &searching;
    kernel(problem, row, row + 1, scratch.data());
    races = nullptr;
  }
}

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* address, size_t size) { note(address, size, false); }
void __tsan_write_range(void* address, size_t size) { note(address, size, true); }

#define ACCESS(size)                                                            \
  void __tsan_read##size(void* address) { note(address, size, false); }         \
  void __tsan_write##size(void* address) { note(address, size, true); }         \
  void __tsan_unaligned_read##size(void* address) { note(address, size, false); } \
  void __tsan_unaligned_write##size(void* address) { note(address, size, true); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

int __tsan_atomic32_load(const volatile int* address, int) {
  const int value = *address;
  note(const_cast<const int*>(address), sizeof value, false);
  return value;
}
}
