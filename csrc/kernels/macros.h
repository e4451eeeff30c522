// Qualifiers for code that is compiled for the host once per instruction set, and for a device.
#pragma once

#if defined(__CUDACC__)
#define EMOKERNEL_HD __host__ __device__ __forceinline__
#else
// Internal linkage: a weak symbol would let the linker hand AVX-512 code to a CPU without it.
#define EMOKERNEL_HD static inline __attribute__((always_inline))
#endif
