// The CUDA row kernel, compiled once per stream dtype (EMOKERNEL_T: float, Bf16 or Fp16).
//
// One block computes one row: h = x + residual, the row law, its rounding, and the norm of what was
// stored. A thread owns every blockDim-th vector of 16 bytes and keeps them in registers; a row too
// long for that, or both long and unaligned, is computed anew, tile by tile, in each pass, by the
// same additions in the same order. All arithmetic is fp32 with
// mul and add apart (-fmad=false), as in the specification, reference.py.
#include "cuda_block.cuh"
#include "cuda_lanes.cuh"
#include "law.h"

namespace emokernel {
namespace {

// How far a tile has come: h, with v beside it; t in place of v; y, with what a norm sees of it; that
// less its mean.
enum class Stage { kH, kT, kY, kCentred };

// The mix of a row's slot, in shared memory; id and weight only of the components that are present.
struct Mix {
  unsigned present;  // as bits
  int32_t law;
  int32_t id[kMaxComponents];
  float weight[kMaxComponents];
};

// Reads every word of the slot once for the whole block: another stream may rewrite it meanwhile,
// and threads that had read for themselves could part before a barrier.
__device__ __forceinline__ void read_mix(const Tables& tables, int64_t row, Mix& mix) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane < kCudaWarp) {
    int32_t slot = -1;
    if (lane == 0) slot = tables.token_slot.data[row * tables.token_slot.stride];
    slot = __shfl_sync(kAllLanes, slot, 0);
    int32_t id = -1;
    float weight = 0.0f;
    if (slot >= 0 && slot < tables.slots) {
      if (lane < tables.components) {
        id = tables.ids.data[slot * tables.ids.stride + lane];
        weight = tables.weights.data[slot * tables.weights.stride + lane];
      }
      if (lane == 0) mix.law = tables.law.data[slot * tables.law.stride];
    }
    const bool here = weight != 0.0f && id >= 0 && id < tables.vectors;
    const unsigned present = __ballot_sync(kAllLanes, here);
    if (here) {
      mix.id[lane] = id;
      mix.weight[lane] = weight;
    }
    if (lane == 0) mix.present = present;
  }
  __syncthreads();
}

template <class T, int kVectors, bool kWide, bool kKept>
class Row {
  static constexpr int kLanes = kLanesOf<T>;

 public:
  __device__ __forceinline__ Row(const CudaRows& given, int64_t row, Mix& mix,
                                 BlockSums::Partials& partials)
      : given_(given),
        problem_(given.problem),
        row_(row),
        d_(static_cast<int>(given.problem.d)),
        mix_(mix),
        sums_(partials) {}

  __device__ __forceinline__ void run() {
    fetch_parameters();
    wait_for_inputs();
    Tile tile;
    Inputs inputs;
    const bool in_place = given_.in_place;
    if (kKept && !in_place) load(tile, inputs);  // on its way while the slot is looked up
    read_mix(problem_.tables, row_, mix_);
    if (in_place) {
      if (mix_.present == 0) return;
      if constexpr (kKept) load(tile, inputs);
    }
    if constexpr (kKept) prepare(tile, inputs);
    if (mix_.present != 0) steer(tile);
    if (in_place && !steered_) return;
    if constexpr (kKept) finish(tile);
    if (problem_.weight != nullptr) {
      norm(tile);
    } else {
      let_next_start();
      for_tiles(tile, Stage::kY, [&] { store_y(tile); });
    }
  }

 private:
  // The vectors of one thread: h or y as stored, and fp32 values that belong to them (see Stage).
  struct Tile {
    int base = 0;
    Packed<T> row[kVectors];
    float u[kVectors][kLanes];
  };

  // x and residual as they lie in memory.
  struct Inputs {
    Packed<T> x[kVectors];
    Packed<T> residual[kVectors];
  };

  __device__ __forceinline__ int column(const Tile& tile, int j) const {
    return tile.base + (j * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kLanes;
  }

  template <class U>
  __device__ __forceinline__ static const U* at(const Rows& rows, int64_t row) {
    return static_cast<const U*>(rows.data) + row * rows.stride;
  }
  __device__ __forceinline__ T* output(void* rows) const {
    return static_cast<T*>(rows) + row_ * d_;
  }

  // Runs body on every tile of the row. A row that is kept has one, which is where the passes
  // before left it; else each tile is brought to where it should be.
  template <class Body>
  __device__ __forceinline__ void for_tiles(Tile& tile, Stage stage, Body body) {
    if constexpr (kKept) {
      body();
    } else {
      const int step = kVectors * kLanes * static_cast<int>(blockDim.x);
      for (tile.base = 0; tile.base < d_; tile.base += step) {
        Inputs inputs;
        load(tile, inputs);
        prepare(tile, inputs);
        if (stage >= Stage::kT && steered_) compute_t(tile);
        if (stage >= Stage::kY) finish(tile);
        if (stage >= Stage::kCentred) centre(tile);
        body();
      }
    }
  }

  // Calls body(fp32 values, number of the vector, column) for the vectors of a tile.
  template <class Body>
  __device__ __forceinline__ void for_vectors(Tile& tile, Body body) const {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) body(tile.u[j], j, column(tile, j));
  }

  // Sum over a vector, pairwise; lanes beyond the row hold zeros.
  template <class Value>
  __device__ __forceinline__ static float sum_lanes(Value value) {
    float part[kLanes];
#pragma unroll
    for (int i = 0; i < kLanes; ++i) part[i] = value(i);
#pragma unroll
    for (int width = 1; width < kLanes; width *= 2) {
#pragma unroll
      for (int i = 0; i < kLanes; i += 2 * width) part[i] += part[i + width];
    }
    return part[0];
  }

  __device__ __forceinline__ static float sum_squares(const float* u) {
    return sum_lanes([&](int i) { return u[i] * u[i]; });
  }

  __device__ __forceinline__ void fetch_parameters() const {
    if (!given_.few_rows) return;
    Tile tile;
    for_vectors(tile, [&](float*, int, int c) {
      if (problem_.weight != nullptr) fetch_ahead(static_cast<const T*>(problem_.weight), c, d_);
      if (problem_.bias != nullptr) fetch_ahead(static_cast<const T*>(problem_.bias), c, d_);
    });
  }

  __device__ __forceinline__ bool adds() const { return problem_.residual.data != nullptr; }

  __device__ __forceinline__ void load(Tile& tile, Inputs& inputs) const {
    for_vectors(tile, [&](float*, int j, int c) {
      inputs.x[j] = load_vector<kWide>(at<T>(problem_.x, row_), c, d_);
    });
    if (!adds()) return;
    for_vectors(tile, [&](float*, int j, int c) {
      inputs.residual[j] = load_vector<kWide>(at<T>(problem_.residual, row_), c, d_);
    });
  }

  // h, and v of a row with a mix: what v needs is asked for before x and residual are waited for.
  __device__ __forceinline__ void prepare(Tile& tile, const Inputs& inputs) const {
    if (mix_.present != 0) {
      given_.float_basis ? compute_v<float>(tile) : compute_v<T>(tile);
    }
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (adds()) {
        float sum[kLanes], r[kLanes];
        unpack(inputs.x[j], sum);
        unpack(inputs.residual[j], r);
#pragma unroll
        for (int i = 0; i < kLanes; ++i) sum[i] += r[i];
        pack(sum, &tile.row[j]);
      } else {
        tile.row[j] = inputs.x[j];  // as it is: a NaN keeps its bits
      }
    }
  }

  // u = v, the sum of weight * vector over the components in order.
  template <class B>
  __device__ __forceinline__ void compute_v(Tile& tile) const {
    for_vectors(tile, [&](float* u, int, int) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) u[i] = 0.0f;
    });
    for (unsigned left = mix_.present; left != 0; left &= left - 1) {
      const int k = __ffs(static_cast<int>(left)) - 1;
      const float weight = mix_.weight[k];
      const B* const vector = at<B>(problem_.tables.basis, mix_.id[k]);
      for_vectors(tile, [&](float* u, int, int c) {
        float e[kLanes];
        load_lanes<kWide, kLanes>(vector, c, d_, e);
#pragma unroll
        for (int i = 0; i < kLanes; ++i) u[i] += weight * e[i];
      });
    }
  }

  // u = t = h + c * v from v.
  __device__ __forceinline__ void compute_t(Tile& tile) const {
    for_vectors(tile, [&](float* u, int j, int) {
      float h[kLanes];
      unpack(tile.row[j], h);
#pragma unroll
      for (int i = 0; i < kLanes; ++i) u[i] = h[i] + c_ * u[i];
    });
  }

  // Leaves t in the tile, and c, r and whether the row is steered.
  __device__ __forceinline__ void steer(Tile& tile) {
    steered_ = true;
    const auto add_h = [&](float* sum) {
      for_vectors(tile, [&](float*, int j, int) {
        float h[kLanes];
        unpack(tile.row[j], h);
        *sum += sum_squares(h);
      });
    };
    const auto add_t = [&](float* sum) {
      for_vectors(tile, [&](float* u, int, int) { *sum += sum_squares(u); });
    };
    float2 squares = make_float2(0.0f, 0.0f);  // |h|^2, |t|^2
    if ((mix_.law & kRelative) != 0) {
      for_tiles(tile, Stage::kH, [&] { add_h(&squares.x); });
      squares.x = sums_(squares.x);
      c_ = law_c(mix_.law, squares.x);
    }
    if constexpr (kKept) compute_t(tile);
    if ((mix_.law & kPreserve) != 0) {
      if ((mix_.law & kRelative) != 0) {
        for_tiles(tile, Stage::kT, [&] { add_t(&squares.y); });
        squares.y = sums_(squares.y);
      } else {
        for_tiles(tile, Stage::kT, [&] {
          add_h(&squares.x);
          add_t(&squares.y);
        });
        squares = sums_(squares);
      }
    }
    steered_ = law_computable(mix_.law, squares.x, squares.y);
    r_ = law_r(mix_.law, squares.x, squares.y);
  }

  // Leaves y in the tile, rounded, and what a norm sees of it: y, or the row before its rounding.
  __device__ __forceinline__ void finish(Tile& tile) const {
    for_vectors(tile, [&](float* u, int j, int c) {
      const bool exact = problem_.cast == Cast::kVllm;
      if (steered_) {
#pragma unroll
        for (int i = 0; i < kLanes; ++i) u[i] = r_ * u[i];
        pack(u, &tile.row[j]);
      } else if (exact) {
        add_again(c, u);
      }
      if (!exact) unpack(tile.row[j], u);
    });
  }

  // x + residual before its rounding, from memory.
  __device__ __forceinline__ void add_again(int c, float* sum) const {
    float r[kLanes];
    load_lanes<kWide, kLanes>(at<T>(problem_.x, row_), c, d_, sum);
    load_lanes<kWide, kLanes>(at<T>(problem_.residual, row_), c, d_, r);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) sum[i] += r[i];
  }

  __device__ __forceinline__ void store_y(Tile& tile) const {
    for_vectors(tile, [&](float*, int j, int c) {
      store_vector<kWide>(output(problem_.y), c, d_, tile.row[j]);
    });
  }

  __device__ __forceinline__ void centre(Tile& tile) const {
    for_vectors(tile, [&](float* u, int, int c) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) u[i] = c + i < d_ ? u[i] - mean_ : 0.0f;
    });
  }

  __device__ __forceinline__ void load_parameter(const void* from, Tile& tile,
                                                 Packed<T>* into) const {
    for_vectors(tile, [&](float*, int j, int c) {
      into[j] = load_vector<kWide>(static_cast<const T*>(from), c, d_);
    });
  }

  // The norm of what `finish` left; a bias makes it a LayerNorm. A row that is kept stores y first,
  // so that the store overlaps the sums; one that is computed anew stores it with normed.
  __device__ __forceinline__ void norm(Tile& tile) {
    const bool layer = problem_.bias != nullptr;
    Packed<T> weight[kVectors], bias[kVectors];
    if constexpr (kKept) {
      load_parameter(problem_.weight, tile, weight);
      store_y(tile);
    }
    Stage stage = Stage::kY;
    if (layer) {
      float sum = 0.0f;
      for_tiles(tile, stage, [&] {
        for_vectors(tile, [&](float* u, int, int) {
          sum += sum_lanes([&](int i) { return u[i]; });
        });
      });
      mean_ = sums_(sum) / static_cast<float>(d_);
      stage = Stage::kCentred;
      if constexpr (kKept) {
        centre(tile);
        load_parameter(problem_.bias, tile, bias);
      }
    }
    float2 total = make_float2(0.0f, 0.0f);  // of the values, of their squares
    for_tiles(tile, stage, [&] {
      for_vectors(tile, [&](float* u, int, int) {
        if (layer) total.x += sum_lanes([&](int i) { return u[i]; });
        total.y += sum_squares(u);
      });
    });
    float scale;
    if (layer) {
      total = sums_(total);
      rest_ = total.x / static_cast<float>(d_);
      scale = layer_norm_scale(total.y, rest_, d_, problem_.eps);
    } else {
      scale = rms_norm_scale(sums_(total.y), d_, problem_.eps);
    }
    let_next_start();
    for_tiles(tile, stage, [&] {
      if constexpr (!kKept) {
        load_parameter(problem_.weight, tile, weight);
        if (layer) load_parameter(problem_.bias, tile, bias);
        store_y(tile);
      }
      for_vectors(tile, [&](float* u, int j, int c) {
        store_vector<kWide>(output(problem_.normed), c, d_, normed(u, scale, weight[j], bias[j]));
      });
    });
  }

  // One vector of the norm; each cast as in reference.py.
  __device__ __forceinline__ Packed<T> normed(float* u, float scale, const Packed<T>& weight,
                                              const Packed<T>& bias) const {
    float w[kLanes];
    Packed<T> out;
    unpack(weight, w);
    if (problem_.bias != nullptr) {
      float b[kLanes];
      unpack(bias, b);
#pragma unroll
      for (int i = 0; i < kLanes; ++i) u[i] = (u[i] - rest_) * scale * w[i] + b[i];
    } else {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) u[i] *= scale;
      if (problem_.cast == Cast::kLlama || problem_.cast == Cast::kVllm) {
        pack(u, &out);
        unpack(out, u);
      }
      const float one = problem_.cast == Cast::kGemma ? 1.0f : 0.0f;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) u[i] *= one + w[i];
    }
    pack(u, &out);
    return out;
  }

  const CudaRows& given_;
  const RowProblem& problem_;
  const int64_t row_;
  const int d_;
  Mix& mix_;
  BlockSums sums_;
  bool steered_ = false;
  float c_ = 1.0f, r_ = 1.0f, mean_ = 0.0f, rest_ = 0.0f;
};

constexpr int most_threads(int vectors, bool kept) {
  return kept && vectors == 1 ? static_cast<int>(kCudaSingleVectors) : kCudaMaxThreads;
}

template <class T, int kVectors, bool kWide, bool kKept>
__global__ void __launch_bounds__(most_threads(kVectors, kKept))
    row_kernel(const __grid_constant__ CudaRows rows) {
  __shared__ Mix mix;
  __shared__ BlockSums::Partials partials;
  Row<T, kVectors, kWide, kKept>(rows, blockIdx.x, mix, partials).run();
}

}  // namespace

template <>
CudaRowKernel cuda_row_kernel<EMOKERNEL_T>(CudaShape shape, bool wide) {
  using T = EMOKERNEL_T;
  const bool single = shape.kept && shape.vectors == 1;
  if (!wide) return single ? row_kernel<T, 1, false, true> : row_kernel<T, 1, false, false>;
  if (!shape.kept) return row_kernel<T, 1, true, false>;
  return single ? row_kernel<T, 1, true, true> : row_kernel<T, 2, true, true>;
}

}  // namespace emokernel
