// The operations of the CUDA kernels, registered for CPU tensors.
#include "binding/call.h"
#include "launchers/cuda_rows.h"

namespace {

void launch(const emokernel::Call& call, const emokernel::Checked& checked) {
  emokernel::launch_cuda_rows(checked.problem, call.operation, checked.stream, checked.basis, 0,
                              nullptr);
}

STABLE_TORCH_LIBRARY_IMPL(emokernel_on_host, CPU, library) {
  emokernel::register_operations<launch>(library);
}

}  // namespace
