// A torch whose calls fail one after the other, under the tensors of csrc/binding: prints, for each
// call that fails, what is raised, and ends with 1 where a handle is left behind.
#include <cstdio>

#include "binding/tensor.h"

namespace {

int calls = 0, failing = 0, alive = 0;

AOTITorchError answer() { return calls++ == failing ? AOTI_TORCH_FAILURE : AOTI_TORCH_SUCCESS; }

template <class T, class U>
AOTITorchError give(T* place, U value) {
  const AOTITorchError code = answer();
  if (code == AOTI_TORCH_SUCCESS) *place = value;
  return code;
}

int64_t sizes[2] = {2, 3}, strides[2] = {3, 1};
float data[6];
AtenTensorHandle handle() { return reinterpret_cast<AtenTensorHandle>(data); }

}  // namespace

extern "C" {
AOTITorchError aoti_torch_get_dim(AtenTensorHandle, int64_t* out) { return give(out, 2); }
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle, int64_t** out) { return give(out, sizes); }
AOTITorchError aoti_torch_get_strides(AtenTensorHandle, int64_t** out) {
  return give(out, strides);
}
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle, int32_t* out) { return give(out, 6); }
AOTITorchError aoti_torch_get_device_type(AtenTensorHandle, int32_t* out) { return give(out, 1); }
AOTITorchError aoti_torch_get_device_index(AtenTensorHandle, int32_t* out) { return give(out, 0); }
AOTITorchError aoti_torch_is_contiguous(AtenTensorHandle, bool* out) { return give(out, true); }
AOTITorchError torch_get_const_data_ptr(AtenTensorHandle, const void** out) {
  return give(out, data);
}
AOTITorchError torch_get_mutable_data_ptr(AtenTensorHandle, void** out) { return give(out, data); }
AOTITorchError aoti_torch_empty_strided(int64_t, const int64_t*, const int64_t*, int32_t, int32_t,
                                        int32_t, AtenTensorHandle* out) {
  const AOTITorchError code = give(out, handle());
  if (code == AOTI_TORCH_SUCCESS) ++alive;
  return code;
}
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle) {
  --alive;
  return AOTI_TORCH_SUCCESS;
}
#define CONSTANT(name) \
  int32_t aoti_torch_##name() { return 0; }
CONSTANT(dtype_float32)
CONSTANT(dtype_bfloat16)
CONSTANT(dtype_float16)
CONSTANT(dtype_float64)
CONSTANT(dtype_int32)
CONSTANT(dtype_int64)
CONSTANT(dtype_bool)
CONSTANT(device_type_cpu)
int32_t aoti_torch_device_type_cuda() { return 1; }
}

int main() {
  for (bool raised = true; raised; ++failing) {
    calls = 0;
    alive = 1;
    raised = false;
    try {
      const emokernel::Tensor tensor(handle());
      tensor.contiguous();
      tensor.read();
      tensor.write();
      const emokernel::Handle like = tensor.empty_like();
    } catch (const std::exception& error) {
      raised = true;
      std::puts(error.what());
    }
    if (alive != 0) return 1;
  }
}
