// Vec for AVX2 with F16C: four registers of eight floats make a block (face: vec_portable.h).
#pragma once

#include <immintrin.h>

#include <type_traits>

#include "dtype.h"
#include "lanes.h"

namespace {

using emokernel::Bf16;
using emokernel::Fp16;
using emokernel::kLanes;

struct Vec {
  static constexpr int kRegisters = kLanes / 8;

  struct Block {
    __m256 part[kRegisters];
  };

  template <class T>
  struct Half {
    __m128i part[kRegisters];
  };

  template <class T>
  using Packed = std::conditional_t<std::is_same_v<T, float>, Block, Half<T>>;

  EMOKERNEL_HD Block splat(float value) {
    Block out;
    for (int i = 0; i < kRegisters; ++i) out.part[i] = _mm256_set1_ps(value);
    return out;
  }

  EMOKERNEL_HD Block add(const Block& a, const Block& b) {
    Block out;
    for (int i = 0; i < kRegisters; ++i) out.part[i] = _mm256_add_ps(a.part[i], b.part[i]);
    return out;
  }

  EMOKERNEL_HD Block mul(const Block& a, const Block& b) {
    Block out;
    for (int i = 0; i < kRegisters; ++i) out.part[i] = _mm256_mul_ps(a.part[i], b.part[i]);
    return out;
  }

  EMOKERNEL_HD Block load(const float* from) {
    Block out;
    for (int i = 0; i < kRegisters; ++i) out.part[i] = _mm256_loadu_ps(from + 8 * i);
    return out;
  }

  template <class T>
  EMOKERNEL_HD Half<T> load(const T* from) {
    Half<T> out;
    for (int i = 0; i < kRegisters; ++i) {
      out.part[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8 * i));
    }
    return out;
  }

  template <bool kStream>
  EMOKERNEL_HD void store(float* to, const Block& block) {
    for (int i = 0; i < kRegisters; ++i) {
      kStream ? _mm256_stream_ps(to + 8 * i, block.part[i])
              : _mm256_storeu_ps(to + 8 * i, block.part[i]);
    }
  }

  template <bool kStream, class T>
  EMOKERNEL_HD void store(T* to, const Half<T>& packed) {
    for (int i = 0; i < kRegisters; ++i) {
      __m128i* at = reinterpret_cast<__m128i*>(to + 8 * i);
      kStream ? _mm_stream_si128(at, packed.part[i]) : _mm_storeu_si128(at, packed.part[i]);
    }
  }

  EMOKERNEL_HD Block unpack(const Block& block) { return block; }

  EMOKERNEL_HD Block unpack(const Half<Bf16>& packed) {
    Block out;
    for (int i = 0; i < kRegisters; ++i) {
      const __m256i wide = _mm256_cvtepu16_epi32(packed.part[i]);
      out.part[i] = _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    return out;
  }

  EMOKERNEL_HD Block unpack(const Half<Fp16>& packed) {
    Block out;
    for (int i = 0; i < kRegisters; ++i) out.part[i] = _mm256_cvtph_ps(packed.part[i]);
    return out;
  }

  EMOKERNEL_HD void pack(const Block& block, Block* to) { *to = block; }

  EMOKERNEL_HD void pack(const Block& block, Half<Bf16>* to) {
    for (int i = 0; i < kRegisters; i += 2) {
      const __m256i mixed =
          _mm256_packus_epi32(bf16_bits(block.part[i]), bf16_bits(block.part[i + 1]));
      const __m256i ordered = _mm256_permute4x64_epi64(mixed, 0xd8);
      to->part[i] = _mm256_castsi256_si128(ordered);
      to->part[i + 1] = _mm256_extracti128_si256(ordered, 1);
    }
  }

  EMOKERNEL_HD void pack(const Block& block, Half<Fp16>* to) {
    for (int i = 0; i < kRegisters; ++i) {
      to->part[i] = _mm256_cvtps_ph(block.part[i], _MM_FROUND_TO_NEAREST_INT);
    }
  }

  EMOKERNEL_HD void finish_stores() { _mm_sfence(); }

  EMOKERNEL_HD __m256i bf16_bits(__m256 value) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
  }
};

}  // namespace
