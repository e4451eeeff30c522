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

// Some rows in the order in which they are computed: one slot after another, so that rows share
// what is computed of a mix. As they come where there are many more slots than rows.
class Turns {
 public:
  static constexpr int64_t kRows = 4096;  // at a time

  // Reads the slot of each row [begin, begin + count), once.
  Turns(const Tables& tables, int64_t begin, int64_t count)
      : begin_(begin), count_(count), sorted_(tables.slots <= kSlotsPerRow * count &&
                                              tables.slots <= kMaxSlots) {
    for (int64_t i = 0; i < count; ++i) {
      slot_[i] = static_cast<int32_t>(slot_of(tables, begin + i));
    }
    if (sorted_) sort(tables.slots);
  }

  int64_t row(int64_t turn) const { return begin_ + place(turn); }

  int64_t slot(int64_t turn) const { return slot_[place(turn)]; }

  bool last(int64_t turn) const { return turn + 1 == count_; }

  // Whether the next row is of the same slot.
  bool shares(int64_t turn) const { return !last(turn) && slot(turn + 1) == slot(turn); }

 private:
  static constexpr int64_t kSlotsPerRow = 8;
  static constexpr int64_t kMaxSlots = 4096;

  int64_t place(int64_t turn) const { return sorted_ ? order_[turn] : turn; }

  void sort(int64_t slots) {
    int16_t start[kMaxSlots + 2];  // of the rows without a slot at 0, of slot s at s + 1
    __builtin_memset(start, 0, (slots + 2) * sizeof *start);
    for (int64_t i = 0; i < count_; ++i) ++start[slot_[i] + 2];
    for (int64_t s = 1; s <= slots; ++s) start[s] += start[s - 1];
    for (int64_t i = 0; i < count_; ++i) order_[start[slot_[i] + 1]++] = static_cast<int16_t>(i);
  }

  const int64_t begin_;
  const int64_t count_;
  const bool sorted_;
  int32_t slot_[kRows];
  int16_t order_[kRows];
};

}  // namespace
