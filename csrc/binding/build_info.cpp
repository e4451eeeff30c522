// emokernel._build_info: how the compiled part was built and what this CPU offers; no torch in it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../launchers/cpu_isa.h"

namespace py = pybind11;

PYBIND11_MODULE(_build_info, module) {
  module.doc() = "How emokernel's compiled part was built, and what this CPU offers.";
  module.attr("version") = EMOKERNEL_VERSION;
  module.attr("compiler") = EMOKERNEL_COMPILER;
  module.attr("flags") = EMOKERNEL_FLAGS;
  module.attr("torch_built_with") = EMOKERNEL_TORCH_BUILT;
  module.attr("torch_git") = EMOKERNEL_TORCH_GIT;
  module.attr("torch_target") = EMOKERNEL_TORCH_TARGET;
  module.attr("cuda_compiler") = EMOKERNEL_CUDA_COMPILER;  // empty without CUDA, as the next
  module.attr("cuda_architectures") = EMOKERNEL_CUDA_ARCHITECTURES;
  module.def(
      "isas_built",
      [] {
        std::vector<std::string> names;
        for (emokernel::Isa isa : emokernel::isas_built()) {
          names.push_back(emokernel::isa_name(isa));
        }
        return names;
      },
      "The instruction-set levels of the row kernels in this build, slowest first.");
  module.def(
      "isas_supported",
      [] {
        std::vector<std::string> names;
        for (emokernel::Isa isa : emokernel::isas_built()) {
          if (emokernel::isa_supported(isa)) names.push_back(emokernel::isa_name(isa));
        }
        return names;
      },
      "Those of `isas_built` that this CPU and its operating system can run.");
  module.def(
      "choose_isa", [] { return emokernel::isa_name(emokernel::choose_isa()); },
      "The level that a fresh process would use; RuntimeError if EMOKERNEL_CPU_ISA cannot be met.");
  module.def("cpu_features", &emokernel::cpu_features,
             "The features of this CPU that matter here, as /proc/cpuinfo spells them.");
}
