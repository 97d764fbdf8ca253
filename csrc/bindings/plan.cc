#include "bindings/plan.h"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <string_view>
#include <vector>

#include "bindings/bind.h"
#include "bindings/errors.h"
#include "runtime/bound_plan.h"

namespace py = pybind11;

namespace edgekit::bindings {
namespace {

// Copies of what the plan says, since Python may keep them longer.
struct PyTensorInfo {
  std::string name;
  Shape shape;
  DType dtype;
  float scale;
  int32_t zero_point;
};

struct PyOpInfo {
  std::string name;
  std::string kind;
  std::string kernel;
  PyTensorInfo output;
};

PyTensorInfo describe(const TensorInfo& info) {
  return {info.name, info.shape, info.dtype, info.scale, info.zero_point};
}

std::vector<PyTensorInfo> describe(const std::vector<TensorInfo>& infos) {
  std::vector<PyTensorInfo> described;
  for (const TensorInfo& info : infos) described.push_back(describe(info));
  return described;
}

std::vector<PyOpInfo> describe(const std::vector<OpInfo>& infos) {
  std::vector<PyOpInfo> described;
  for (const OpInfo& info : infos) {
    described.push_back({info.name, info.kind, info.kernel, describe(info.output)});
  }
  return described;
}

PyPlan keep(std::shared_ptr<const Plan> plan, const std::string& error) {
  if (plan == nullptr) throw PlanError(error);
  return {std::move(plan)};
}

PyPlan open_plan(const std::filesystem::path& path) {
  std::string error;
  return keep(Plan::open(path.c_str(), &error), error);
}

PyPlan copy_plan(const py::bytes& data) {
  const std::string_view bytes = data;
  std::string error;
  return keep(Plan::from_memory(bytes.data(), bytes.size(), &error), error);
}

py::dict read_states(const Plan& plan) {
  py::dict states;
  for (size_t i = 0; i < plan.inputs().size(); ++i) {
    const int output = plan.state_outputs()[i];
    if (output < 0) continue;
    states[plan.inputs()[i].name] = plan.outputs()[static_cast<size_t>(output)].name;
  }
  return states;
}

py::dict read_metadata(const Plan& plan) {
  py::dict metadata;
  for (size_t i = 0; i < plan.metadata_size(); ++i) {
    metadata[plan.metadata_key(i)] = plan.metadata_value(i);
  }
  return metadata;
}

MemoryNeeds find_memory(const Plan& plan) {
  MemoryNeeds needs;
  std::string error;
  if (!find_memory_needs(plan, &needs, &error)) throw PlanError(error);
  return needs;
}

// Handles of one size each, which keep the whole plan.
std::vector<PyPlan> list_sizes(const PyPlan& self) {
  std::vector<PyPlan> sizes;
  for (size_t i = 0; i < self.plan->size_count(); ++i) {
    sizes.push_back({std::shared_ptr<const Plan>(self.plan, &self.plan->size(i))});
  }
  return sizes;
}

template <typename Value>
auto getter(Value (Plan::*member)() const) {
  return [member](const PyPlan& self) { return ((*self.plan).*member)(); };
}

}  // namespace

// By type, not by name, which numpy would parse at every run.
py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::kCode:
      return py::dtype::of<int8_t>();
    case DType::kInt32:
      return py::dtype::of<int32_t>();
    case DType::kFloat32:
      return py::dtype::of<float>();
    case DType::kInt64:
      return py::dtype::of<int64_t>();
    case DType::kUInt8:
      return py::dtype::of<uint8_t>();
    case DType::kBool:
      return py::dtype::of<bool>();
  }
  throw EdgekitError(std::string("numpy has no type for ") + dtype_name(dtype));
}

py::tuple python_shape(const Shape& shape) {
  py::tuple dims(shape.rank);
  for (size_t i = 0; i < shape.rank; ++i) dims[i] = shape.dims[i];
  return dims;
}

void bind_plan(py::module_& module) {
  py::class_<PyTensorInfo>(module, "TensorInfo")
      .def_readonly("name", &PyTensorInfo::name)
      .def_readonly("scale", &PyTensorInfo::scale)
      .def_readonly("zero_point", &PyTensorInfo::zero_point)
      .def_property_readonly("shape",
                             [](const PyTensorInfo& info) { return python_shape(info.shape); })
      .def_property_readonly("dtype",
                             [](const PyTensorInfo& info) { return numpy_dtype(info.dtype); });
  py::class_<PyOpInfo>(module, "OpInfo")
      .def_readonly("name", &PyOpInfo::name)
      .def_readonly("kind", &PyOpInfo::kind)
      .def_readonly("kernel", &PyOpInfo::kernel)
      .def_readonly("output", &PyOpInfo::output);
  py::class_<MemoryNeeds>(module, "MemoryNeeds")
      .def_readonly("plan", &MemoryNeeds::plan)
      .def_readonly("arena", &MemoryNeeds::arena)
      .def_readonly("scratch", &MemoryNeeds::scratch)
      .def_readonly("external", &MemoryNeeds::external)
      .def("total", &MemoryNeeds::total, py::arg("threads") = 1);
  py::class_<PyPlan>(module, "Plan")
      .def_static("open", open_plan, py::arg("path"))
      .def_static("from_bytes", copy_plan, py::arg("data"))
      .def_property_readonly("format_version",
                             [](const PyPlan&) { return PlanFile::kFormatVersion; })
      .def_property_readonly("isa",
                             [](const PyPlan& self) { return isa_info(self.plan->isa()).name; })
      .def_property_readonly("storage",
                             [](const PyPlan& self) {
                               return isa_info(self.plan->isa()).storage == Storage::kU8 ? "u8"
                                                                                         : "s8";
                             })
      .def_property_readonly("target", getter(&Plan::target))
      .def_property_readonly("source_digest", getter(&Plan::source_digest))
      .def_property_readonly("producer", getter(&Plan::producer))
      .def_property_readonly("arena_size", getter(&Plan::arena_size))
      .def_property_readonly("arena_lower_bound", getter(&Plan::arena_lower_bound))
      .def_property_readonly("cores", getter(&Plan::cores))
      .def_property_readonly("sizes", list_sizes)
      .def_property_readonly("memory", [](const PyPlan& self) { return find_memory(*self.plan); })
      .def_property_readonly("states", [](const PyPlan& self) { return read_states(*self.plan); })
      .def_property_readonly("metadata",
                             [](const PyPlan& self) { return read_metadata(*self.plan); })
      .def_property_readonly("inputs",
                             [](const PyPlan& self) { return describe(self.plan->inputs()); })
      .def_property_readonly("outputs",
                             [](const PyPlan& self) { return describe(self.plan->outputs()); })
      .def_property_readonly("ops", [](const PyPlan& self) { return describe(self.plan->ops()); });
}

}  // namespace edgekit::bindings
