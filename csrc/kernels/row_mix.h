// Which mix steers a row, and the order of the rows that lets them share one. For rows.cpp alone.
#pragma once

#include "row_blocks.h"
#include "rows.h"

namespace {

using emokernel::kMaxComponents;
using emokernel::Tables;

// A word of a slot, read once: another thread may write it meanwhile.
template <class T>
EMOKERNEL_HD T read_once(const T* word) {
  T value;
  __atomic_load(word, &value, __ATOMIC_RELAXED);
  return value;
}

// The slot of a row, -1 for none.
EMOKERNEL_HD int64_t slot_of(const Tables& tables, int64_t row) {
  const int64_t slot = read_once(tables.token_slot.data + row * tables.token_slot.stride);
  return slot >= 0 && slot < tables.slots ? slot : -1;
}

// What a slot holds: the components that are present, in order.
template <class B>
struct Mix {
  int64_t slot = -1;
  int32_t law = 0;
  int count = 0;
  bool again = false;  // a row has been steered with it
  bool ready = false;  // v is in scratch
  Row<const B> vector[kMaxComponents];
  float weight[kMaxComponents];

  EMOKERNEL_INLINE Mix() {}

  EMOKERNEL_INLINE Mix(const Tables& tables, int64_t slot, int64_t d) : slot(slot) {
    if (slot < 0) return;
    law = read_once(tables.law.data + slot * tables.law.stride);
    const int32_t* ids = tables.ids.data + slot * tables.ids.stride;
    const float* weights = tables.weights.data + slot * tables.weights.stride;
    for (int k = 0; k < tables.components; ++k) {
      const float w = read_once(weights + k);
      const int32_t id = read_once(ids + k);
      if (w == 0.0f || id < 0 || id >= tables.vectors) continue;
      const B* basis = static_cast<const B*>(tables.basis.data);
      vector[count] = {basis + id * tables.basis.stride, d};
      weight[count++] = w;
    }
  }

  // v of block i, arranged for rows of T. The sum starts at +0 as in the specification: a lone -0
  // becomes +0.
  template <class T, bool kSingle, class Extent>
  EMOKERNEL_INLINE Block at(int64_t i, Extent extent) const {
    Block v = Vec::splat(0.0f);
    for (int k = 0; k < (kSingle ? 1 : count); ++k) {
      Block e = Vec::unpack(vector[k].load(i, extent));
      if constexpr (!std::is_same_v<T, B>) e = Vec::arrange<T>(e);
      v = Vec::add(v, Vec::mul(Vec::splat(weight[k]), e));
    }
    return v;
  }
};

// v into scratch, behind the row of t.
template <class T, class B>
EMOKERNEL_PASS void mix_into(const Mix<B>& mix, int64_t d, float* v) {
  for_blocks(
      d,
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        scratch_store(v, i, mix.template at<T, false>(i, extent));
      },
      []() EMOKERNEL_INLINE {});
}

// The order in which a share's rows are computed: one slot after another where that lets rows share
// what is computed of a mix, else as they come. Each row's slot is read once.
class Turns {
 public:
  static constexpr int64_t kRows = 4096;  // at a time

  Turns(const Tables& tables, int64_t rows)
      : tables_(tables), sorts_(tables.components > 1 && rows > 1 && tables.slots <= kRows &&
                                tables.slots <= 8 * rows) {}

  void take(int64_t begin, int64_t end) {
    begin_ = begin;
    if (!sorts_) return;
    const int64_t count = end - begin;
    uint16_t start[kRows + 2];  // of slot s at s + 1: none is a slot too
    __builtin_memset(start, 0, (tables_.slots + 2) * sizeof *start);
    for (int64_t i = 0; i < count; ++i) {
      slot_[i] = static_cast<int16_t>(slot_of(tables_, begin + i));
      ++start[slot_[i] + 2];
    }
    for (int64_t s = 1; s <= tables_.slots; ++s) start[s] += start[s - 1];
    for (int64_t i = 0; i < count; ++i) order_[start[slot_[i] + 1]++] = static_cast<int16_t>(i);
  }

  int64_t row(int64_t turn) const { return begin_ + (sorts_ ? order_[turn] : turn); }

  int64_t slot(int64_t turn) const {
    return sorts_ ? slot_[order_[turn]] : slot_of(tables_, begin_ + turn);
  }

 private:
  const Tables& tables_;
  const bool sorts_;
  int64_t begin_ = 0;
  int16_t slot_[kRows];
  int16_t order_[kRows];
};

}  // namespace
