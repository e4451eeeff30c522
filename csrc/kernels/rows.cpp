// The row kernels. Compiled once per instruction set, with EMOKERNEL_VEC naming the header of its
// Vec and EMOKERNEL_ISA the namespace to put the result in. Nothing else here may have external
// linkage, and no library function that could be a template instance may be called.
#include "row_passes.h"

namespace {

using emokernel::Operation;

// ``shares``: another row will want the v of this mix.
template <bool kAdd, class T, class B>
EMOKERNEL_HD Sums compute_t(const RowData<T>& row, Ahead<T>& ahead, Mix<B>& mix, bool shares,
                            float* scratch) {
  const bool relative = (mix.law & emokernel::kRelative) != 0;
  if (!mix.ready) {
    if (mix.count == 1 && !shares && !relative) {
      return absolute_t<kAdd, true>(row, ahead, mix, scratch);
    }
    mix_into<T>(mix, row.d(), scratch + emokernel::padded(row.d()));
    mix.ready = true;
  }
  if (relative) return relative_t<kAdd>(row, ahead, mix.law, scratch);
  return absolute_t<kAdd, false>(row, ahead, mix, scratch);
}

// y from the t in scratch.
template <Norm kNorm, bool kStream, class T>
EMOKERNEL_HD float steered(const RowData<T>& row, Ahead<T>& ahead, int32_t law, const Sums& sums,
                           float* scratch) {
  if (sums.tt != sums.tt) quieten(scratch, row.d());
  return rescale<kNorm, kStream>(row, ahead, emokernel::law_r(law, sums.hh, sums.tt), scratch);
}

// Stores y; returns the sum that the norm needs.
template <bool kAdd, Norm kNorm, bool kStream, class T, class B>
EMOKERNEL_HD float steer_row(const RowData<T>& row, Ahead<T>& ahead, Mix<B>& mix, bool shares,
                             float* scratch) {
  constexpr int kLater = kNorm == Norm::kNone ? 1 : 2;  // passes that store
  if (mix.count > 0) {
    ahead.spread(1 + kLater);
    const Sums sums = compute_t<kAdd>(row, ahead, mix, shares, scratch);
    if (emokernel::law_computable(mix.law, sums.hh, sums.tt)) {
      return steered<kNorm, kStream>(row, ahead, mix.law, sums, scratch);
    }
  } else {
    ahead.spread(kLater);
  }
  return pass_through<kAdd, kNorm, kStream>(row, ahead, scratch);
}

// normed from what `emit` left in scratch, and its sum.
template <Norm kNorm, bool kStream, class T>
EMOKERNEL_HD void norm_row(const RowProblem& problem, const RowData<T>& row,
                           Ahead<T>& ahead, float sum, float* scratch) {
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

// Calls body(turns, turn, mix) for each row [begin, end).
template <class B, class Body>
EMOKERNEL_HD void for_rows(const RowProblem& problem, int64_t begin, int64_t end, Body body) {
  Mix<B> mix;
  for (int64_t first = begin; first < end; first += Turns::kRows) {
    const int64_t count = end - first < Turns::kRows ? end - first : Turns::kRows;
    const Turns turns(problem.tables, first, count);
    for (int64_t turn = 0; turn < count; ++turn) {
      const int64_t slot = turns.slot(turn);
      if (slot != mix.slot) mix = Mix<B>(problem.tables, slot, problem.d);
      body(turns, turn, mix);
    }
  }
}

template <class T, class B, bool kAdd, Norm kNorm, bool kStream>
void run_rows(const RowProblem& problem, int64_t begin, int64_t end, float* scratch) {
  for_rows<B>(problem, begin, end, [&](const Turns& turns, int64_t turn, Mix<B>& mix) {
    const RowData<T> row(problem, turns.row(turn));
    Ahead<T> ahead;
    if (kStream && !turns.last(turn)) ahead = {RowData<T>(problem, turns.row(turn + 1)), kAdd};
    const bool shares = turns.shares(turn);
    const float sum = steer_row<kAdd, kNorm, kStream>(row, ahead, mix, shares, scratch);
    if constexpr (kNorm != Norm::kNone) {
      norm_row<kNorm, kStream>(problem, row, ahead, sum, scratch);
    }
  });
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
  for_rows<B>(problem, begin, end, [&](const Turns& turns, int64_t turn, Mix<B>& mix) {
    if (mix.count == 0) return;
    const RowData<T> row(problem, turns.row(turn));
    Ahead<T> ahead;
    const Sums sums = compute_t<false>(row, ahead, mix, turns.shares(turn), scratch);
    if (!emokernel::law_computable(mix.law, sums.hh, sums.tt)) return;
    const float sum = steered<kNorm, false>(row, ahead, mix.law, sums, scratch);
    norm_row<kNorm, false>(problem, row, ahead, sum, scratch);
  });
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
