// Tensors seen through torch's stable C interface. Each of its calls takes 2 to 6 ns, so that what
// no check needs is not asked for.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "../kernels/rows.h"

namespace emokernel {

[[noreturn]] void torch_failed(const char* what);

// Raises if a torch call of this binding failed; torch has logged why.
inline void check_torch(AOTITorchError code, const char* what) {
  if (__builtin_expect(code != AOTI_TORCH_SUCCESS, 0)) torch_failed(what);
}

// What torch's numbers are, asked once when the library is loaded.
struct TorchNumbers {
  int32_t float32 = aoti_torch_dtype_float32();
  int32_t bfloat16 = aoti_torch_dtype_bfloat16();
  int32_t float16 = aoti_torch_dtype_float16();
  int32_t int32 = aoti_torch_dtype_int32();
  int32_t cpu = aoti_torch_device_type_cpu();
  int32_t cuda = aoti_torch_device_type_cuda();
};
extern const TorchNumbers torch_numbers;

// Owns a tensor, or nothing.
class Handle {
 public:
  Handle() = default;
  explicit Handle(AtenTensorHandle handle) : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(other.release()) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  Handle& operator=(Handle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Handle() {
    // Its code says nothing that a destructor could act on.
    if (handle_ != nullptr) static_cast<void>(aoti_torch_delete_tensor_object(handle_));
  }

  explicit operator bool() const { return handle_ != nullptr; }

  bool contiguous() const {
    bool is = false;
    check_torch(aoti_torch_is_contiguous(handle_, &is), "is_contiguous");
    return is;
  }

  const void* read() const {
    const void* data = nullptr;
    check_torch(torch_get_const_data_ptr(handle_, &data), "data_ptr");
    return data;
  }
  void* write() const {
    void* data = nullptr;
    check_torch(torch_get_mutable_data_ptr(handle_, &data), "mutable_data_ptr");
    return data;
  }

  // Gives the tensor to the caller.
  AtenTensorHandle release() {
    AtenTensorHandle handle = handle_;
    handle_ = nullptr;
    return handle;
  }

 protected:
  AtenTensorHandle handle_ = nullptr;
};

// An argument, or an absent one. The dispatcher has seen to it that it is dense: others have
// dispatch keys for which nothing is registered.
class Tensor : public Handle {
 public:
  Tensor() = default;
  explicit Tensor(AtenTensorHandle handle) : Handle(handle) {
    check_torch(aoti_torch_get_dim(handle_, &dim_), "get_dim of an argument");
    check_torch(aoti_torch_get_sizes(handle_, &sizes_), "get_sizes of an argument");
    check_torch(aoti_torch_get_strides(handle_, &strides_), "get_strides of an argument");
    check_torch(aoti_torch_get_dtype(handle_, &dtype_), "get_dtype of an argument");
    check_torch(aoti_torch_get_device_type(handle_, &device_), "get_device_type of an argument");
  }

  // A fresh contiguous tensor of this shape and dtype, on this device.
  Handle empty_like() const;

  int64_t dim() const { return dim_; }
  int64_t size(int64_t i) const { return sizes_[i]; }
  int64_t stride(int64_t i) const { return strides_[i]; }
  int64_t last() const { return sizes_[dim_ - 1]; }
  int32_t dtype() const { return dtype_; }
  bool on_cpu() const { return device_ == torch_numbers.cpu; }
  bool on_cuda() const { return device_ == torch_numbers.cuda; }
  int32_t device_index() const {
    int32_t index = 0;
    check_torch(aoti_torch_get_device_index(handle_, &index), "get_device_index of an argument");
    return index;
  }
  // There is one CPU.
  bool same_device(const Tensor& other) const {
    return device_ == other.device_ && (on_cpu() || device_index() == other.device_index());
  }
  int64_t numel() const {
    int64_t count = 1;
    for (int64_t i = 0; i < dim_; ++i) count *= sizes_[i];
    return count;
  }

 private:
  int64_t dim_ = 0;
  int64_t* sizes_ = nullptr;
  int64_t* strides_ = nullptr;
  int32_t dtype_ = 0;
  int32_t device_ = 0;
};

// "float32" and so on; "a dtype numbered n" for those that no operation takes.
std::string dtype_name(int32_t dtype);

// The dtype of a stream, or nothing.
inline std::optional<DType> stream_dtype(int32_t dtype) {
  if (dtype == torch_numbers.float32) return DType::kFloat32;
  if (dtype == torch_numbers.bfloat16) return DType::kBFloat16;
  if (dtype == torch_numbers.float16) return DType::kFloat16;
  return std::nullopt;
}

// "the CPU", "cuda:0", or "another device"
std::string device_text(const Tensor& tensor);

// "[2, 3]"
std::string shape_text(const Tensor& tensor);

}  // namespace emokernel
