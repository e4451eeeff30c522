#include "checks.h"

#include <cmath>
#include <string>

namespace emokernel {
namespace {

// As the enumeration counts them.
constexpr const char* kNames[kOperations] = {"steer", "add_steer", "add_steer_rms_norm",
                                             "add_steer_layer_norm", "steer_rms_norm_"};

// What the schema calls x.
const char* first(const Call& call) {
  return in_place(call.operation) ? "y" : has_residual(call.operation) ? "x" : "h";
}

[[noreturn]] void refuse(const Call& call, const char* argument, const std::string& what) {
  throw std::runtime_error(std::string("emokernel::") + kNames[static_cast<int>(call.operation)] +
                           (call.y ? "_out: " : ": ") + argument + " " + what);
}

void check_dtype(const Call& call, const char* argument, const Tensor& tensor, int32_t needed) {
  if (tensor.dtype() == needed) return;
  refuse(call, argument,
         "is " + dtype_name(tensor.dtype()) + "; it needs " + dtype_name(needed));
}

void check_place(const Call& call, const char* argument, const Tensor& tensor) {
  if (!tensor.same_device(call.x)) {
    refuse(call, argument, "is on " + device_text(tensor) + "; it needs to be on " +
                               device_text(call.x) + " like the rows");
  }
}

bool same_shape(const Tensor& a, const Tensor& b) {
  if (a.dim() != b.dim()) return false;
  for (int64_t i = 0; i < a.dim(); ++i) {
    if (a.size(i) != b.size(i)) return false;
  }
  return true;
}

// The stride between rows of [..., d], leading dimensions collapsed.
int64_t row_stride(const Call& call, const char* argument, const Tensor& tensor) {
  const int64_t last = tensor.dim() - 1;
  bool fits = tensor.size(last) == 1 || tensor.stride(last) == 1;
  int64_t stride = tensor.size(last);
  int64_t span = -1;  // what the stride of the next outer dimension has to be
  for (int64_t i = last - 1; i >= 0; --i) {
    if (tensor.size(i) == 1) continue;
    if (span < 0) {
      stride = tensor.stride(i);
    } else {
      fits = fits && tensor.stride(i) == span;
    }
    span = tensor.stride(i) * tensor.size(i);
  }
  if (!fits && tensor.numel() > 0) {
    refuse(call, argument,
           "has strides that do not make rows of one stride with a contiguous last dimension; "
           "pass it contiguous");
  }
  return stride;
}

// The bytes that a tensor occupies, from the first to the last.
struct Extent {
  uintptr_t begin = 0;
  uintptr_t end = 0;
};

Extent extent_of(const Tensor& tensor) {
  const auto begin = reinterpret_cast<uintptr_t>(tensor.read());
  if (tensor.numel() == 0) return {begin, begin};
  int64_t last = 0;
  for (int64_t i = 0; i < tensor.dim(); ++i) last += (tensor.size(i) - 1) * tensor.stride(i);
  return {begin, begin + (last + 1) * static_cast<int64_t>(aoti_torch_dtype_element_size(tensor.dtype()))};
}

bool overlap(const Extent& a, const Extent& b) { return a.begin < b.end && b.begin < a.end; }

// Rows beside x.
void check_rows(const Call& call, const char* argument, const Tensor& tensor) {
  check_place(call, argument, tensor);
  if (!same_shape(tensor, call.x)) {
    refuse(call, argument,
           "has shape " + shape_text(tensor) + "; it needs that of " + first(call) + ", " +
               shape_text(call.x));
  }
  check_dtype(call, argument, tensor, call.x.dtype());
}

void check_vector(const Call& call, const char* argument, const Tensor& tensor, int64_t count,
                  const char* meaning) {
  check_place(call, argument, tensor);
  if (tensor.dim() != 1 || tensor.size(0) != count) {
    refuse(call, argument, "has shape " + shape_text(tensor) + "; it needs [" +
                               std::to_string(count) + "], " + meaning);
  }
}

DType check_basis(const Call& call, int64_t d) {
  const Tensor& basis = call.basis;
  check_place(call, "basis", basis);
  if (basis.dim() != 2 || basis.size(1) != d) {
    refuse(call, "basis",
           "has shape " + shape_text(basis) + "; it needs [vectors, " + std::to_string(d) + "]");
  }
  if (basis.dtype() != call.x.dtype() && basis.dtype() != torch_numbers.float32) {
    refuse(call, "basis", "is " + dtype_name(basis.dtype()) + "; it needs float32 or " +
                              dtype_name(call.x.dtype()) + ", the dtype of the rows");
  }
  if (d > 1 && basis.stride(1) != 1 && basis.size(0) > 0) {
    refuse(call, "basis", "has a strided last dimension; pass it contiguous");
  }
  return *stream_dtype(basis.dtype());
}

void check_slots(const Call& call) {
  const Tensor &ids = call.ids, &weights = call.weights;
  check_place(call, "ids", ids);
  check_place(call, "weights", weights);
  check_dtype(call, "ids", ids, torch_numbers.int32);
  check_dtype(call, "weights", weights, torch_numbers.float32);
  check_dtype(call, "law", call.law, torch_numbers.int32);
  if (ids.dim() != 2 || ids.size(1) < 1 || ids.size(1) > kMaxComponents) {
    refuse(call, "ids", "has shape " + shape_text(ids) + "; it needs [slots, 1 to " +
                            std::to_string(kMaxComponents) + "]");
  }
  if (!same_shape(ids, weights)) {
    refuse(call, "weights",
           "has shape " + shape_text(weights) + "; it needs that of ids, " + shape_text(ids));
  }
  check_vector(call, "law", call.law, ids.size(0), "one per slot");
  const bool one = ids.size(1) == 1 || ids.size(0) == 0;
  constexpr const char* kStrided = "has a strided last dimension; pass it contiguous";
  if (!one && ids.stride(1) != 1) refuse(call, "ids", kStrided);
  if (!one && weights.stride(1) != 1) refuse(call, "weights", kStrided);
}

void check_token_slot(const Call& call, int64_t rows) {
  const Tensor& token_slot = call.token_slot;
  check_place(call, "token_slot", token_slot);
  check_dtype(call, "token_slot", token_slot, torch_numbers.int32);
  if (token_slot.dim() != 1 || token_slot.size(0) < rows) {
    refuse(call, "token_slot", "has shape " + shape_text(token_slot) +
                                   "; it needs one entry for each of the " + std::to_string(rows) +
                                   " rows");
  }
}

void check_parameter(const Call& call, const char* argument, const Tensor& tensor, int64_t d) {
  check_vector(call, argument, tensor, d, "one per column");
  check_dtype(call, argument, tensor, call.x.dtype());
  if (d > 1 && tensor.stride(0) != 1) refuse(call, argument, "is strided; pass it contiguous");
}

void check_norm(const Call& call, int64_t d) {
  check_parameter(call, "weight", call.weight, d);
  if (call.bias) check_parameter(call, "bias", call.bias, d);
  if (!(call.eps >= 0.0) || !std::isfinite(static_cast<float>(call.eps))) {
    refuse(call, "eps",
           "is " + std::to_string(call.eps) +
               "; it needs to be finite in float32 and not negative");
  }
  if (call.cast < 0 || call.cast >= kCasts) {
    refuse(call, "cast", "is " + std::to_string(call.cast) + "; it needs to be one of 0 to " +
                             std::to_string(kCasts - 1) + " (emokernel.reference.Cast)");
  }
}

Tables tables_of(const Call& call) {
  Tables tables;
  tables.basis = {call.basis.read(), call.basis.stride(0)};
  tables.token_slot = {static_cast<const int32_t*>(call.token_slot.read()),
                       call.token_slot.stride(0)};
  tables.ids = {static_cast<const int32_t*>(call.ids.read()), call.ids.stride(0)};
  tables.weights = {static_cast<const float*>(call.weights.read()), call.weights.stride(0)};
  tables.law = {static_cast<const int32_t*>(call.law.read()), call.law.stride(0)};
  tables.vectors = call.basis.size(0);
  tables.slots = call.ids.size(0);
  tables.components = static_cast<int>(call.ids.size(1));
  return tables;
}

// What a call reads beside what it writes.
class Sources {
 public:
  explicit Sources(const Call& call) {
    if (!in_place(call.operation)) add("x", call.x);
    add("residual", call.residual);
    add("weight", call.weight);
    add("bias", call.bias);
    add("basis", call.basis);
    add("token_slot", call.token_slot);
    add("ids", call.ids);
    add("weights", call.weights);
    add("law", call.law);
  }

  // The name of one that lies in this memory, or null.
  const char* within(const Extent& written) const {
    for (int i = 0; i < count_; ++i) {
      if (overlap(written, extents_[i])) return names_[i];
    }
    return nullptr;
  }

 private:
  void add(const char* name, const Tensor& tensor) {
    if (!tensor) return;
    names_[count_] = name;
    extents_[count_++] = extent_of(tensor);
  }

  static constexpr int kMost = 9;
  int count_ = 0;
  const char* names_[kMost];
  Extent extents_[kMost];
};

// Refuses what is written unless it is contiguous and shares no memory with what is read.
void* check_written(const Call& call, const Sources& sources, const char* argument,
                    const Tensor& output) {
  if (!output.contiguous()) refuse(call, argument, "is strided; pass it contiguous");
  if (const char* other = sources.within(extent_of(output))) {
    refuse(call, argument, std::string("shares memory with ") + other +
                               "; it is written and needs memory of its own");
  }
  return output.write();
}

// y and normed where the caller has made them.
void check_outputs(const Call& call, RowProblem& problem) {
  const Sources sources(call);
  const Tensor& y = call.y ? call.y : call.x;
  if (call.y) check_rows(call, "y", y);
  problem.y = check_written(call, sources, "y", y);
  // Memory that torch has shared until somebody writes to it moves with this.
  if (in_place(call.operation)) problem.x.data = problem.y;
  check_rows(call, "normed", call.normed);
  problem.normed = check_written(call, sources, "normed", call.normed);
  if (overlap(extent_of(y), extent_of(call.normed))) {
    refuse(call, "normed", "shares memory with y; each output needs memory of its own");
  }
}

}  // namespace

Checked check(const Call& call) {
  const bool adds = has_residual(call.operation), norms = has_norm(call.operation);
  const char* const rows = first(call);
  const Tensor& x = call.x;
  check_place(call, rows, x);
  const std::optional<DType> stream = stream_dtype(x.dtype());
  if (!stream) {
    refuse(call, rows,
           "is " + dtype_name(x.dtype()) + "; it needs float32, bfloat16 or float16");
  }
  if (x.dim() < 1 || x.last() < 1) {
    refuse(call, rows, "has shape " + shape_text(x) + "; it needs [..., d] with d at least 1");
  }
  Checked checked;
  RowProblem& problem = checked.problem;
  checked.stream = *stream;
  problem.d = x.last();
  problem.rows = x.numel() / problem.d;
  if (adds) check_rows(call, "residual", call.residual);
  if (norms) check_norm(call, problem.d);
  checked.basis = check_basis(call, problem.d);
  check_token_slot(call, problem.rows);
  check_slots(call);

  // What works in place needs contiguous rows; check_written says so.
  problem.x = {x.read(), in_place(call.operation) ? problem.d : row_stride(call, rows, x)};
  if (adds) {
    problem.residual = {call.residual.read(), row_stride(call, "residual", call.residual)};
  }
  if (norms) {
    problem.weight = call.weight.read();
    if (call.bias) problem.bias = call.bias.read();
    problem.eps = static_cast<float>(call.eps);
    problem.cast = static_cast<Cast>(call.cast);
  }
  problem.tables = tables_of(call);

  if (call.normed) check_outputs(call, problem);
  return checked;
}

}  // namespace emokernel
