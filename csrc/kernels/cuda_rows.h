// The CUDA row kernels: what they are given, and which of them runs a row.
#pragma once

#include <cstdint>

#include "rows.h"

namespace emokernel {

struct CudaRows {
  RowProblem problem;
  bool float_basis = false;  // the basis is fp32, not of the stream's dtype
  bool few_rows = false;     // all of them run at once: worth fetching ahead
  bool in_place = false;     // as Operation::kSteerRmsNorm
};

// One block per row; bits depend on the shape alone, so the shape depends on d and dtype alone.
struct CudaShape {
  int threads;
  int vectors;  // of 16 bytes, per thread
  bool kept;    // those are all of the row, and stay in registers if it is aligned
};

constexpr int kCudaWarp = 32;
constexpr int kCudaMaxThreads = 1024;
constexpr int kCudaMaxVectors = 2;
// Up to here a thread has one vector: short rows are latency, and more threads hide it better.
constexpr int64_t kCudaSingleVectors = 256;
constexpr int64_t kCudaMaxColumns = int64_t{1} << 30;

constexpr CudaShape cuda_shape(int64_t d, int element_size) {
  const int64_t lanes = 16 / element_size;
  const int64_t vectors = (d + lanes - 1) / lanes;
  if (vectors > int64_t{kCudaMaxThreads} * kCudaMaxVectors) {
    return {kCudaMaxThreads, 1, false};
  }
  const int per_thread = vectors <= kCudaSingleVectors ? 1 : kCudaMaxVectors;
  const int64_t threads = (vectors + per_thread - 1) / per_thread;
  return {static_cast<int>((threads + kCudaWarp - 1) / kCudaWarp * kCudaWarp), per_thread, true};
}

using CudaRowKernel = void (*)(const CudaRows);

// The kernel for rows of T; `wide` needs d to be a multiple of a vector and every row aligned to it.
template <class T>
CudaRowKernel cuda_row_kernel(CudaShape shape, bool wide);

}  // namespace emokernel
