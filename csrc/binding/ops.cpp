// torch.ops.emokernel.*: the CPU kernels of the schemas that emokernel/ops/schemas.py defines.
#include <torch/csrc/stable/library.h>

#include "../launchers/cpu_rows.h"
#include "checks.h"

namespace emokernel {
namespace {

void torch_parallel(int64_t count, int64_t grain, Task task, void* context) {
  check_torch(torch_parallel_for(0, count, grain, task, context), "parallel_for");
}

// Takes the arguments off the stack, in the order of the schema.
class Stack {
 public:
  explicit Stack(StableIValue* values) : next_(values) {}
  Tensor tensor() { return Tensor(take<AtenTensorHandle>()); }
  std::optional<Tensor> tensor_if(bool present) {
    return present ? std::optional<Tensor>(tensor()) : std::nullopt;
  }
  template <class T>
  T take() {
    return torch::stable::detail::to<T>(*next_++);
  }

 private:
  StableIValue* next_;
};

Call read_call(const char* name, Operation operation, Form form, StableIValue* values) {
  Stack stack(values);
  const bool norm = operation == Operation::kAddSteerRmsNorm;
  const bool out = form == Form::kOut;
  // Initialisers in braces run in order.
  return Call{name,
              operation,
              form,
              stack.tensor(),
              stack.tensor_if(operation != Operation::kSteer),
              stack.tensor_if(norm),
              norm ? stack.take<double>() : 0.0,
              norm ? stack.take<int64_t>() : 0,
              stack.tensor(),
              stack.tensor(),
              stack.tensor(),
              stack.tensor(),
              stack.tensor(),
              stack.tensor_if(norm && out),
              stack.tensor_if(out)};
}

void give(StableIValue* slot, Tensor&& tensor) {
  *slot = torch::stable::detail::from(tensor.release());
}

void run(const char* name, Operation operation, Form form, StableIValue* stack) {
  const Call call = read_call(name, operation, form, stack);
  Checked checked = check(call);
  RowProblem& problem = checked.problem;
  std::optional<Tensor> normed, y;
  if (operation == Operation::kAddSteerRmsNorm && form != Form::kOut) {
    normed.emplace(Tensor::empty_like(call.x));
    problem.normed = {normed->write(), problem.d};
  }
  if (form == Form::kFunctional) {
    y.emplace(Tensor::empty_like(call.x));
    problem.y = {y->write(), problem.d};
  }
  if (problem.rows > 0) {
    launch_rows(problem, operation, checked.stream, checked.basis, torch_parallel);
  }
  if (normed) give(stack++, std::move(*normed));
  if (y) give(stack, std::move(*y));
}

// The name of a form follows from that of its operation.
#define EMOKERNEL_REGISTER(library, name, operation)                                     \
  library.impl(#name, [](StableIValue* stack, uint64_t, uint64_t) {                      \
    run(#name, operation, Form::kFunctional, stack);                                     \
  });                                                                                    \
  library.impl(#name "_", [](StableIValue* stack, uint64_t, uint64_t) {                  \
    run(#name "_", operation, Form::kInPlace, stack);                                    \
  });                                                                                    \
  library.impl(#name "_out", [](StableIValue* stack, uint64_t, uint64_t) {               \
    run(#name "_out", operation, Form::kOut, stack);                                     \
  })

STABLE_TORCH_LIBRARY_IMPL(emokernel, CPU, library) {
  EMOKERNEL_REGISTER(library, steer, Operation::kSteer);
  EMOKERNEL_REGISTER(library, add_steer, Operation::kAddSteer);
  EMOKERNEL_REGISTER(library, add_steer_rms_norm, Operation::kAddSteerRmsNorm);
}

}  // namespace
}  // namespace emokernel
