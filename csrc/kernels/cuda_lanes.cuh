// Sixteen bytes of a row at a time: conversions, loads and stores of the CUDA kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "dtype.h"

namespace emokernel {

// Elements of T in one vector of 16 bytes.
template <class T>
constexpr int kLanesOf = 16 / static_cast<int>(sizeof(T));

// One vector as it lies in memory; halves in pairs, the first in the lower bits.
template <class T>
struct alignas(16) Packed {
  uint32_t word[4];
};

// Two fp32 numbers, rounded to nearest even into one word.
template <class T>
__device__ __forceinline__ uint32_t narrow_pair(float first, float second) {
#if defined(__CUDA_ARCH__)
  uint32_t word;
  if constexpr (std::is_same_v<T, Bf16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  }
  return word;
#else
  T pair[2];
  narrow(first, &pair[0]);
  narrow(second, &pair[1]);
  return pair[0].bits | uint32_t{pair[1].bits} << 16;
#endif
}

__device__ __forceinline__ float widen_half(uint16_t bits, const Bf16*) {
  return widen(Bf16{bits});
}

__device__ __forceinline__ float widen_half(uint16_t bits, const Fp16*) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#else
  return widen(Fp16{bits});
#endif
}

__device__ __forceinline__ void unpack(const Packed<float>& packed, float* lanes) {
#pragma unroll
  for (int i = 0; i < 4; ++i) lanes[i] = bits_float(packed.word[i]);
}

template <class T>
__device__ __forceinline__ void unpack(const Packed<T>& packed, float* lanes) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    lanes[2 * i] = widen_half(static_cast<uint16_t>(packed.word[i]), static_cast<T*>(nullptr));
    lanes[2 * i + 1] =
        widen_half(static_cast<uint16_t>(packed.word[i] >> 16), static_cast<T*>(nullptr));
  }
}

__device__ __forceinline__ void pack(const float* lanes, Packed<float>* packed) {
#pragma unroll
  for (int i = 0; i < 4; ++i) packed->word[i] = float_bits(lanes[i]);
}

template <class T>
__device__ __forceinline__ void pack(const float* lanes, Packed<T>* packed) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    packed->word[i] = narrow_pair<T>(lanes[2 * i], lanes[2 * i + 1]);
  }
}

// The vector that begins at a column of a row of d elements; zeros lie beyond the row. With kWide,
// d is a multiple of kLanesOf<T> and the row is aligned to 16 bytes. Both widths give the same
// vectors to the same threads: width changes the loads, not the sums.
template <bool kWide, class T>
__device__ __forceinline__ Packed<T> load_vector(const T* row, int column, int d) {
  Packed<T> packed = {{0, 0, 0, 0}};
  if constexpr (kWide) {
    if (column < d) {
      const uint4 whole = *reinterpret_cast<const uint4*>(row + column);
      packed = {{whole.x, whole.y, whole.z, whole.w}};
    }
  } else if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (column + i < d) packed.word[i] = float_bits(row[column + i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kLanesOf<T>; ++i) {
      if (column + i < d) packed.word[i / 2] |= uint32_t{row[column + i].bits} << (16 * (i % 2));
    }
  }
  return packed;
}

template <bool kWide, class T>
__device__ __forceinline__ void store_vector(T* row, int column, int d, const Packed<T>& packed) {
  if constexpr (kWide) {
    if (column < d) {
      *reinterpret_cast<uint4*>(row + column) =
          make_uint4(packed.word[0], packed.word[1], packed.word[2], packed.word[3]);
    }
  } else if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (column + i < d) row[column + i] = bits_float(packed.word[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kLanesOf<T>; ++i) {
      if (column + i < d) {
        row[column + i].bits = static_cast<uint16_t>(packed.word[i / 2] >> (16 * (i % 2)));
      }
    }
  }
}

// kCount elements from a column on, in fp32.
template <bool kWide, int kCount, class T>
__device__ __forceinline__ void load_lanes(const T* row, int column, int d, float* lanes) {
  constexpr int kStep = kLanesOf<T>;
#pragma unroll
  for (int i = 0; i < kCount; i += kStep) {
    unpack(load_vector<kWide>(row, column + i, d), lanes + i);
  }
}

// Asks the second-level cache, which all kernels share, for the line of an element.
template <class T>
__device__ __forceinline__ void fetch_ahead(const T* row, int column, int d) {
  if (column >= d) return;
  [[maybe_unused]] const T* const element = row + column;
#if defined(__CUDA_ARCH__)
  asm volatile("prefetch.global.L2 [%0];" ::"l"(element));
#endif
}

}  // namespace emokernel
