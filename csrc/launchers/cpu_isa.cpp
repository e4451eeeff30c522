#include "cpu_isa.h"

#include <cstdint>
#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace emokernel {
namespace {

constexpr const char* kVariable = "EMOKERNEL_CPU_ISA";

struct Features {
  bool avx2 = false, fma = false, f16c = false;
  bool avx512f = false, avx512bw = false, avx512vl = false, avx512dq = false;
};

#if defined(__x86_64__)

// The register sets that the operating system saves and restores (XCR0).
uint64_t saved_state() {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

Features detect() {
  Features has;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return has;
  const bool os_saves = (c & bit_OSXSAVE) != 0;
  const uint64_t state = os_saves ? saved_state() : 0;
  const bool ymm = (state & 0x6) == 0x6;
  const bool zmm = (state & 0xe6) == 0xe6;
  has.fma = ymm && (c & bit_FMA);
  has.f16c = ymm && (c & bit_F16C);
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return has;
  has.avx2 = ymm && (b & bit_AVX2);
  has.avx512f = zmm && (b & bit_AVX512F);
  has.avx512bw = zmm && (b & bit_AVX512BW);
  has.avx512vl = zmm && (b & bit_AVX512VL);
  has.avx512dq = zmm && (b & bit_AVX512DQ);
  return has;
}

#else

Features detect() { return {}; }

#endif

const Features& features() {
  static const Features has = detect();
  return has;
}

std::string join(const std::vector<Isa>& isas) {
  std::string names;
  for (Isa isa : isas) names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
  return names;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kPortable: break;
  }
  return "portable";
}

std::vector<Isa> isas_built() {
#if defined(EMOKERNEL_X86)
  return {Isa::kPortable, Isa::kAvx2, Isa::kAvx512};
#else
  return {Isa::kPortable};
#endif
}

bool isa_supported(Isa isa) {
  const Features& has = features();
  const bool avx2 = has.avx2 && has.fma && has.f16c;
  const bool avx512 = avx2 && has.avx512f && has.avx512bw && has.avx512vl && has.avx512dq;
  switch (isa) {
    case Isa::kAvx2: return avx2;
    case Isa::kAvx512: return avx512;
    case Isa::kPortable: break;
  }
  return true;
}

Isa choose_isa() {
  const std::vector<Isa> built = isas_built();
  const char* forced = std::getenv(kVariable);
  if (forced == nullptr || *forced == '\0') {
    Isa best = Isa::kPortable;
    for (Isa isa : built) {
      if (isa_supported(isa)) best = isa;
    }
    return best;
  }
  for (Isa isa : built) {
    if (std::string(forced) != isa_name(isa)) continue;
    if (isa_supported(isa)) return isa;
    throw std::runtime_error(std::string(kVariable) + "=" + forced +
                             ": this CPU lacks those instructions; unset it or use portable");
  }
  throw std::runtime_error(std::string(kVariable) + "=" + forced +
                           ": no such level in this build; choose one of " + join(built));
}

std::vector<std::string> cpu_features() {
  const Features& has = features();
  std::vector<std::string> names;
  const auto note = [&](bool present, const char* name) {
    if (present) names.emplace_back(name);
  };
  note(has.avx2, "avx2");
  note(has.fma, "fma");
  note(has.f16c, "f16c");
  note(has.avx512f, "avx512f");
  note(has.avx512bw, "avx512bw");
  note(has.avx512vl, "avx512vl");
  note(has.avx512dq, "avx512dq");
  return names;
}

}  // namespace emokernel
