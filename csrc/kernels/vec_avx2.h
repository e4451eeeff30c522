// Vec for AVX2 with F16C: four registers of eight floats make a block (face: vec_portable.h).
//
// A block of bf16 has its elements with an even number in the registers 0 and 2, and those with an
// odd one in 1 and 3: a pair of halves is a word of 32 bits, which a shift and a mask take apart.
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

  struct Pairs {  // bf16
    __m256i part[kRegisters / 2];
  };

  struct Halves {  // fp16
    __m128i part[kRegisters];
  };

  template <class T>
  using Packed = std::conditional_t<std::is_same_v<T, float>, Block,
                                    std::conditional_t<std::is_same_v<T, Bf16>, Pairs, Halves>>;

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

  EMOKERNEL_HD Pairs load(const Bf16* from) {
    Pairs out;
    for (int i = 0; i < kRegisters / 2; ++i) {
      out.part[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 16 * i));
    }
    return out;
  }

  EMOKERNEL_HD Halves load(const Fp16* from) {
    Halves out;
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

  template <bool kStream>
  EMOKERNEL_HD void store(Bf16* to, const Pairs& packed) {
    for (int i = 0; i < kRegisters / 2; ++i) {
      __m256i* at = reinterpret_cast<__m256i*>(to + 16 * i);
      kStream ? _mm256_stream_si256(at, packed.part[i]) : _mm256_storeu_si256(at, packed.part[i]);
    }
  }

  template <bool kStream>
  EMOKERNEL_HD void store(Fp16* to, const Halves& packed) {
    for (int i = 0; i < kRegisters; ++i) {
      __m128i* at = reinterpret_cast<__m128i*>(to + 8 * i);
      kStream ? _mm_stream_si128(at, packed.part[i]) : _mm_storeu_si128(at, packed.part[i]);
    }
  }

  EMOKERNEL_HD Block unpack(const Block& block) { return block; }

  EMOKERNEL_HD Block unpack(const Pairs& packed) {
    Block out;
    for (int i = 0; i < kRegisters; i += 2) {
      const __m256i pairs = packed.part[i / 2];
      out.part[i] = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
      out.part[i + 1] = _mm256_castsi256_ps(_mm256_and_si256(pairs, upper_halves()));
    }
    return out;
  }

  EMOKERNEL_HD Block unpack(const Halves& packed) {
    Block out;
    for (int i = 0; i < kRegisters; ++i) out.part[i] = _mm256_cvtph_ps(packed.part[i]);
    return out;
  }

  EMOKERNEL_HD void pack(const Block& block, Block* to) { *to = block; }

  EMOKERNEL_HD void pack(const Block& block, Pairs* to) {
    for (int i = 0; i < kRegisters; i += 2) {
      const __m256i even = _mm256_srli_epi32(bf16_upper(block.part[i]), 16);
      to->part[i / 2] = _mm256_blend_epi16(even, bf16_upper(block.part[i + 1]), 0xaa);
    }
  }

  EMOKERNEL_HD void pack(const Block& block, Halves* to) {
    for (int i = 0; i < kRegisters; ++i) {
      to->part[i] = _mm256_cvtps_ph(block.part[i], _MM_FROUND_TO_NEAREST_INT);
    }
  }

  template <class T>
  EMOKERNEL_HD Block round(const Block& block) {
    if constexpr (std::is_same_v<T, Bf16>) {
      Block out;
      for (int i = 0; i < kRegisters; ++i) {
        const __m256i upper = _mm256_and_si256(bf16_upper(block.part[i]), upper_halves());
        out.part[i] = _mm256_castsi256_ps(upper);
      }
      return out;
    } else {
      Packed<T> packed;
      pack(block, &packed);
      return unpack(packed);
    }
  }

  template <class T>
  EMOKERNEL_HD Block arrange(const Block& block) {
    if constexpr (std::is_same_v<T, Bf16>) {
      Block out;
      for (int i = 0; i < kRegisters; i += 2) {
        const __m256 even = _mm256_shuffle_ps(block.part[i], block.part[i + 1], 0x88);
        const __m256 odd = _mm256_shuffle_ps(block.part[i], block.part[i + 1], 0xdd);
        out.part[i] = middle_exchanged(even);
        out.part[i + 1] = middle_exchanged(odd);
      }
      return out;
    } else {
      return block;
    }
  }

  template <class T>
  EMOKERNEL_HD float total(const Block& block) {
    const __m256 first = _mm256_add_ps(block.part[0], block.part[2]);
    const __m256 second = _mm256_add_ps(block.part[1], block.part[3]);
    if constexpr (std::is_same_v<T, Bf16>) {
      return halve(first) + halve(second);
    } else {
      return halve(_mm256_add_ps(first, second));
    }
  }

  EMOKERNEL_HD void finish_stores() { _mm_sfence(); }

  EMOKERNEL_HD __m256i upper_halves() { return _mm256_set1_epi32(static_cast<int>(0xffff0000u)); }

  // The rounded bits in the upper half of each word. A NaN stays one where its lower half is 0.
  EMOKERNEL_HD __m256i bf16_upper(__m256 value) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    return _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  }

  EMOKERNEL_HD __m256 middle_exchanged(__m256 value) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(value), 0xd8));
  }

  EMOKERNEL_HD float halve(__m256 value) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(two) + _mm_cvtss_f32(_mm_shuffle_ps(two, two, 1));
  }
};

}  // namespace
