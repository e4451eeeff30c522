// A row seen block by block, through the Vec of an instruction set (EMOKERNEL_VEC). For rows.cpp
// alone: all of it has internal linkage.
#pragma once

#include <type_traits>

#include "dtype.h"
#include "lanes.h"
#include EMOKERNEL_VEC

#define EMOKERNEL_INLINE __attribute__((always_inline))
#define EMOKERNEL_PASS __attribute__((noinline))

namespace {

using emokernel::Bf16;
using emokernel::Fp16;
using emokernel::kChunk;
using Block = Vec::Block;

using Whole = std::true_type;   // the block lies inside the row
using Partial = std::false_type;  // the row ends inside the block

// A sum over a row of T: lanes within a chunk first, then chunk by chunk.
template <class T>
struct RowSum {
  Block chunk = Vec::splat(0.0f);
  Block lanes = Vec::splat(0.0f);

  EMOKERNEL_INLINE void take(const Block& values) { chunk = Vec::add(chunk, values); }

  EMOKERNEL_INLINE void take_squares(const Block& values) { take(Vec::mul(values, values)); }

  EMOKERNEL_INLINE void close_chunk() {
    lanes = Vec::add(lanes, chunk);
    chunk = Vec::splat(0.0f);
  }

  EMOKERNEL_INLINE float total() const { return Vec::total<T>(lanes); }
};

// Calls body(i, Whole or Partial) for every block of a row, and close() after every chunk.
template <class Body, class Close>
EMOKERNEL_HD void for_blocks(int64_t d, Body body, Close close) {
  const int64_t whole = d / kLanes * kLanes;
  for (int64_t i = 0; i < whole;) {
    const int64_t end = i + kChunk < whole ? i + kChunk : whole;
    for (; i < end; i += kLanes) body(i, Whole{});
    close();
  }
  if (whole < d) {
    body(whole, Partial{});
    close();
  }
}

// One row of T whose last block may be partial: read as if zeros followed it.
template <class T>
struct Row {
  T* data;
  int64_t d;

  EMOKERNEL_INLINE Vec::Packed<std::remove_const_t<T>> load(int64_t i, Whole) const {
    return Vec::load(data + i);
  }

  EMOKERNEL_INLINE Vec::Packed<std::remove_const_t<T>> load(int64_t i, Partial) const {
    alignas(64) std::remove_const_t<T> block[kLanes] = {};
    __builtin_memcpy(block, data + i, (d - i) * sizeof(T));
    return Vec::load(static_cast<T*>(block));
  }

  template <bool kStream>
  EMOKERNEL_INLINE void store(int64_t i, const Vec::Packed<T>& packed, Whole) const {
    Vec::store<kStream>(data + i, packed);
  }

  template <bool kStream>
  EMOKERNEL_INLINE void store(int64_t i, const Vec::Packed<T>& packed, Partial) const {
    alignas(64) T block[kLanes];
    Vec::store<false>(block, packed);
    __builtin_memcpy(data + i, block, (d - i) * sizeof(T));
  }
};

// 1 in the first `count` elements of a block, 0 in the others.
template <class T>
EMOKERNEL_HD Block ones(int64_t count) {
  alignas(64) T block[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) emokernel::narrow(1.0f, &block[i]);
  return Vec::unpack(Vec::load(static_cast<const T*>(block)));
}

EMOKERNEL_HD Block scratch_load(const float* scratch, int64_t i) {
  return Vec::unpack(Vec::load(scratch + i));
}

EMOKERNEL_HD void scratch_store(float* scratch, int64_t i, const Block& values) {
  Vec::Packed<float> packed;
  Vec::pack(values, &packed);
  Vec::store<false>(scratch + i, packed);
}

}  // namespace
