#include "call.h"

#include <utility>

namespace emokernel {
namespace {

// Takes the arguments off the stack, in the order of the schema.
class Stack {
 public:
  explicit Stack(StableIValue* values) : next_(values) {}
  Tensor tensor() { return Tensor(take<AtenTensorHandle>()); }
  Tensor tensor_if(bool present) { return present ? tensor() : Tensor(); }
  template <class T>
  T take() {
    return torch::stable::detail::to<T>(*next_++);
  }

 private:
  StableIValue* next_;
};

Call read_call(Operation operation, bool given, StableIValue* values) {
  Stack stack(values);
  const bool norm = has_norm(operation);
  // Initialisers in braces run in order.
  Call call{operation,
            stack.tensor(),
            stack.tensor_if(has_residual(operation)),
            stack.tensor_if(in_place(operation)),
            stack.tensor_if(norm),
            stack.tensor_if(has_layer_norm(operation)),
            norm ? stack.take<double>() : 0.0,
            has_rms_norm(operation) ? stack.take<int64_t>() : 0,
            stack.tensor(),
            stack.tensor(),
            stack.tensor(),
            stack.tensor(),
            stack.tensor(),
            Tensor()};
  if (given) {
    call.normed = stack.tensor();
    call.y = stack.tensor();
  }
  return call;
}

void give(StableIValue* slot, Handle&& tensor) {
  *slot = torch::stable::detail::from(tensor.release());
}

}  // namespace

void run_call(Operation operation, bool given, Launch launch, StableIValue* stack) {
  const Call call = read_call(operation, given, stack);
  Checked checked = check(call);
  RowProblem& problem = checked.problem;
  const bool fresh = !given && !in_place(operation);
  Handle normed = fresh && has_norm(operation) ? call.x.empty_like() : Handle();
  Handle y = fresh ? call.x.empty_like() : Handle();
  if (normed) problem.normed = normed.write();
  if (y) problem.y = y.write();
  if (problem.rows > 0) launch(call, checked);
  if (normed) give(stack++, std::move(normed));
  if (y) give(stack, std::move(y));
}

}  // namespace emokernel
