#include "cpu_rows.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "../kernels/lanes.h"

namespace emokernel {

namespace portable {
const KernelTable& kernel_table();
}
#if defined(EMOKERNEL_X86)
namespace avx2 {
const KernelTable& kernel_table();
}
namespace avx512 {
const KernelTable& kernel_table();
}
#endif

namespace {

// Below this many elements per thread a second thread costs more than it saves.
constexpr int64_t kGrainElements = 16384;
// Outputs that no cache would still hold for their reader are stored around the caches.
constexpr int64_t kStreamBytes = int64_t{8} << 20;

const KernelTable& table_of(Isa isa) {
#if defined(EMOKERNEL_X86)
  if (isa == Isa::kAvx512) return avx512::kernel_table();
  if (isa == Isa::kAvx2) return avx2::kernel_table();
#endif
  return portable::kernel_table();
}

Isa& isa_in_use() {
  static Isa isa = choose_isa();
  return isa;
}

struct FreeDeleter {
  void operator()(float* memory) const { std::free(memory); }
};

// Scratch of the calling thread: it grows to the longest row that the thread has seen.
float* thread_scratch(int64_t floats) {
  thread_local std::unique_ptr<float, FreeDeleter> memory;
  thread_local int64_t capacity = 0;
  if (capacity < floats) {
    const size_t bytes = (floats * sizeof(float) + kStreamAlignment - 1) / kStreamAlignment *
                         kStreamAlignment;
    memory.reset(static_cast<float*>(std::aligned_alloc(kStreamAlignment, bytes)));
    capacity = memory ? floats : 0;
    if (!memory) throw std::bad_alloc();
  }
  return memory.get();
}

bool aligned(const void* output) {
  return reinterpret_cast<uintptr_t>(output) % kStreamAlignment == 0;
}

// Of rows in place. Each row reads its slot again: this only guides how they are shared out. Two
// threads for 256 rows of which none is steered took 15 to 30 us instead of 8.
int64_t rows_with_a_slot(const RowProblem& problem) {
  const Strided<int32_t>& slots = problem.tables.token_slot;
  int64_t count = 0;
  for (int64_t i = 0; i < problem.rows; ++i) {
    const int32_t slot = __atomic_load_n(slots.data + i * slots.stride, __ATOMIC_RELAXED);
    count += slot >= 0 && slot < problem.tables.slots;
  }
  return count;
}

struct Launch {
  RowProblem problem;
  RowKernel kernel;
};

void run_share(int64_t begin, int64_t end, void* context) {
  const Launch& launch = *static_cast<const Launch*>(context);
  launch.kernel(launch.problem, begin, end, thread_scratch(scratch_floats(launch.problem.d)));
}

}  // namespace

void launch_rows(RowProblem problem, Operation operation, DType stream, DType basis,
                 ParallelFor parallel_for) {
  const int64_t size = element_size(stream);
  problem.stream = !in_place(operation) && problem.rows * problem.d * size >= kStreamBytes &&
                   problem.d * size % kStreamAlignment == 0 && aligned(problem.y) &&
                   aligned(problem.normed);
  const KernelTable& table = table_of(isa_in_use());
  Launch launch{problem, table.kernels[static_cast<int>(operation)][static_cast<int>(stream)]
                                      [basis == stream ? 0 : 1]};
  int64_t grain = 1 + (kGrainElements - 1) / problem.d;
  if (in_place(operation) && problem.rows > grain) {  // what a share changes is worth a thread
    const int64_t work = rows_with_a_slot(problem);
    if (work == 0) return;
    grain = work > grain ? grain * problem.rows / work : problem.rows;
  }
  if (problem.rows <= grain) {
    run_share(0, problem.rows, &launch);
  } else {
    parallel_for(problem.rows, grain, run_share, &launch);
  }
}

}  // namespace emokernel

bool emokernel_use_cpu_isa(const char* name) {
  for (emokernel::Isa isa : emokernel::isas_built()) {
    if (std::strcmp(name, emokernel::isa_name(isa)) != 0) continue;
    if (!emokernel::isa_supported(isa)) return false;
    emokernel::isa_in_use() = isa;
    return true;
  }
  return false;
}
