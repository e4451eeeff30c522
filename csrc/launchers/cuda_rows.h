// Runs a row problem on a CUDA device: which kernel, which shape, and how it is queued.
#pragma once

#include "../kernels/rows.h"

namespace emokernel {

// Queues the rows (at least one) on a stream of the device, which is the current one; no memory is
// taken and nothing is waited for. Throws std::runtime_error for rows that are too long or too many,
// and where CUDA refuses the launch.
void launch_cuda_rows(const RowProblem& problem, Operation operation, DType stream, DType basis,
                      int device, void* cuda_stream);

}  // namespace emokernel
