// The arguments of one call, and their way from tensors to a RowProblem: every check is here.
#pragma once

#include "tensor.h"

namespace emokernel {

// A call as its schema (emokernel/ops/schemas.py) orders it, but for outputs that come last. A
// tensor that the operation has not is empty, as are y and normed where it makes them.
struct Call {
  Operation operation;
  Tensor x;  // h for steer, y for steer_rms_norm_
  Tensor residual;
  Tensor normed;
  Tensor weight;
  Tensor bias;
  double eps = 0.0;
  int64_t cast = 0;
  Tensor basis;
  Tensor token_slot;
  Tensor ids;
  Tensor weights;
  Tensor law;
  Tensor y;
};

struct Checked {
  RowProblem problem;  // without outputs that are not given
  DType stream;
  DType basis;
};

// Throws std::runtime_error naming the operation, the argument, what it is and what it needs.
Checked check(const Call& call);

}  // namespace emokernel
