#include "tensor.h"

namespace emokernel {

const TorchNumbers torch_numbers;

void torch_failed(const char* what) {
  throw std::runtime_error(std::string("emokernel: torch failed in ") + what);
}

Handle Tensor::empty_like() const {
  constexpr int64_t kMaxDims = 64;
  if (dim_ > kMaxDims) throw std::runtime_error("emokernel: more than 64 dimensions");
  int64_t strides[kMaxDims];
  int64_t stride = 1;
  for (int64_t i = dim_ - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= sizes_[i] > 0 ? sizes_[i] : 1;
  }
  AtenTensorHandle handle = nullptr;
  check_torch(aoti_torch_empty_strided(dim_, sizes_, strides, dtype_, device_,
                                       on_cpu() ? -1 : device_index(), &handle),
              "empty_strided");
  return Handle(handle);
}

std::string dtype_name(int32_t dtype) {
  if (dtype == torch_numbers.float32) return "float32";
  if (dtype == torch_numbers.bfloat16) return "bfloat16";
  if (dtype == torch_numbers.float16) return "float16";
  if (dtype == torch_numbers.int32) return "int32";
  if (dtype == aoti_torch_dtype_float64()) return "float64";
  if (dtype == aoti_torch_dtype_int64()) return "int64";
  if (dtype == aoti_torch_dtype_bool()) return "bool";
  return "a dtype numbered " + std::to_string(dtype);
}

std::string device_text(const Tensor& tensor) {
  if (tensor.on_cpu()) return "the CPU";
  if (tensor.on_cuda()) return "cuda:" + std::to_string(tensor.device_index());
  return "another device";
}

std::string shape_text(const Tensor& tensor) {
  std::string text = "[";
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    text += (i ? ", " : "") + std::to_string(tensor.size(i));
  }
  return text + "]";
}

}  // namespace emokernel
