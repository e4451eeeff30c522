// torch.ops.emokernel.* for CPU tensors.
#include "../launchers/cpu_rows.h"
#include "call.h"

namespace {

void torch_parallel(int64_t count, int64_t grain, emokernel::Task task, void* context) {
  emokernel::check_torch(torch_parallel_for(0, count, grain, task, context), "parallel_for");
}

void launch(const emokernel::Call& call, const emokernel::Checked& checked) {
  emokernel::launch_rows(checked.problem, call.operation, checked.stream, checked.basis,
                         torch_parallel);
}

STABLE_TORCH_LIBRARY_IMPL(emokernel, CPU, library) {
  emokernel::register_operations<launch>(library);
}

}  // namespace
