// Vec for AVX-512 F, BW, VL and DQ: two registers make a block (face: vec_portable.h). With the
// BF16 extension it rounds in hardware, where that gives the same bits.
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
    // Word i of each result is half i, or 16 + i, of the input over a zero half.
    alignas(64) static const uint16_t kSpread[2][32] = {
        {0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7,
         0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15},
        {0, 16, 0, 17, 0, 18, 0, 19, 0, 20, 0, 21, 0, 22, 0, 23,
         0, 24, 0, 25, 0, 26, 0, 27, 0, 28, 0, 29, 0, 30, 0, 31}};
    constexpr __mmask32 kUpper = 0xaaaaaaaa;
    Block out;
    for (int i = 0; i < kRegisters; ++i) {
      const __m512i spread = _mm512_load_si512(kSpread[i]);
      out.part[i] =
          _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(kUpper, spread, packed.whole));
    }
    return out;
  }

  EMOKERNEL_HD Block unpack(const Half<Fp16>& packed) {
    return {{_mm512_cvtph_ps(low(packed.whole)), _mm512_cvtph_ps(high(packed.whole))}};
  }

  EMOKERNEL_HD void pack(const Block& block, Block* to) { *to = block; }

  EMOKERNEL_HD void pack(const Block& block, Half<Bf16>* to) {
#if defined(__AVX512BF16__)
    // The instruction takes subnormal numbers for zero.
    constexpr int kSubnormal = 0x20;
    const __mmask16 subnormal = _mm512_fpclass_ps_mask(block.part[0], kSubnormal) |
                                _mm512_fpclass_ps_mask(block.part[1], kSubnormal);
    if (__builtin_expect(subnormal == 0, 1)) {
      const __m512bh both = _mm512_cvtne2ps_pbh(block.part[1], block.part[0]);
      __builtin_memcpy(&to->whole, &both, sizeof both);
      return;
    }
#endif
    // Takes bytes 2 and 3 of each of the 32 rounded words.
    alignas(64) static const uint16_t kUpperHalves[32] = {
        1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
        33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    to->whole = _mm512_permutex2var_epi16(bf16_upper(block.part[0]),
                                          _mm512_load_si512(kUpperHalves),
                                          bf16_upper(block.part[1]));
  }

  EMOKERNEL_HD void pack(const Block& block, Half<Fp16>* to) {
    const __m256i first = _mm512_cvtps_ph(block.part[0], _MM_FROUND_TO_NEAREST_INT);
    const __m256i second = _mm512_cvtps_ph(block.part[1], _MM_FROUND_TO_NEAREST_INT);
    to->whole = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
  }

  EMOKERNEL_HD void finish_stores() { _mm_sfence(); }

  EMOKERNEL_HD __m256i low(__m512i value) { return _mm512_castsi512_si256(value); }

  EMOKERNEL_HD __m256i high(__m512i value) { return _mm512_extracti64x4_epi64(value, 1); }

  // The rounded bits in the upper half of each word.
  EMOKERNEL_HD __m512i bf16_upper(__m512 value) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i biased = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_mask_mov_epi32(_mm512_add_epi32(biased, odd), nan,
                                 _mm512_set1_epi32(0x7fc00000));
  }
};

}  // namespace
