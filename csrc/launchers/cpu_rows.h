// Runs a row problem on the CPU: which kernel, which stores, how many threads.
#pragma once

#include <cstdint>

#include "cpu_isa.h"
#include "../kernels/rows.h"

namespace emokernel {

// Calls task(begin, end, context) over a partition of [0, count), none smaller than grain unless
// count is; the shape of torch's parallel_for.
using Task = void (*)(int64_t begin, int64_t end, void* context);
using ParallelFor = void (*)(int64_t count, int64_t grain, Task task, void* context);

// By the level of `choose_isa`, which the first call settles (and throws as it does); throws
// std::bad_alloc without memory for a few rows per thread.
void launch_rows(RowProblem problem, Operation operation, DType stream, DType basis,
                 ParallelFor parallel_for);

}  // namespace emokernel

// Replaces the level that runs by the one so named; false if it was not built or is not supported.
// For comparing levels within one process (tests, benchmarks); not while an operation runs.
extern "C" __attribute__((visibility("default"))) bool emokernel_use_cpu_isa(const char* name);
