// Which build of the row kernels runs on this CPU.
#pragma once

#include <string>
#include <vector>

namespace emokernel {

// Instruction-set levels, each faster than the one before.
enum class Isa { kPortable, kAvx2, kAvx512 };

const char* isa_name(Isa isa);

// The levels that this library holds, in order.
std::vector<Isa> isas_built();

// Whether the CPU has the instructions and the operating system saves their registers.
bool isa_supported(Isa isa);

// The level named by EMOKERNEL_CPU_ISA, else the highest that was built and is supported.
// Throws std::runtime_error for a name that is unknown or cannot run here.
Isa choose_isa();

// The features of this CPU that matter here, as /proc/cpuinfo spells them.
std::vector<std::string> cpu_features();

}  // namespace emokernel
