// What the threads of a block do together: sums in a fixed order, and waiting for other kernels.
#pragma once

#include <cuda_runtime.h>

#include "cuda_rows.h"

namespace emokernel {

constexpr unsigned kAllLanes = 0xffffffffu;

// Sums over the block. Every thread gets the same bits: lanes are added by halving, then the warps
// in order. Each sum of a kernel has memory of its own, so one barrier is enough.
class BlockSums {
 public:
  static constexpr int kMost = 4;  // two of the law, two of a LayerNorm
  using Partials = float2[kMost][kCudaMaxThreads / kCudaWarp];

  __device__ __forceinline__ explicit BlockSums(Partials& partials) : partials_(partials) {}

  __device__ __forceinline__ float2 operator()(float2 value) {
#pragma unroll
    for (int width = kCudaWarp / 2; width > 0; width /= 2) {
      value.x += __shfl_xor_sync(kAllLanes, value.x, width);
      value.y += __shfl_xor_sync(kAllLanes, value.y, width);
    }
    return over_warps(value);
  }

  __device__ __forceinline__ float operator()(float value) {
#pragma unroll
    for (int width = kCudaWarp / 2; width > 0; width /= 2) {
      value += __shfl_xor_sync(kAllLanes, value, width);
    }
    return over_warps(make_float2(value, 0.0f)).x;
  }

 private:
  __device__ __forceinline__ float2 over_warps(float2 value) {
    const int warps = static_cast<int>(blockDim.x) / kCudaWarp;
    float2* const partial = partials_[used_++];
    if (threadIdx.x % kCudaWarp == 0) partial[threadIdx.x / kCudaWarp] = value;
    __syncthreads();
    float2 total = partial[0];
    for (int warp = 1; warp < warps; ++warp) {
      total.x += partial[warp].x;
      total.y += partial[warp].y;
    }
    return total;
  }

  Partials& partials_;
  int used_ = 0;
};

// Programmatic dependent launch: until wait_for_inputs returns, the kernel before this one may still
// be running and its results unseen. Every thread calls it, since the kernel after this one relies
// on that.
__device__ __forceinline__ void wait_for_inputs() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the kernel after this one start; it waits for the results by itself.
__device__ __forceinline__ void let_next_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

}  // namespace emokernel
