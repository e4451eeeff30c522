// emokernel._direct: Python's way to an operation without torch's parser of arguments, which takes
// more than half of a small call. Everything from the dispatcher on is the same: modes, transforms,
// wrapped tensors and the profiler see the call as they see others.
//
// Nothing here knows which operations these are. It is the one part that is bound to the torch that
// it was built with, because it looks into Python's tensors; emokernel/ops/direct.py sees to that.
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/object_ptr.h>

#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/stack.h>

#include <memory>
#include <optional>
#include <vector>

namespace {

using torch::jit::Stack;

enum class Kind { kTensor, kFloat, kInt };

struct Operation {
  c10::OperatorHandle handle;
  std::vector<Kind> kinds;      // of its arguments
  std::vector<size_t> written;  // those of the arguments that it changes
  PyObject* general;            // called with what is not plain
};

// Named tensors, which the parser refuses; torch has them until 2.12.
template <class T>
auto has_names(const T& tensor, int) -> decltype(tensor.has_names()) {
  return tensor.has_names();
}
template <class T>
bool has_names(const T&, long) {
  return false;
}

bool is_plain(Kind kind, PyObject* argument, bool grad_mode) {
  if (kind == Kind::kFloat) return PyFloat_CheckExact(argument);
  if (kind == Kind::kInt) {
    int overflow = 0;
    return PyLong_CheckExact(argument) &&
           (PyLong_AsLongLongAndOverflow(argument, &overflow), overflow == 0);
  }
  if (!THPVariable_CheckExact(argument)) return false;
  const at::Tensor& tensor = THPVariable_Unpack(argument);
  return !(grad_mode && tensor.requires_grad()) && !has_names(tensor, 0);
}

// Whether the parser would do no more than `push`, and nothing has to be refused for a gradient.
bool all_plain(const Operation& operation, PyObject* const* arguments, Py_ssize_t count) {
  if (static_cast<size_t>(count) != operation.kinds.size()) return false;
  if (at::impl::torch_function_mode_enabled()) return false;
  const bool grad_mode = c10::GradMode::is_enabled();
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (!is_plain(operation.kinds[i], arguments[i], grad_mode)) return false;
  }
  return true;
}

void push(Stack& stack, Kind kind, PyObject* argument) {
  if (kind == Kind::kTensor) {
    stack.emplace_back(THPVariable_Unpack(argument));
  } else if (kind == Kind::kFloat) {
    stack.emplace_back(PyFloat_AS_DOUBLE(argument));
  } else {
    stack.emplace_back(static_cast<int64_t>(PyLong_AsLongLong(argument)));
  }
}

// Whether a call ends within microseconds: giving others the interpreter for that long would take
// longer, not least because torch has to have it back for each argument that is let go.
bool is_short(const Stack& stack) {
  constexpr int64_t kElements = 32768;
  return stack.front().isTensor() && stack.front().toTensor().is_cpu() &&
         stack.front().toTensor().numel() <= kElements;
}

PyObject* returned(Stack& stack) {
  if (stack.empty()) Py_RETURN_NONE;
  if (stack.size() == 1) return THPVariable_Wrap(std::move(stack[0]).toTensor());
  THPObjectPtr results(PyTuple_New(static_cast<Py_ssize_t>(stack.size())));
  if (!results) throw python_error();
  for (size_t i = 0; i < stack.size(); ++i) {
    PyObject* result = THPVariable_Wrap(std::move(stack[i]).toTensor());
    if (result == nullptr) throw python_error();
    PyTuple_SET_ITEM(results.get(), static_cast<Py_ssize_t>(i), result);
  }
  return results.release();
}

PyObject* call(PyObject* capsule, PyObject* const* arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  const Operation& operation =
      *static_cast<const Operation*>(PyCapsule_GetPointer(capsule, nullptr));
  if (!all_plain(operation, arguments, count)) {
    return PyObject_Vectorcall(operation.general, arguments, static_cast<size_t>(count), nullptr);
  }
  Stack stack;
  stack.reserve(static_cast<size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) push(stack, operation.kinds[i], arguments[i]);
  {
    std::optional<pybind11::gil_scoped_release> others_may_run;
    if (!is_short(stack)) others_may_run.emplace();
    operation.handle.callBoxed(&stack);
  }
  // Autograd may have kept them for another graph.
  for (size_t i : operation.written) {
    const at::Tensor& tensor = THPVariable_Unpack(arguments[i]);
    if (!tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
  }
  return returned(stack);
  END_HANDLE_TH_ERRORS
}

Kind kind_of(const c10::Argument& argument) {
  switch (argument.type()->kind()) {
    case c10::TypeKind::TensorType: return Kind::kTensor;
    case c10::TypeKind::FloatType: return Kind::kFloat;
    case c10::TypeKind::IntType: return Kind::kInt;
    default: break;
  }
  throw c10::TypeError({__func__, __FILE__, __LINE__},
                       "argument " + argument.name() + " is no tensor, float or int");
}

// By way of void(): the type of a function with METH_FASTCALL is no PyCFunction.
PyMethodDef kCall = {"operation",
                     reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call)),
                     METH_FASTCALL, nullptr};

// direct(name, general) -> function of positional arguments
PyObject* direct(PyObject*, PyObject* arguments) {
  HANDLE_TH_ERRORS
  const char* name = nullptr;
  PyObject* general = nullptr;
  if (!PyArg_ParseTuple(arguments, "sO", &name, &general)) return nullptr;
  auto operation = std::make_unique<Operation>(
      Operation{c10::Dispatcher::singleton().findSchemaOrThrow(name, ""), {}, {}, general});
  for (const c10::Argument& argument : operation->handle.schema().arguments()) {
    if (argument.alias_info() && argument.alias_info()->isWrite()) {
      operation->written.push_back(operation->kinds.size());
    }
    operation->kinds.push_back(kind_of(argument));
  }
  THPObjectPtr capsule(PyCapsule_New(operation.get(), nullptr, [](PyObject* self) {
    auto* owned = static_cast<Operation*>(PyCapsule_GetPointer(self, nullptr));
    Py_DECREF(owned->general);
    delete owned;
  }));
  if (!capsule) return nullptr;
  Py_INCREF(operation.release()->general);
  return PyCFunction_New(&kCall, capsule.get());
  END_HANDLE_TH_ERRORS
}

PyMethodDef kFunctions[] = {
    {"direct", direct, METH_VARARGS,
     "direct(name, general): the operation of that name of torch.ops as a function of positional"
     " arguments. It leaves to general what is no exact Tensor, Parameter, float or int, what"
     " requires a gradient in grad mode, and all that modes of __torch_function__ see."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef kModule = {
    PyModuleDef_HEAD_INIT, "_direct", nullptr, -1, kFunctions, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__direct() { return PyModule_Create(&kModule); }
