// Vec, portable: plain loops over the lanes of a block, left to the compiler to vectorise.
//
// Every Vec has the same face: Block is one block of kLanes fp32 values, Packed<T> the same values
// as stored in memory; arithmetic is fp32, mul and add apart, so that all of them give equal bits.
// Which lane of a Block an element of a T is in is up to the Vec: unpack, pack, round<T> and
// total<T> agree on it, and arrange<T> puts a block of fp32 in that order. Rounding to bf16 keeps a
// NaN one only where the lower half of its bits is 0, as in all that comes of bf16.
#pragma once

#include "dtype.h"
#include "lanes.h"

namespace {

using emokernel::kLanes;

struct Vec {
  struct Block {
    float lane[kLanes];
  };

  template <class T>
  struct Packed {
    T lane[kLanes];
  };

  EMOKERNEL_HD Block splat(float value) {
    Block out;
    for (int i = 0; i < kLanes; ++i) out.lane[i] = value;
    return out;
  }

  EMOKERNEL_HD Block add(const Block& a, const Block& b) {
    Block out;
    for (int i = 0; i < kLanes; ++i) out.lane[i] = a.lane[i] + b.lane[i];
    return out;
  }

  EMOKERNEL_HD Block mul(const Block& a, const Block& b) {
    Block out;
    for (int i = 0; i < kLanes; ++i) out.lane[i] = a.lane[i] * b.lane[i];
    return out;
  }

  template <class T>
  EMOKERNEL_HD Packed<T> load(const T* from) {
    Packed<T> out;
    __builtin_memcpy(out.lane, from, sizeof out.lane);
    return out;
  }

  template <bool kStream, class T>
  EMOKERNEL_HD void store(T* to, const Packed<T>& packed) {
    __builtin_memcpy(to, packed.lane, sizeof packed.lane);
  }

  template <class T>
  EMOKERNEL_HD Block unpack(const Packed<T>& packed) {
    Block out;
    for (int i = 0; i < kLanes; ++i) out.lane[i] = emokernel::widen(packed.lane[i]);
    return out;
  }

  template <class T>
  EMOKERNEL_HD void pack(const Block& block, Packed<T>* to) {
    for (int i = 0; i < kLanes; ++i) emokernel::narrow(block.lane[i], &to->lane[i]);
  }

  template <class T>
  EMOKERNEL_HD Block round(const Block& block) {
    Packed<T> packed;
    pack(block, &packed);
    return unpack(packed);
  }

  template <class T>
  EMOKERNEL_HD Block arrange(const Block& block) {
    return block;
  }

  // The lanes added up by halving: 16 and 16 of them first.
  template <class T>
  EMOKERNEL_HD float total(Block block) {
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) block.lane[i] += block.lane[i + width];
    }
    return block.lane[0];
  }

  EMOKERNEL_HD void finish_stores() {}
};

}  // namespace
