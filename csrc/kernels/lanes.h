// The lane structure of every reduction, the same for each instruction set.
//
// Element i of a row is summed in lane i % kLanes; lanes are added up over chunks of kChunk
// elements, the chunks in order, and at last the lanes by halving. All of it depends on d alone,
// so the bits of a row do too, whatever runs it.
#pragma once

#include <cstdint>

#include "macros.h"

namespace emokernel {

constexpr int kLanes = 32;
constexpr int64_t kChunk = 512;

EMOKERNEL_HD int64_t padded(int64_t d) { return (d + kLanes - 1) / kLanes * kLanes; }

// Two fp32 rows: t or y, and the v that rows of a slot share.
constexpr int64_t kScratchRows = 2;

inline int64_t scratch_floats(int64_t d) { return kScratchRows * padded(d); }

}  // namespace emokernel
