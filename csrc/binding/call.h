// From torch's argument stack to a launched row problem and back, the same for every device.
#pragma once

#include <torch/csrc/stable/library.h>

#include "checks.h"

namespace emokernel {

// Runs a checked problem with at least one row; the outputs are there.
using Launch = void (*)(const Call& call, const Checked& checked);

// Reads and checks the call on the stack, makes the outputs unless they are given, launches, and
// leaves on the stack what it has made.
void run_call(Operation operation, bool given, Launch launch, StableIValue* stack);

template <Launch kLaunch, Operation kOperation, bool kGiven = false>
void boxed(StableIValue* stack, uint64_t, uint64_t) {
  run_call(kOperation, kGiven, kLaunch, stack);
}

// Registers all operations of emokernel/ops/schemas.py.
template <Launch kLaunch, class Library>
void register_operations(Library& library) {
  constexpr Operation kRms = Operation::kAddSteerRmsNorm, kLayer = Operation::kAddSteerLayerNorm;
  library.impl("steer", boxed<kLaunch, Operation::kSteer>);
  library.impl("add_steer", boxed<kLaunch, Operation::kAddSteer>);
  library.impl("add_steer_rms_norm", boxed<kLaunch, kRms>);
  library.impl("add_steer_rms_norm_out", boxed<kLaunch, kRms, true>);
  library.impl("add_steer_layer_norm", boxed<kLaunch, kLayer>);
  library.impl("add_steer_layer_norm_out", boxed<kLaunch, kLayer, true>);
  library.impl("steer_rms_norm_", boxed<kLaunch, Operation::kSteerRmsNorm>);
}

}  // namespace emokernel
