// The scheduler behind cuda_runtime.h, and the operations registered for CPU tensors.
#include <cuda_runtime.h>
#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "binding/call.h"
#include "kernels/cuda_rows.h"
#include "launchers/cuda_rows.h"

dim3 threadIdx, blockIdx, blockDim;

namespace {

constexpr unsigned kWarp = 32;
constexpr size_t kStackBytes = 64 << 10;

enum class Waits { kNo, kWarp, kBlock, kDone };

struct Fiber {
  ucontext_t start;
  jmp_buf point;
  bool started = false;
  Waits waits = Waits::kNo;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<uint32_t> exchanged;
jmp_buf scheduler;
unsigned current;
emokernel::CudaRowKernel running_kernel;
const emokernel::CudaRows* running_rows;

void pass_on(Waits waits) {
  fibers[current]->waits = waits;
  if (_setjmp(fibers[current]->point) == 0) _longjmp(scheduler, 1);
}

void body() {
  running_kernel(*running_rows);
  fibers[current]->waits = Waits::kDone;
  _longjmp(scheduler, 1);
}

void step(unsigned thread) {
  Fiber& fiber = *fibers[thread];
  current = thread;
  threadIdx.x = thread;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.point, 1);
  fiber.started = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber.start, body, 0);
  setcontext(&fiber.start);
}

// Whether all of [begin, end) wait for the same; lets them go on if so.
bool release(unsigned begin, unsigned end, Waits waits) {
  for (unsigned i = begin; i < end; ++i) {
    if (fibers[i]->waits != waits) return false;
  }
  for (unsigned i = begin; i < end; ++i) fibers[i]->waits = Waits::kNo;
  return true;
}

void run_block(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) {
    fibers[i]->started = false;
    fibers[i]->waits = Waits::kNo;
  }
  for (;;) {
    bool moved = false;
    for (unsigned warp = 0; warp < threads; warp += kWarp) {
      do {
        for (unsigned i = warp; i < warp + kWarp; ++i) {
          if (fibers[i]->waits == Waits::kNo) step(i), moved = true;
        }
      } while (release(warp, warp + kWarp, Waits::kWarp));
    }
    if (release(0, threads, Waits::kDone)) return;
    if (!release(0, threads, Waits::kBlock) && !moved) {
      std::fprintf(stderr, "deadlock: the threads of a block wait for different things\n");
      std::abort();
    }
  }
}

void launch(const emokernel::Call&, const emokernel::Checked& checked) {
  emokernel::launch_cuda_rows(checked.problem, checked.stream, checked.basis, 0, nullptr);
}

}  // namespace

void __syncthreads() { pass_on(Waits::kBlock); }

uint32_t host_exchange(uint32_t bits, int from_lane) {
  exchanged[current] = bits;
  pass_on(Waits::kWarp);
  const uint32_t taken = exchanged[current / kWarp * kWarp + from_lane];
  pass_on(Waits::kWarp);  // before anybody gives the next
  return taken;
}

unsigned __ballot_sync(unsigned, bool predicate) {
  exchanged[current] = predicate;
  pass_on(Waits::kWarp);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    ballot |= exchanged[current / kWarp * kWarp + lane] << lane;
  }
  pass_on(Waits::kWarp);
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
    run_block(blockDim.x);
  }
  return cudaSuccess;
}

EMOKERNEL_REGISTER(emokernel_on_host, CPU, launch)
