// The passes over a row. For rows.cpp alone.
#pragma once

#include "row_mix.h"

namespace {

using emokernel::Cast;
using emokernel::RowProblem;

// The pointers of one row of the problem.
template <class T>
struct RowData {
  Row<const T> x;
  Row<const T> residual;
  Row<T> y;
  Row<T> normed;

  EMOKERNEL_INLINE RowData(const RowProblem& problem, int64_t row)
      : x{at(problem.x, row), problem.d},
        residual{at(problem.residual, row), problem.d},
        y{static_cast<T*>(problem.y) + row * problem.d, problem.d},
        normed{static_cast<T*>(problem.normed) + row * problem.d, problem.d} {}

  EMOKERNEL_INLINE int64_t d() const { return x.d; }

 private:
  EMOKERNEL_INLINE static const T* at(const emokernel::Rows& rows, int64_t row) {
    return static_cast<const T*>(rows.data) + row * rows.stride;
  }
};

// Asks for the row that comes next, a few bytes with each block of each pass over this one, so that
// memory is never idle while this one is computed.
template <class T>
class Ahead {
 public:
  Ahead() = default;  // asks for nothing

  // ``adds``: whether the next row has a residual.
  EMOKERNEL_INLINE Ahead(const RowData<T>& next, bool adds)
      : x_(reinterpret_cast<const char*>(next.x.data)),
        residual_(reinterpret_cast<const char*>(next.residual.data)),
        bytes_(next.d() * static_cast<int64_t>(sizeof(T))),
        blocks_((next.d() + kLanes - 1) / kLanes),
        wanted_(adds ? 2 * bytes_ : bytes_) {}

  // This row takes so many passes that ask.
  EMOKERNEL_INLINE void spread(int64_t passes) {
    if (wanted_ == 0) return;
    const int64_t times = passes * blocks_ * kLines, step = (wanted_ + times - 1) / times;
    step_ = step < kLine ? step : kLine;  // where passes are few, less is asked for
  }

  EMOKERNEL_INLINE void ask() {
    for (int i = 0; i < kLines && asked_ < wanted_; ++i) {
      const char* at = asked_ < bytes_ ? x_ + asked_ : residual_ + (asked_ - bytes_);
      __builtin_prefetch(at, 0, kIntoL2);
      asked_ += step_;
    }
  }

 private:
  static constexpr int kIntoL2 = 2;  // what this row needs stays in L1
  static constexpr int64_t kLine = 64;  // bytes
  static constexpr int kLines = sizeof(T) / 2;  // at most, with each block
  const char* x_ = nullptr;
  const char* residual_ = nullptr;
  int64_t bytes_ = 0;
  int64_t blocks_ = 0;
  int64_t wanted_ = 0;
  int64_t asked_ = 0;
  int64_t step_ = 0;
};

// What follows the row: nothing, or a norm of it. An RMSNorm sees the rounded row (kRms) or the row
// before its rounding (kRmsExact).
enum class Norm { kNone, kRms, kRmsExact, kLayer };

// x, or x + residual, before its rounding.
template <bool kAdd, class T, class Extent>
EMOKERNEL_HD Block row_sum(const RowData<T>& row, int64_t i, Extent extent) {
  const Block x = Vec::unpack(row.x.load(i, extent));
  if constexpr (kAdd) {
    return Vec::add(x, Vec::unpack(row.residual.load(i, extent)));
  } else {
    return x;
  }
}

template <bool kAdd, class T, class Extent>
EMOKERNEL_HD Block row_h(const RowData<T>& row, int64_t i, Extent extent) {
  return Vec::round<T>(row_sum<kAdd>(row, i, extent));
}

// Rounds and stores a block of y; what the norm sees goes to scratch and into its sum: of squares,
// or of the elements themselves for a LayerNorm.
template <Norm kNorm, bool kStream, class T, class Extent>
EMOKERNEL_HD void emit(const RowData<T>& row, int64_t i, const Block& exact, Extent extent,
                       float* scratch, RowSum<T>* sum) {
  Vec::Packed<T> rounded;
  Vec::pack(exact, &rounded);
  row.y.template store<kStream>(i, rounded, extent);
  if constexpr (kNorm != Norm::kNone) {
    const Block seen = kNorm == Norm::kRmsExact ? exact : Vec::unpack(rounded);
    kNorm == Norm::kLayer ? sum->take(seen) : sum->take_squares(seen);
    scratch_store(scratch, i, seen);
  }
}

// The passes over a row. They are functions of their own, so that each exists once per set of
// parameters that it depends on.

// y = h; returns the sum that the norm needs.
template <bool kAdd, Norm kNorm, bool kStream, class T>
EMOKERNEL_PASS float pass_through(const RowData<T>& row, Ahead<T>& ahead, float* scratch) {
  RowSum<T> sum;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        ahead.ask();
        if constexpr (kAdd) {
          emit<kNorm, kStream>(row, i, row_sum<kAdd>(row, i, extent), extent, scratch, &sum);
        } else {  // a copy: arithmetic would change the bits of a NaN
          row.y.template store<kStream>(i, row.x.load(i, extent), extent);
        }
      },
      [&]() EMOKERNEL_INLINE { sum.close_chunk(); });
  return sum.total();
}

struct Centred {
  float rest;
  float squares;
};

struct Sums {
  float hh;
  float tt;
};

// t into scratch for an absolute dose, c = 1: one pass gives both sums. v is in scratch unless it
// is kSingle, one vector that is read here.
template <bool kAdd, bool kSingle, class T, class B>
EMOKERNEL_PASS Sums absolute_t(const RowData<T>& row, Ahead<T>& ahead, const Mix<B>& mix,
                               float* scratch) {
  const float* v = scratch + emokernel::padded(row.d());
  RowSum<T> h_squares, t_squares;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        ahead.ask();
        const Block h = row_h<kAdd>(row, i, extent);
        const Block t =
            Vec::add(h, kSingle ? mix.template at<T, true>(i, extent) : scratch_load(v, i));
        h_squares.take_squares(h);
        t_squares.take_squares(t);
        scratch_store(scratch, i, t);
      },
      [&]() EMOKERNEL_INLINE {
        h_squares.close_chunk();
        t_squares.close_chunk();
      });
  return {h_squares.total(), t_squares.total()};
}

// t into scratch for a relative dose, c = |h|, which takes a pass of its own.
template <bool kAdd, class T>
EMOKERNEL_PASS Sums relative_t(const RowData<T>& row, Ahead<T>& ahead, int32_t law,
                               float* scratch) {
  const float* v = scratch + emokernel::padded(row.d());
  RowSum<T> h_squares, t_squares;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        ahead.ask();
        const Block h = row_h<kAdd>(row, i, extent);
        h_squares.take_squares(h);
        scratch_store(scratch, i, h);
      },
      [&]() EMOKERNEL_INLINE { h_squares.close_chunk(); });
  const float hh = h_squares.total();
  const Block c = Vec::splat(emokernel::law_c(law, hh));
  for_blocks(
      row.d(),
      [&](int64_t i, auto) EMOKERNEL_INLINE {
        const Block t = Vec::add(scratch_load(scratch, i), Vec::mul(c, scratch_load(v, i)));
        t_squares.take_squares(t);
        scratch_store(scratch, i, t);
      },
      [&]() EMOKERNEL_INLINE { t_squares.close_chunk(); });
  return {hh, t_squares.total()};
}

// y = r * t from the t in scratch, asking for the next row meanwhile.
template <Norm kNorm, bool kStream, class T>
EMOKERNEL_PASS float rescale(const RowData<T>& row, Ahead<T>& ahead, float r_scalar,
                             float* scratch) {
  const Block r = Vec::splat(r_scalar);
  RowSum<T> sum;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        ahead.ask();
        const Block y = Vec::mul(r, scratch_load(scratch, i));
        emit<kNorm, kStream>(row, i, y, extent, scratch, &sum);
      },
      [&]() EMOKERNEL_INLINE { sum.close_chunk(); });
  return sum.total();
}

// RMSNorm of what `emit` left in scratch, asking for the next row meanwhile.
template <Cast kCast, bool kStream, class T>
EMOKERNEL_PASS void rms_norm(const RowData<T>& row, Ahead<T>& ahead,
                             const Row<const T>& weight, float scale_scalar,
                             const float* scratch) {
  const Block scale = Vec::splat(scale_scalar);
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        ahead.ask();
        Block n = Vec::mul(scratch_load(scratch, i), scale);
        Block w = Vec::unpack(weight.load(i, extent));
        Vec::Packed<T> out;
        if constexpr (kCast == Cast::kLlama) n = Vec::round<T>(n);
        if constexpr (kCast == Cast::kGemma) w = Vec::add(Vec::splat(1.0f), w);
        Vec::pack(Vec::mul(n, w), &out);
        row.normed.template store<kStream>(i, out, extent);
      },
      []() EMOKERNEL_INLINE {});
}

// Scratch minus the mean; the sums of what is left and of its squares: direct, so that nothing
// cancels.
template <class T>
EMOKERNEL_PASS Centred centre(const RowData<T>& row, float mean_scalar, float* scratch) {
  const Block minus_mean = Vec::splat(-mean_scalar);
  RowSum<T> rest, squares;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        Block centred = Vec::add(scratch_load(scratch, i), minus_mean);
        if constexpr (!extent) centred = Vec::mul(centred, ones<T>(row.d() - i));
        scratch_store(scratch, i, centred);
        rest.take(centred);
        squares.take_squares(centred);
      },
      [&]() EMOKERNEL_INLINE {
        rest.close_chunk();
        squares.close_chunk();
      });
  return {rest.total(), squares.total()};
}

// LayerNorm of the centred row in scratch, asking for the next row meanwhile.
template <bool kStream, class T>
EMOKERNEL_PASS void layer_norm(const RowData<T>& row, Ahead<T>& ahead,
                               const Row<const T>& weight, const Row<const T>& bias,
                               float rest_scalar, float scale_scalar, const float* scratch) {
  const Block minus_rest = Vec::splat(-rest_scalar), scale = Vec::splat(scale_scalar);
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        ahead.ask();
        const Block n = Vec::mul(Vec::add(scratch_load(scratch, i), minus_rest), scale);
        const Block scaled = Vec::mul(n, Vec::unpack(weight.load(i, extent)));
        Vec::Packed<T> out;
        Vec::pack(Vec::add(scaled, Vec::unpack(bias.load(i, extent))), &out);
        row.normed.template store<kStream>(i, out, extent);
      },
      []() EMOKERNEL_INLINE {});
}

// A NaN of fp32 may have any bits, and rounding takes some for numbers: all become one that stays.
EMOKERNEL_PASS void quieten(float* scratch, int64_t d) {
  for (int64_t i = 0; i < emokernel::padded(d); ++i) {
    if (scratch[i] != scratch[i]) scratch[i] = __builtin_nanf("");
  }
}

}  // namespace
