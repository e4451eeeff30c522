// Just enough of CUDA to run the kernels of csrc/kernels on the host, one block at a time.
//
// The threads of a block are fibers of one OS thread. Each runs until it meets the others, at a
// barrier or a warp exchange, and passes control on. Threads that meet at different places, or wait
// for others that have ended, fail the launch with a message. Everything is deterministic and races
// cannot show, unless they are searched for (search.cpp).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstddef>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __grid_constant__
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

// Set before every step of a fiber.
extern dim3 threadIdx, blockIdx, blockDim;

// Where a call stands in the source, found by the compiler.
#define HOST_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

void __syncthreads(HOST_HERE);
// Gives `bits` to the warp and returns those of another lane.
uint32_t host_exchange(uint32_t bits, int from_lane, const char* file, int line);
unsigned __ballot_sync(unsigned mask, bool predicate, HOST_HERE);

template <class T>
T __shfl_sync(unsigned, T value, int lane, HOST_HERE) {
  static_assert(sizeof(T) == 4, "the shim exchanges words");
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  bits = host_exchange(bits, lane, file, line);
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int width, HOST_HERE) {
  return __shfl_sync(mask, value, static_cast<int>(threadIdx.x % 32) ^ width, file, line);
}

inline int __ffs(int value) { return __builtin_ffs(value); }

// The host side, as far as csrc/launchers uses it.
using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorLaunchFailure = 719 };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor, cudaDevAttrMultiProcessorCount };
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

// Of a launch that failed: which threads waited where.
const char* cudaGetErrorString(cudaError_t);
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = 9, cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel,
                                void** arguments);
