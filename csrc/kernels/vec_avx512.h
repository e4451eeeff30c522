// Vec for AVX-512 F, BW, VL and DQ: two registers make a block (face: vec_portable.h).
//
// A block of bf16 has its elements with an even number in the first register, as in vec_avx2.h.
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
  static constexpr int kRegisters = kLanes / 16;

  struct Block {
    __m512 part[kRegisters];
  };

  // One cache line, so that a streaming store writes it whole.
  template <class T>
  struct Half {
    __m512i whole;
  };

  template <class T>
  using Packed = std::conditional_t<std::is_same_v<T, float>, Block, Half<T>>;

  EMOKERNEL_HD Block splat(float value) {
    return {{_mm512_set1_ps(value), _mm512_set1_ps(value)}};
  }

  EMOKERNEL_HD Block add(const Block& a, const Block& b) {
    return {{_mm512_add_ps(a.part[0], b.part[0]), _mm512_add_ps(a.part[1], b.part[1])}};
  }

  EMOKERNEL_HD Block mul(const Block& a, const Block& b) {
    return {{_mm512_mul_ps(a.part[0], b.part[0]), _mm512_mul_ps(a.part[1], b.part[1])}};
  }

  EMOKERNEL_HD Block load(const float* from) {
    return {{_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)}};
  }

  template <class T>
  EMOKERNEL_HD Half<T> load(const T* from) {
    return {_mm512_loadu_si512(from)};
  }

  template <bool kStream>
  EMOKERNEL_HD void store(float* to, const Block& block) {
    for (int i = 0; i < kRegisters; ++i) {
      kStream ? _mm512_stream_ps(to + 16 * i, block.part[i])
              : _mm512_storeu_ps(to + 16 * i, block.part[i]);
    }
  }

  template <bool kStream, class T>
  EMOKERNEL_HD void store(T* to, const Half<T>& packed) {
    kStream ? _mm512_stream_si512(reinterpret_cast<__m512i*>(to), packed.whole)
            : _mm512_storeu_si512(to, packed.whole);
  }

  EMOKERNEL_HD Block unpack(const Block& block) { return block; }

  EMOKERNEL_HD Block unpack(const Half<Bf16>& packed) {
    return {{_mm512_castsi512_ps(_mm512_slli_epi32(packed.whole, 16)),
             _mm512_castsi512_ps(_mm512_and_si512(packed.whole, upper_halves()))}};
  }

  EMOKERNEL_HD Block unpack(const Half<Fp16>& packed) {
    return {{_mm512_cvtph_ps(low(packed.whole)), _mm512_cvtph_ps(high(packed.whole))}};
  }

  EMOKERNEL_HD void pack(const Block& block, Block* to) { *to = block; }

  EMOKERNEL_HD void pack(const Block& block, Half<Bf16>* to) {
    constexpr __mmask32 kUpper = 0xaaaaaaaa;
    const __m512i even = _mm512_srli_epi32(bf16_upper(block.part[0]), 16);
    to->whole = _mm512_mask_mov_epi16(even, kUpper, bf16_upper(block.part[1]));
  }

  EMOKERNEL_HD void pack(const Block& block, Half<Fp16>* to) {
    const __m256i first = _mm512_cvtps_ph(block.part[0], _MM_FROUND_TO_NEAREST_INT);
    const __m256i second = _mm512_cvtps_ph(block.part[1], _MM_FROUND_TO_NEAREST_INT);
    to->whole = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
  }

  template <class T>
  EMOKERNEL_HD Block round(const Block& block) {
    Block out;
    for (int i = 0; i < kRegisters; ++i) {
      if constexpr (std::is_same_v<T, Bf16>) {
        const __m512i upper = _mm512_and_si512(bf16_upper(block.part[i]), upper_halves());
        out.part[i] = _mm512_castsi512_ps(upper);
      } else if constexpr (std::is_same_v<T, Fp16>) {
        out.part[i] = _mm512_cvtph_ps(_mm512_cvtps_ph(block.part[i], _MM_FROUND_TO_NEAREST_INT));
      } else {
        out.part[i] = block.part[i];
      }
    }
    return out;
  }

  template <class T>
  EMOKERNEL_HD Block arrange(const Block& block) {
    if constexpr (std::is_same_v<T, Bf16>) {
      const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14,  //
                                             16, 18, 20, 22, 24, 26, 28, 30);
      const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
      return {{_mm512_permutex2var_ps(block.part[0], even, block.part[1]),
               _mm512_permutex2var_ps(block.part[0], odd, block.part[1])}};
    } else {
      return block;
    }
  }

  template <class T>
  EMOKERNEL_HD float total(const Block& block) {
    if constexpr (std::is_same_v<T, Bf16>) {
      return halve(halved(block.part[0])) + halve(halved(block.part[1]));
    } else {
      return halve(halved(_mm512_add_ps(block.part[0], block.part[1])));
    }
  }

  EMOKERNEL_HD void finish_stores() { _mm_sfence(); }

  EMOKERNEL_HD __m256i low(__m512i value) { return _mm512_castsi512_si256(value); }

  EMOKERNEL_HD __m256i high(__m512i value) { return _mm512_extracti64x4_epi64(value, 1); }

  EMOKERNEL_HD __m512i upper_halves() { return _mm512_set1_epi32(static_cast<int>(0xffff0000u)); }

  // The rounded bits in the upper half of each word. A NaN stays one where its lower half is 0.
  EMOKERNEL_HD __m512i bf16_upper(__m512 value) {
    const __m512i bits = _mm512_castps_si512(value);
    const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    const __m512i even = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    return _mm512_mask_add_epi32(even, odd, even, _mm512_set1_epi32(1));
  }

  EMOKERNEL_HD __m256 halved(__m512 value) {
    return _mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1));
  }

  EMOKERNEL_HD float halve(__m256 value) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(two) + _mm_cvtss_f32(_mm_shuffle_ps(two, two, 1));
  }
};

}  // namespace
