#include "tensor.h"

namespace emokernel {

Tensor Tensor::empty_like(const Tensor& like) {
  constexpr int64_t kMaxDims = 64;
  if (like.dim_ > kMaxDims) throw std::runtime_error("emokernel: more than 64 dimensions");
  int64_t strides[kMaxDims];
  int64_t stride = 1;
  for (int64_t i = like.dim_ - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= like.sizes_[i] > 0 ? like.sizes_[i] : 1;
  }
  AtenTensorHandle handle = nullptr;
  check_torch(aoti_torch_empty_strided(like.dim_, like.sizes_, strides, like.dtype_, like.device_,
                                       like.device_index_, &handle),
              "empty_strided");
  return Tensor(handle);
}

std::string dtype_name(int32_t dtype) {
  if (dtype == aoti_torch_dtype_float32()) return "float32";
  if (dtype == aoti_torch_dtype_bfloat16()) return "bfloat16";
  if (dtype == aoti_torch_dtype_float16()) return "float16";
  if (dtype == aoti_torch_dtype_float64()) return "float64";
  if (dtype == aoti_torch_dtype_int32()) return "int32";
  if (dtype == aoti_torch_dtype_int64()) return "int64";
  if (dtype == aoti_torch_dtype_bool()) return "bool";
  return "a dtype numbered " + std::to_string(dtype);
}

std::optional<DType> stream_dtype(int32_t dtype) {
  if (dtype == aoti_torch_dtype_float32()) return DType::kFloat32;
  if (dtype == aoti_torch_dtype_bfloat16()) return DType::kBFloat16;
  if (dtype == aoti_torch_dtype_float16()) return DType::kFloat16;
  return std::nullopt;
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
