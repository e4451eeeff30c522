// The row kernels. Compiled once per instruction set, with EMOKERNEL_VEC naming the header of its
// Vec and EMOKERNEL_ISA the namespace to put the result in. Nothing else here may have external
// linkage, and no library function that could be a template instance may be called.
#include "rows.h"

#include <type_traits>

#include "dtype.h"
#include "lanes.h"
#include EMOKERNEL_VEC

#define EMOKERNEL_INLINE __attribute__((always_inline))
#define EMOKERNEL_PASS __attribute__((noinline))

namespace {

using emokernel::Bf16;
using emokernel::Cast;
using emokernel::Fp16;
using emokernel::kChunk;
using emokernel::kMaxComponents;
using emokernel::Operation;
using emokernel::RowProblem;
using emokernel::Tables;
using Block = Vec::Block;

using Whole = std::true_type;   // the block lies inside the row
using Partial = std::false_type;  // the row ends inside the block

// A sum over a row: lanes within a chunk first, then chunk by chunk.
struct RowSum {
  Block chunk = Vec::splat(0.0f);
  Block lanes = Vec::splat(0.0f);

  EMOKERNEL_INLINE void take(const Block& values) { chunk = Vec::add(chunk, values); }

  EMOKERNEL_INLINE void take_squares(const Block& values) { take(Vec::mul(values, values)); }

  EMOKERNEL_INLINE void close_chunk() {
    lanes = Vec::add(lanes, chunk);
    chunk = Vec::splat(0.0f);
  }

  EMOKERNEL_INLINE float total() const {
    alignas(64) float lane[kLanes];
    Vec::Packed<float> packed;
    Vec::pack(lanes, &packed);
    Vec::store<false>(lane, packed);
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
    }
    return lane[0];
  }
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

  // Asks for the lines of block i ahead of their use; harmless beyond the row.
  EMOKERNEL_INLINE void prefetch(int64_t i) const {
    for (int byte = 0; byte < kLanes * static_cast<int>(sizeof(T)); byte += 64) {
      __builtin_prefetch(reinterpret_cast<const char*>(data + i) + byte);
    }
  }
};

EMOKERNEL_HD Block scratch_load(const float* scratch, int64_t i) {
  return Vec::unpack(Vec::load(scratch + i));
}

EMOKERNEL_HD void scratch_store(float* scratch, int64_t i, const Block& values) {
  Vec::Packed<float> packed;
  Vec::pack(values, &packed);
  Vec::store<false>(scratch + i, packed);
}

// A word of a slot, read once: another thread may write it meanwhile.
template <class T>
EMOKERNEL_HD T read_once(const T* word) {
  T value;
  __atomic_load(word, &value, __ATOMIC_RELAXED);
  return value;
}

// The mix of one row: the components that are present, in order.
template <class B>
struct Mix {
  int32_t law = 0;
  int count = 0;
  Row<const B> vector[kMaxComponents];
  float weight[kMaxComponents];

  EMOKERNEL_INLINE Mix(const Tables& tables, int64_t row, int64_t d) {
    const int64_t slot = read_once(tables.token_slot.data + row * tables.token_slot.stride);
    if (slot < 0 || slot >= tables.slots) return;
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

  // v of block i. The sum starts at +0 as in the specification: a lone -0 becomes +0.
  template <bool kSingle, class Extent>
  EMOKERNEL_INLINE Block at(int64_t i, Extent extent) const {
    Block v = Vec::splat(0.0f);
    for (int k = 0; k < (kSingle ? 1 : count); ++k) {
      const Block e = Vec::unpack(vector[k].load(i, extent));
      v = Vec::add(v, Vec::mul(Vec::splat(weight[k]), e));
    }
    return v;
  }
};

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
  Vec::Packed<T> rounded;
  Vec::pack(row_sum<kAdd>(row, i, extent), &rounded);
  return Vec::unpack(rounded);
}

// Rounds and stores a block of y; what the norm sees goes to scratch and into its sum: of squares,
// or of the elements themselves for a LayerNorm.
template <Norm kNorm, bool kStream, class T, class Extent>
EMOKERNEL_HD void emit(const RowData<T>& row, int64_t i, const Block& exact, Extent extent,
                       float* scratch, RowSum* sum) {
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
EMOKERNEL_PASS float pass_through(const RowData<T>& row, float* scratch) {
  RowSum sum;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
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

// t into scratch for an absolute dose, c = 1: one pass gives both sums.
template <bool kAdd, bool kSingle, class T, class B>
EMOKERNEL_PASS Sums absolute_t(const RowData<T>& row, const Mix<B>& mix, float* scratch) {
  RowSum h_squares, t_squares;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        const Block h = row_h<kAdd>(row, i, extent);
        const Block t = Vec::add(h, mix.template at<kSingle>(i, extent));
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
template <bool kAdd, class T, class B>
EMOKERNEL_PASS Sums relative_t(const RowData<T>& row, const Mix<B>& mix, float* scratch) {
  float* v = scratch + emokernel::padded(row.d());
  RowSum h_squares, t_squares;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        const Block h = row_h<kAdd>(row, i, extent);
        h_squares.take_squares(h);
        scratch_store(scratch, i, h);
        scratch_store(v, i, mix.template at<false>(i, extent));
      },
      [&]() EMOKERNEL_INLINE { h_squares.close_chunk(); });
  const float hh = h_squares.total();
  const Block c = Vec::splat(emokernel::law_c(mix.law, hh));
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

// y = r * t from the t in scratch, asking for the row `ahead` meanwhile.
template <Norm kNorm, bool kStream, class T>
EMOKERNEL_PASS float rescale(const RowData<T>& row, const Row<const T>& ahead, float r_scalar,
                             float* scratch) {
  const Block r = Vec::splat(r_scalar);
  RowSum sum;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        ahead.prefetch(i);
        const Block y = Vec::mul(r, scratch_load(scratch, i));
        emit<kNorm, kStream>(row, i, y, extent, scratch, &sum);
      },
      [&]() EMOKERNEL_INLINE { sum.close_chunk(); });
  return sum.total();
}

// RMSNorm of what `emit` left in scratch, asking for the row `ahead` meanwhile.
template <Cast kCast, bool kStream, class T>
EMOKERNEL_PASS void rms_norm(const RowData<T>& row, const Row<const T>& ahead,
                             const Row<const T>& weight, float scale_scalar,
                             const float* scratch) {
  const Block scale = Vec::splat(scale_scalar);
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        ahead.prefetch(i);
        Block n = Vec::mul(scratch_load(scratch, i), scale);
        Block w = Vec::unpack(weight.load(i, extent));
        Vec::Packed<T> out;
        if constexpr (kCast == Cast::kLlama) {
          Vec::pack(n, &out);
          n = Vec::unpack(out);
        }
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
  RowSum rest, squares;
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        scratch_store(scratch, i, Vec::add(scratch_load(scratch, i), minus_mean));
        if constexpr (!extent) {  // what lies beyond the row stays out of the sums
          for (int64_t beyond = row.d(); beyond < i + kLanes; ++beyond) scratch[beyond] = 0.0f;
        }
        const Block centred = scratch_load(scratch, i);
        rest.take(centred);
        squares.take_squares(centred);
      },
      [&]() EMOKERNEL_INLINE {
        rest.close_chunk();
        squares.close_chunk();
      });
  return {rest.total(), squares.total()};
}

// LayerNorm of the centred row in scratch, asking for the row `ahead` meanwhile.
template <bool kStream, class T>
EMOKERNEL_PASS void layer_norm(const RowData<T>& row, const Row<const T>& ahead,
                               const Row<const T>& weight, const Row<const T>& bias,
                               float rest_scalar, float scale_scalar, const float* scratch) {
  const Block minus_rest = Vec::splat(-rest_scalar), scale = Vec::splat(scale_scalar);
  for_blocks(
      row.d(),
      [&](int64_t i, auto extent) EMOKERNEL_INLINE {
        ahead.prefetch(i);
        const Block n = Vec::mul(Vec::add(scratch_load(scratch, i), minus_rest), scale);
        const Block scaled = Vec::mul(n, Vec::unpack(weight.load(i, extent)));
        Vec::Packed<T> out;
        Vec::pack(Vec::add(scaled, Vec::unpack(bias.load(i, extent))), &out);
        row.normed.template store<kStream>(i, out, extent);
      },
      []() EMOKERNEL_INLINE {});
}

template <bool kAdd, class T, class B>
EMOKERNEL_HD Sums compute_t(const RowData<T>& row, const Mix<B>& mix, float* scratch) {
  if ((mix.law & emokernel::kRelative) != 0) return relative_t<kAdd>(row, mix, scratch);
  if (mix.count == 1) return absolute_t<kAdd, true>(row, mix, scratch);
  return absolute_t<kAdd, false>(row, mix, scratch);
}

// Stores y; returns the sum that the norm needs.
template <bool kAdd, Norm kNorm, bool kStream, class T, class B>
EMOKERNEL_HD float steer_row(const RowData<T>& row, const RowData<T>& next, const Mix<B>& mix,
                             float* scratch) {
  if (mix.count > 0) {
    const Sums sums = compute_t<kAdd>(row, mix, scratch);
    if (emokernel::law_computable(mix.law, sums.hh, sums.tt)) {
      const float r = emokernel::law_r(mix.law, sums.hh, sums.tt);
      return rescale<kNorm, kStream>(row, next.x, r, scratch);
    }
  }
  return pass_through<kAdd, kNorm, kStream>(row, scratch);
}

// normed from what `emit` left in scratch, and its sum.
template <Norm kNorm, bool kStream, class T>
EMOKERNEL_HD void norm_row(const RowProblem& problem, const RowData<T>& row,
                           const Row<const T>& ahead, float sum, float* scratch) {
  const int64_t d = problem.d;
  const Row<const T> weight{static_cast<const T*>(problem.weight), d};
  if constexpr (kNorm == Norm::kLayer) {
    const Row<const T> bias{static_cast<const T*>(problem.bias), d};
    const auto [rest_sum, squares] = centre(row, sum / static_cast<float>(d), scratch);
    const float rest = rest_sum / static_cast<float>(d);
    const float scale = emokernel::layer_norm_scale(squares, rest, d, problem.eps);
    return layer_norm<kStream>(row, ahead, weight, bias, rest, scale, scratch);
  } else {
    const float scale = emokernel::rms_norm_scale(sum, d, problem.eps);
    switch (problem.cast) {
      case Cast::kGemma:
        return rms_norm<Cast::kGemma, kStream>(row, ahead, weight, scale, scratch);
      case Cast::kOlmo:
        return rms_norm<Cast::kOlmo, kStream>(row, ahead, weight, scale, scratch);
      case Cast::kLlama:
      case Cast::kVllm:
        return rms_norm<Cast::kLlama, kStream>(row, ahead, weight, scale, scratch);
    }
  }
}

template <class T, class B, bool kAdd, Norm kNorm, bool kStream>
void run_rows(const RowProblem& problem, int64_t begin, int64_t end, float* scratch) {
  for (int64_t i = begin; i < end; ++i) {
    const RowData<T> row(problem, i);
    const RowData<T> next(problem, i + 1 < end ? i + 1 : i);
    const Mix<B> mix(problem.tables, i, problem.d);
    const float sum = steer_row<kAdd, kNorm, kStream>(row, next, mix, scratch);
    if constexpr (kNorm != Norm::kNone) {
      norm_row<kNorm, kStream>(problem, row, next.residual, sum, scratch);
    }
  }
  if constexpr (kStream) Vec::finish_stores();
}

template <class T, class B, bool kAdd, Norm kNorm>
void run_stores(const RowProblem& problem, int64_t begin, int64_t end, float* scratch) {
  problem.stream ? run_rows<T, B, kAdd, kNorm, true>(problem, begin, end, scratch)
                 : run_rows<T, B, kAdd, kNorm, false>(problem, begin, end, scratch);
}

// Steers rows in place, and stores the norm of those that a law has changed; a row without a mix is
// not looked at. Nothing of the next row is asked for: it showed no gain that could be measured.
template <class T, class B, Norm kNorm>
void run_in_place(const RowProblem& problem, int64_t begin, int64_t end, float* scratch) {
  for (int64_t i = begin; i < end; ++i) {
    const Mix<B> mix(problem.tables, i, problem.d);
    if (mix.count == 0) continue;
    const RowData<T> row(problem, i);
    const Sums sums = compute_t<false>(row, mix, scratch);
    if (!emokernel::law_computable(mix.law, sums.hh, sums.tt)) continue;
    const float r = emokernel::law_r(mix.law, sums.hh, sums.tt);
    const float sum = rescale<kNorm, false>(row, {row.normed.data, problem.d}, r, scratch);
    norm_row<kNorm, false>(problem, row, row.x, sum, scratch);
  }
}

template <class T, class B, Operation kOperation>
void run(const RowProblem& problem, int64_t begin, int64_t end, float* scratch) {
  constexpr bool kAdd = emokernel::has_residual(kOperation);
  if constexpr (emokernel::in_place(kOperation)) {
    problem.cast == Cast::kVllm ? run_in_place<T, B, Norm::kRmsExact>(problem, begin, end, scratch)
                                : run_in_place<T, B, Norm::kRms>(problem, begin, end, scratch);
  } else if constexpr (emokernel::has_layer_norm(kOperation)) {
    run_stores<T, B, kAdd, Norm::kLayer>(problem, begin, end, scratch);
  } else if constexpr (!emokernel::has_norm(kOperation)) {
    run_stores<T, B, kAdd, Norm::kNone>(problem, begin, end, scratch);
  } else if (problem.cast == Cast::kVllm) {
    run_stores<T, B, kAdd, Norm::kRmsExact>(problem, begin, end, scratch);
  } else {
    run_stores<T, B, kAdd, Norm::kRms>(problem, begin, end, scratch);
  }
}

#define EMOKERNEL_KERNELS(operation)                                             \
  {                                                                              \
    {run<float, float, operation>, run<float, float, operation>},      \
        {run<Bf16, Bf16, operation>, run<Bf16, float, operation>}, {   \
      run<Fp16, Fp16, operation>, run<Fp16, float, operation>          \
    }                                                                            \
  }

const emokernel::KernelTable kTable = {{EMOKERNEL_KERNELS(Operation::kSteer),
                                        EMOKERNEL_KERNELS(Operation::kAddSteer),
                                        EMOKERNEL_KERNELS(Operation::kAddSteerRmsNorm),
                                        EMOKERNEL_KERNELS(Operation::kAddSteerLayerNorm),
                                        EMOKERNEL_KERNELS(Operation::kSteerRmsNorm)}};

}  // namespace

namespace emokernel::EMOKERNEL_ISA {

const KernelTable& kernel_table() { return kTable; }

}  // namespace emokernel::EMOKERNEL_ISA
