// The scheduler behind cuda_runtime.h.
#include "fibers.h"

#include <cuda_runtime.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cuda_rows.h"

dim3 threadIdx, blockIdx, blockDim;
Search* search = nullptr;

namespace {

constexpr unsigned kWarp = 32;
constexpr size_t kStackBytes = 64 << 10;

enum class Waits { kNo, kWarp, kBlock, kDone };

// What a fiber waits for, and where. A line that is inlined is in several places: a search keeps
// those apart by the address of the call, and needs kernels compiled without jump threading, which
// puts one call into several places.
struct Place {
  Waits waits = Waits::kNo;
  const char* file = "";
  int line = 0;
  const void* call = nullptr;

  bool operator==(const Place& other) const {
    return waits == other.waits && line == other.line && std::strcmp(file, other.file) == 0 &&
           (search == nullptr || call == other.call);
  }
};

struct Fiber {
  ucontext_t start;
  jmp_buf point;
  bool started = false;
  Place at;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<uint32_t> exchanged;
jmp_buf scheduler;
int current = -1;
std::string failure;
emokernel::CudaRowKernel running_kernel;
const emokernel::CudaRows* running_rows;

void pass_on(const Place& place) {
  fibers[current]->at = place;
  if (_setjmp(fibers[current]->point) == 0) _longjmp(scheduler, 1);
}

void body() {
  running_kernel(*running_rows);
  fibers[current]->at = {Waits::kDone};
  _longjmp(scheduler, 1);
}

void step(unsigned thread) {
  Fiber& fiber = *fibers[thread];
  current = static_cast<int>(thread);
  threadIdx.x = thread;
  if (_setjmp(scheduler) != 0) {
    current = -1;
    return;
  }
  if (fiber.started) _longjmp(fiber.point, 1);
  fiber.started = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber.start, body, 0);
  setcontext(&fiber.start);
}

// Whether all of [begin, end) wait for the same at one place; lets them go on if so.
bool release(unsigned begin, unsigned end, Waits waits) {
  for (unsigned i = begin; i < end; ++i) {
    if (fibers[i]->at.waits != waits || !(fibers[i]->at == fibers[begin]->at)) return false;
  }
  for (unsigned i = begin; i < end; ++i) fibers[i]->at = {};
  return true;
}

// Who waits where: "32 threads (the first is 0) at the barrier in cuda_block.cuh:52, ..."
std::string who_waits_where(unsigned threads) {
  std::map<std::tuple<Waits, const void*>, std::vector<unsigned>> groups;
  for (unsigned i = 0; i < threads; ++i) {
    groups[{fibers[i]->at.waits, fibers[i]->at.call}].push_back(i);
  }
  std::string text = "the threads of block " + std::to_string(blockIdx.x) + " part:";
  for (const auto& [key, group] : groups) {
    const Place& at = fibers[group.front()]->at;
    const char* slash = std::strrchr(at.file, '/');
    text += (text.back() == ':' ? " " : ", ") + std::to_string(group.size()) +
            " threads (the first is " + std::to_string(group.front()) + ") ";
    if (at.waits == Waits::kDone) {
      text += "have ended";
    } else {
      text += std::string("at the ") + (at.waits == Waits::kBlock ? "barrier" : "exchange") +
              " in " + (slash ? slash + 1 : at.file) + ":" + std::to_string(at.line);
    }
  }
  return text;
}

// Takes the next of the units that can go on.
unsigned take(std::vector<unsigned>& ready) {
  if (search != nullptr) std::swap(ready[search->choose(ready.size())], ready.back());
  const unsigned first = ready.back();
  ready.pop_back();
  return first;
}

void step_unit(unsigned first, unsigned unit) {
  unsigned order[kWarp];
  std::iota(order, order + unit, first);
  if (search != nullptr) {
    for (unsigned i = unit; i > 1; --i) std::swap(order[search->choose(i)], order[i - 1]);
  }
  for (unsigned i = 0; i < unit; ++i) step(order[i]);
  if (search != nullptr) search->between();
}

// Whether it came to its end; `failure` says why not.
bool run_block(unsigned threads) {
  const unsigned unit = search != nullptr ? search->unit() : kWarp;
  std::vector<unsigned> ready;
  const auto add = [&](unsigned begin, unsigned end) {
    for (unsigned i = end; i > begin; i -= unit) ready.push_back(i - unit);
  };
  for (unsigned i = 0; i < threads; ++i) {
    fibers[i]->started = false;
    fibers[i]->at = {};
  }
  if (search != nullptr) search->begin_block();
  for (;;) {
    add(0, threads);
    while (!ready.empty()) {
      const unsigned first = take(ready);
      step_unit(first, unit);
      const unsigned warp = first / kWarp * kWarp;
      if (release(warp, warp + kWarp, Waits::kWarp)) add(warp, warp + kWarp);
    }
    if (release(0, threads, Waits::kDone)) return true;
    if (!release(0, threads, Waits::kBlock)) {
      failure = who_waits_where(threads);
      return false;
    }
    if (search != nullptr) search->meet();
  }
}

}  // namespace

int running_thread() { return current; }

bool on_running_stack(const void* address) {
  const char* stack = fibers[current]->stack.get();
  return address >= stack && address < stack + kStackBytes;
}

__attribute__((noinline)) void __syncthreads(const char* file, int line) {
  pass_on({Waits::kBlock, file, line, __builtin_return_address(0)});
}

__attribute__((noinline)) uint32_t host_exchange(uint32_t bits, int from_lane, const char* file,
                                                 int line) {
  const Place here{Waits::kWarp, file, line, __builtin_return_address(0)};
  exchanged[current] = bits;
  pass_on(here);
  const uint32_t taken = exchanged[current / kWarp * kWarp + from_lane];
  pass_on(here);  // before anybody gives the next
  return taken;
}

__attribute__((noinline)) unsigned __ballot_sync(unsigned, bool predicate, const char* file,
                                                 int line) {
  const Place here{Waits::kWarp, file, line, __builtin_return_address(0)};
  exchanged[current] = predicate;
  pass_on(here);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    ballot |= exchanged[current / kWarp * kWarp + lane] << lane;
  }
  pass_on(here);
  return ballot;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel,
                                void** arguments) {
  running_kernel = reinterpret_cast<emokernel::CudaRowKernel>(const_cast<void*>(kernel));
  running_rows = static_cast<const emokernel::CudaRows*>(arguments[0]);
  blockDim = config->blockDim;
  while (fibers.size() < blockDim.x) fibers.push_back(std::make_unique<Fiber>());
  exchanged.resize(fibers.size());
  for (unsigned block = 0; block < config->gridDim.x; ++block) {
    blockIdx.x = block;
    if (!run_block(blockDim.x)) return cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : failure.c_str();
}
