// Storage types of the halves and their exact conversions, one element at a time.
#pragma once

#include <cstdint>

#include "macros.h"

namespace emokernel {

struct Bf16 {
  uint16_t bits;
};
struct Fp16 {
  uint16_t bits;
};

EMOKERNEL_HD uint32_t float_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

EMOKERNEL_HD float bits_float(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

EMOKERNEL_HD float widen(float value) { return value; }

EMOKERNEL_HD float widen(Bf16 value) { return bits_float(uint32_t{value.bits} << 16); }

EMOKERNEL_HD float widen(Fp16 value) {
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  // Moves exponent and fraction in place, then rebias: exact for normal and subnormal numbers.
  const float finite = bits_float(magnitude << 13) * 0x1p112f;
  const uint32_t special = 0x7f800000u | (magnitude << 13);
  return bits_float(sign | (magnitude >= 0x7c00u ? special : float_bits(finite)));
}

// Rounding to nearest even; the type of `to` names the target.
EMOKERNEL_HD void narrow(float value, float* to) { *to = value; }

EMOKERNEL_HD void narrow(float value, Bf16* to) {
  const uint32_t bits = float_bits(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to->bits = static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}

EMOKERNEL_HD void narrow(float value, Fp16* to) {
  const uint32_t bits = float_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t result;
  if (magnitude > 0x7f800000u) {
    result = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520: halfway beyond the largest finite number
    result = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // 2^-14: normal
    result = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {  // the addition aligns the fraction to units of 2^-24 and rounds it
    result = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u;
  }
  to->bits = static_cast<uint16_t>(sign | result);
}

}  // namespace emokernel
