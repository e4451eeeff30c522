// A tensor argument seen through torch's stable C interface: owns the handle, caches the rest.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "../kernels/rows.h"

namespace emokernel {

// Raises if a torch call of this binding failed; torch has logged why.
inline void check_torch(AOTITorchError code, const char* what) {
  if (code != AOTI_TORCH_SUCCESS) {
    throw std::runtime_error(std::string("emokernel: torch failed in ") + what);
  }
}

class Tensor {
 public:
  explicit Tensor(AtenTensorHandle handle) : Tensor(handle, Owned{}) {
    check_torch(aoti_torch_get_dim(handle_, &dim_), "get_dim of an argument");
    check_torch(aoti_torch_get_sizes(handle_, &sizes_), "get_sizes of an argument");
    check_torch(aoti_torch_get_strides(handle_, &strides_), "get_strides of an argument");
    check_torch(aoti_torch_get_dtype(handle_, &dtype_), "get_dtype of an argument");
    check_torch(aoti_torch_get_device_type(handle_, &device_), "get_device_type of an argument");
    check_torch(aoti_torch_get_device_index(handle_, &device_index_),
                "get_device_index of an argument");
    check_torch(aoti_torch_get_layout(handle_, &layout_), "get_layout of an argument");
  }
  Tensor(Tensor&& other) noexcept
      : handle_(other.handle_), dim_(other.dim_), sizes_(other.sizes_), strides_(other.strides_),
        dtype_(other.dtype_), device_(other.device_), device_index_(other.device_index_),
        layout_(other.layout_) {
    other.handle_ = nullptr;
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  Tensor& operator=(Tensor&&) = delete;
  ~Tensor() {
    // Its code says nothing that a destructor could act on.
    if (handle_ != nullptr) static_cast<void>(aoti_torch_delete_tensor_object(handle_));
  }

  // A fresh contiguous tensor of the shape and dtype of `like`.
  static Tensor empty_like(const Tensor& like);

  int64_t dim() const { return dim_; }
  int64_t size(int64_t i) const { return sizes_[i]; }
  int64_t stride(int64_t i) const { return strides_[i]; }
  int64_t last() const { return sizes_[dim_ - 1]; }
  int32_t dtype() const { return dtype_; }
  bool on_cpu() const { return device_ == aoti_torch_device_type_cpu(); }
  int32_t device_index() const { return device_index_; }
  bool same_device(const Tensor& other) const {
    return device_ == other.device_ && device_index_ == other.device_index_;
  }
  bool on_cuda() const { return device_ == aoti_torch_device_type_cuda(); }
  bool strided() const { return layout_ == aoti_torch_layout_strided(); }
  int64_t numel() const {
    int64_t count = 1;
    for (int64_t i = 0; i < dim_; ++i) count *= sizes_[i];
    return count;
  }

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

  // Gives the handle to the caller.
  AtenTensorHandle release() {
    AtenTensorHandle handle = handle_;
    handle_ = nullptr;
    return handle;
  }

 private:
  struct Owned {};
  // Constructed once this is done, so that the handle is deleted though what follows raises.
  Tensor(AtenTensorHandle handle, Owned) : handle_(handle) {}

  AtenTensorHandle handle_;
  int64_t dim_ = 0;
  int64_t* sizes_ = nullptr;
  int64_t* strides_ = nullptr;
  int32_t dtype_ = 0;
  int32_t device_ = 0;
  int32_t device_index_ = 0;
  int32_t layout_ = 0;
};

// "float32" and so on; "a dtype numbered n" for those that no operation takes.
std::string dtype_name(int32_t dtype);

// The dtype of a stream, or nothing.
std::optional<DType> stream_dtype(int32_t dtype);

// "the CPU", "cuda:0", or "another device"
std::string device_text(const Tensor& tensor);

// "[2, 3]"
std::string shape_text(const Tensor& tensor);

}  // namespace emokernel
