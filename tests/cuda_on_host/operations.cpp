// The operations of the CUDA kernels, registered for CPU tensors.
#include "binding/call.h"
#include "launchers/cuda_rows.h"

namespace {

void launch(const emokernel::Call&, const emokernel::Checked& checked) {
  emokernel::launch_cuda_rows(checked.problem, checked.stream, checked.basis, 0, nullptr);
}

EMOKERNEL_REGISTER(emokernel_on_host, CPU, launch)

}  // namespace
