// The row law y = r * (h + c * v) and the norm behind it: their scalars per row. The specification is reference.py.
#pragma once

#include <cstdint>

#include "macros.h"

namespace emokernel {

constexpr int kMaxComponents = 8;

enum Law : int32_t { kPreserve = 1, kRelative = 2 };

enum class Cast : int64_t { kLlama = 0, kGemma = 1, kOlmo = 2, kVllm = 3 };
constexpr int64_t kCasts = 4;

// Whether a sum of squares is in fp32's useful range; false for NaN.
EMOKERNEL_HD bool law_in_range(float sum) {
  constexpr float kSmallest = 0x1p-100f;
  constexpr float kLargest = 0x1.fffffep+127f;
  return sum >= kSmallest && sum <= kLargest;
}

// Whether y can be evaluated from hh = |h|^2 and tt = |t|^2; otherwise y = h.
EMOKERNEL_HD bool law_computable(int32_t law, float hh, float tt) {
  const bool needs_h = (law & (kPreserve | kRelative)) != 0;
  const bool needs_t = (law & kPreserve) != 0;
  return (!needs_h || law_in_range(hh)) && (!needs_t || law_in_range(tt));
}

EMOKERNEL_HD float law_c(int32_t law, float hh) {
  return (law & kRelative) != 0 ? __builtin_sqrtf(hh) : 1.0f;
}

EMOKERNEL_HD float law_r(int32_t law, float hh, float tt) {
  return (law & kPreserve) != 0 ? __builtin_sqrtf(hh) / __builtin_sqrtf(tt) : 1.0f;
}

// The factors of the norms. `rest` is the mean of what subtracting the rounded mean has left, and
// `squares` the sum of the squares of that: a row far from zero would else lose the digits that the
// rounding of its mean takes.
EMOKERNEL_HD float rms_norm_scale(float squares, int64_t d, float eps) {
  return 1.0f / __builtin_sqrtf(squares / static_cast<float>(d) + eps);
}

EMOKERNEL_HD float layer_norm_scale(float squares, float rest, int64_t d, float eps) {
  const float variance = squares / static_cast<float>(d) - rest * rest;
  return 1.0f / __builtin_sqrtf((variance < 0.0f ? 0.0f : variance) + eps);
}

}  // namespace emokernel
