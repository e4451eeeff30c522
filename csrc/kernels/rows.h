// What a row kernel works on: raw pointers and strides, in elements unless they say bytes.
#pragma once

#include <cstdint>

#include "law.h"

namespace emokernel {

enum class DType : int { kFloat32, kBFloat16, kFloat16 };
constexpr int kDTypes = 3;
constexpr int element_size(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

// kSteerRmsNorm works in place: x is y, rows that no law changes are not written, and those without
// a mix not even read.
enum class Operation : int {
  kSteer,
  kAddSteer,
  kAddSteerRmsNorm,
  kAddSteerLayerNorm,
  kSteerRmsNorm
};
constexpr int kOperations = 5;

constexpr bool in_place(Operation operation) { return operation == Operation::kSteerRmsNorm; }
constexpr bool has_residual(Operation operation) {
  return operation != Operation::kSteer && !in_place(operation);
}
constexpr bool has_layer_norm(Operation operation) {
  return operation == Operation::kAddSteerLayerNorm;
}
constexpr bool has_rms_norm(Operation operation) {
  return operation == Operation::kAddSteerRmsNorm || in_place(operation);
}
constexpr bool has_norm(Operation operation) {
  return has_rms_norm(operation) || has_layer_norm(operation);
}

// Rows [rows, d] with a contiguous last dimension.
struct Rows {
  const void* data = nullptr;
  int64_t stride = 0;
};

template <class T>
struct Strided {
  const T* data = nullptr;
  int64_t stride = 0;
};

// The emotion tables of one layer; see reference.py for their meaning.
//
// token_slot, ids, weights and law may be written while rows are computed. Each word of them is read
// once, for one row or for several of a slot, and all of a row goes by what was read; which of the
// old words and which of the new ones these are is up to the writer, who keeps a row from half a
// record by writing before or after.
struct Tables {
  Rows basis;                     // [vectors, d]
  Strided<int32_t> token_slot;    // [>= rows]
  Strided<int32_t> ids;           // [slots, components], stride of a slot
  Strided<float> weights;         // [slots, components], stride of a slot
  Strided<int32_t> law;           // [slots]
  int64_t vectors = 0;
  int64_t slots = 0;
  int components = 0;
};

struct RowProblem {
  int64_t rows = 0;
  int64_t d = 0;
  Rows x;             // h for kSteer, y for kSteerRmsNorm
  Rows residual;      // unused by these two
  void* y = nullptr;  // contiguous, as normed
  void* normed = nullptr;  // only for operations with a norm, like the next four
  const void* weight = nullptr;
  const void* bias = nullptr;  // kAddSteerLayerNorm
  float eps = 0.0f;
  Cast cast = Cast::kLlama;    // of an RMSNorm
  Tables tables;
  bool stream = false;  // store around the caches; needs outputs aligned to kStreamAlignment
};

constexpr int64_t kStreamAlignment = 64;  // bytes

// Computes rows [begin, end). scratch holds scratch_floats(d) floats aligned to kStreamAlignment.
using RowKernel = void (*)(const RowProblem&, int64_t begin, int64_t end, float* scratch);

// One kernel per operation, stream dtype and basis dtype (the stream's, or fp32).
struct KernelTable {
  RowKernel kernels[kOperations][kDTypes][2];
};

}  // namespace emokernel
