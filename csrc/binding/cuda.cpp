// torch.ops.emokernel.* for CUDA tensors.
#include "../launchers/cuda_rows.h"
#include "call.h"

// A libtorch without CUDA lacks this symbol, and the library still has to load there.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(
    int32_t device_index, void** stream);

namespace {

using emokernel::check_torch;

// Makes a device the current one, which costs nothing where it is already.
class DeviceGuard {
 public:
  explicit DeviceGuard(int32_t device) {
    int32_t current = 0;
    check_torch(aoti_torch_get_current_device_index(&current), "current_device");
    if (current != device) {
      check_torch(aoti_torch_create_device_guard(device, &guard_), "device_guard");
    }
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard() {
    // Its code says nothing that a destructor could act on.
    if (guard_ != nullptr) static_cast<void>(aoti_torch_delete_device_guard(guard_));
  }

 private:
  DeviceGuardHandle guard_ = nullptr;
};

void launch(const emokernel::Call& call, const emokernel::Checked& checked) {
  if (aoti_torch_get_current_cuda_stream == nullptr) {
    throw std::runtime_error("emokernel: this build of torch has no CUDA");
  }
  const int32_t device = call.x.device_index();
  const DeviceGuard guard(device);
  void* stream = nullptr;
  check_torch(aoti_torch_get_current_cuda_stream(device, &stream), "current_stream");
  emokernel::launch_cuda_rows(checked.problem, call.operation, checked.stream, checked.basis,
                              device, stream);
}

STABLE_TORCH_LIBRARY_IMPL(emokernel, CUDA, library) {
  emokernel::register_operations<launch>(library);
}

}  // namespace
