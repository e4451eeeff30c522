#include "cuda_rows.h"

#include <cuda_runtime.h>

#include <array>
#include <climits>
#include <stdexcept>
#include <string>

#include "../kernels/cuda_rows.h"
#include "../kernels/dtype.h"

namespace emokernel {
namespace {

constexpr int kVectorBytes = 16;
constexpr int kMaxDevices = 64;

void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("emokernel: CUDA failed in ") + what + ": " +
                           cudaGetErrorString(error));
}

struct DeviceFacts {
  int multiprocessors = 0;
  bool dependent_launch = false;  // programmatic dependent launch, from compute capability 9.0
};

const DeviceFacts& facts_of(int device) {
  static const std::array<DeviceFacts, kMaxDevices> all = [] {
    std::array<DeviceFacts, kMaxDevices> found;
    int count = 0;
    check_cuda(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    for (int i = 0; i < count && i < kMaxDevices; ++i) {
      int major = 0;
      check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i),
                 "cudaDeviceGetAttribute");
      check_cuda(
          cudaDeviceGetAttribute(&found[i].multiprocessors, cudaDevAttrMultiProcessorCount, i),
          "cudaDeviceGetAttribute");
      found[i].dependent_launch = major >= 9;
    }
    return found;
  }();
  if (device < 0 || device >= kMaxDevices) {
    throw std::runtime_error("emokernel: there is no CUDA device " + std::to_string(device) +
                             " that the kernels know; they know the first " +
                             std::to_string(kMaxDevices));
  }
  return all[device];
}

bool aligned(const void* data, int64_t stride, int size) {
  return reinterpret_cast<uintptr_t>(data) % kVectorBytes == 0 && stride * size % kVectorBytes == 0;
}

// Whether every row begins on a vector and ends with one.
bool wide(const RowProblem& problem, int size, int basis_size) {
  return problem.d * size % kVectorBytes == 0 && aligned(problem.x.data, problem.x.stride, size) &&
         aligned(problem.residual.data, problem.residual.stride, size) &&
         aligned(problem.y, 0, size) && aligned(problem.normed, 0, size) &&
         aligned(problem.weight, 0, size) && aligned(problem.bias, 0, size) &&
         aligned(problem.tables.basis.data, problem.tables.basis.stride, basis_size);
}

CudaRowKernel kernel_of(DType stream, CudaShape shape, bool wide) {
  switch (stream) {
    case DType::kBFloat16: return cuda_row_kernel<Bf16>(shape, wide);
    case DType::kFloat16: return cuda_row_kernel<Fp16>(shape, wide);
    case DType::kFloat32: break;
  }
  return cuda_row_kernel<float>(shape, wide);
}

}  // namespace

void launch_cuda_rows(const RowProblem& problem, Operation operation, DType stream, DType basis,
                      int device, void* cuda_stream) {
  if (problem.d > kCudaMaxColumns || problem.rows > INT_MAX) {
    throw std::runtime_error("emokernel: " + std::to_string(problem.rows) + " rows of " +
                             std::to_string(problem.d) +
                             " are more than a CUDA kernel takes: 2^31 - 1 rows of 2^30");
  }
  const int size = element_size(stream);
  const CudaShape shape = cuda_shape(problem.d, size);
  const DeviceFacts& facts = facts_of(device);
  CudaRows rows{problem, basis != stream};
  rows.in_place = in_place(operation);
  rows.few_rows = !rows.in_place && problem.rows <= facts.multiprocessors;

  cudaLaunchAttribute dependent{};
  dependent.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  dependent.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(problem.rows));
  config.blockDim = dim3(shape.threads);
  config.stream = static_cast<cudaStream_t>(cuda_stream);
  config.attrs = &dependent;
  config.numAttrs = facts.dependent_launch ? 1 : 0;
  const CudaRowKernel kernel = kernel_of(stream, shape, wide(problem, size, element_size(basis)));
  void* arguments[] = {&rows};
  check_cuda(cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), arguments),
             "a launch");
}

}  // namespace emokernel
