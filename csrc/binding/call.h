// From torch's argument stack to a launched row problem and back, the same for every device.
#pragma once

#include <torch/csrc/stable/library.h>

#include "checks.h"

namespace emokernel {

// Runs a checked problem with at least one row; the outputs are there.
using Launch = void (*)(const Call& call, const Checked& checked);

// Reads and checks the call on the stack, makes the outputs that its form makes, launches, and
// leaves the results on the stack.
void run_call(const char* name, Operation operation, Form form, Launch launch,
              StableIValue* stack);

}  // namespace emokernel

// The three forms of one operation; the name of a form follows from that of its operation.
#define EMOKERNEL_REGISTER_FORMS(library, name, operation, launch)                             \
  library.impl(#name, [](StableIValue* stack, uint64_t, uint64_t) {                            \
    emokernel::run_call(#name, operation, emokernel::Form::kFunctional, launch, stack);        \
  });                                                                                          \
  library.impl(#name "_", [](StableIValue* stack, uint64_t, uint64_t) {                        \
    emokernel::run_call(#name "_", operation, emokernel::Form::kInPlace, launch, stack);       \
  });                                                                                          \
  library.impl(#name "_out", [](StableIValue* stack, uint64_t, uint64_t) {                     \
    emokernel::run_call(#name "_out", operation, emokernel::Form::kOut, launch, stack);        \
  })

// Registers all operations of emokernel/ops/schemas.py for a dispatch key of a namespace.
#define EMOKERNEL_REGISTER(namespace_, key, launch)                                            \
  STABLE_TORCH_LIBRARY_IMPL(namespace_, key, library) {                                        \
    using emokernel::Operation;                                                                \
    EMOKERNEL_REGISTER_FORMS(library, steer, Operation::kSteer, launch);                       \
    EMOKERNEL_REGISTER_FORMS(library, add_steer, Operation::kAddSteer, launch);                \
    EMOKERNEL_REGISTER_FORMS(library, add_steer_rms_norm, Operation::kAddSteerRmsNorm,         \
                             launch);                                                          \
    EMOKERNEL_REGISTER_FORMS(library, add_steer_layer_norm, Operation::kAddSteerLayerNorm,     \
                             launch);                                                          \
  }
