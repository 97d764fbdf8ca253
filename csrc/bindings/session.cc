#include "runtime/session.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bind.h"
#include "bindings/errors.h"
#include "bindings/plan.h"
#include "runtime/batches.h"
#include "runtime/thread_pool.h"

namespace py = pybind11;

namespace edgekit::bindings {
namespace {

// The caller's arrays in the plan's order, converted where they had to be.
struct Inputs {
  std::vector<py::array> arrays;
  std::vector<const void*> pointers;
  // The plan of the size that takes them, its index, and how often it runs.
  const Plan* plan;
  size_t size;
  size_t batches;
};

// Copies every output of the network while it runs; the GIL is held only to make the arrays.
class Recorder : public Session::Observer {
 public:
  explicit Recorder(const Plan& plan) : plan_(plan) {}

  void see(size_t op, const void* values) override {
    const auto* bytes = static_cast<const uint8_t*>(values);
    outputs_.emplace_back(bytes, bytes + plan_.ops()[op].output.size);
  }

  const std::vector<uint8_t>& output(size_t op) const { return outputs_[op]; }

 private:
  const Plan& plan_;
  std::vector<std::vector<uint8_t>> outputs_;
};

class PySession {
 public:
  PySession(const PyPlan& plan, size_t threads, const std::optional<std::vector<uint32_t>>& cores)
      : plan_(plan), threads_(threads) {
    Failure failure;
    const py::gil_scoped_release released;
    session_ = Session::create(plan.plan, {threads, cores.value_or(plan.plan->cores())}, &failure);
    if (session_ != nullptr) return;
    if (failure.bad_plan) throw PlanError(failure.message);
    throw EdgekitError(failure.message);
  }

  const PyPlan& plan() const { return plan_; }
  size_t threads() const { return threads_; }
  size_t running_threads() const { return session_->threads(); }
  const std::string& pinning_problem() const { return session_->pinning_problem(); }

  py::dict run(const py::object& values) {
    const Inputs inputs = read_inputs(py::dict(values));
    py::dict results;
    std::vector<void*> pointers;
    for (const TensorInfo& output : inputs.plan->outputs()) {
      const Shape shape = batched_shape(output, inputs.batches);
      py::array array(numpy_dtype(output.dtype), Extents(shape.dims, shape.dims + shape.rank));
      pointers.push_back(array.mutable_data());
      results[output.name] = std::move(array);
    }
    const py::gil_scoped_release released;
    const std::lock_guard lock(mutex_);
    session_->set_size(inputs.size);
    session_->run(inputs.pointers.data(), pointers.data(), inputs.batches);
    return results;
  }

  void reset() {
    const py::gil_scoped_release released;
    const std::lock_guard lock(mutex_);
    session_->reset();
  }

  py::list trace(const py::object& values) {
    const Inputs inputs = read_sample(py::dict(values));
    Recorder recorder(*inputs.plan);
    call(inputs, [&](std::string* error) {
      return session_->trace(inputs.pointers.data(), &recorder, error);
    });
    py::list results;
    for (size_t i = 0; i < inputs.plan->ops().size(); ++i) {
      const OpInfo& op = inputs.plan->ops()[i];
      results.append(py::make_tuple(
          op.name, op.output.name,
          py::array(numpy_dtype(op.output.dtype), python_shape(op.output.shape).cast<Extents>(),
                    recorder.output(i).data())));
    }
    return results;
  }

  std::vector<std::tuple<std::string, std::string, std::string>> digests(const py::object& values) {
    const Inputs inputs = read_sample(py::dict(values));
    std::vector<std::string> texts;
    call(inputs, [&](std::string* error) {
      return session_->digests(inputs.pointers.data(), &texts, error);
    });
    std::vector<std::tuple<std::string, std::string, std::string>> results;
    for (size_t i = 0; i < texts.size(); ++i) {
      const OpInfo& op = inputs.plan->ops()[i];
      results.emplace_back(op.name, op.output.name, texts[i]);
    }
    return results;
  }

  std::vector<std::tuple<std::string, double>> profile(const py::object& values, size_t repeats) {
    const Inputs inputs = read_sample(py::dict(values));
    std::vector<double> seconds;
    call(inputs, [&](std::string* error) {
      return session_->profile(inputs.pointers.data(), repeats, &seconds, error);
    });
    std::vector<std::tuple<std::string, double>> results;
    for (size_t i = 0; i < seconds.size(); ++i) {
      results.emplace_back(inputs.plan->ops()[i].name, seconds[i]);
    }
    return results;
  }

 private:
  using Extents = std::vector<py::ssize_t>;

  // Runs `body` without the GIL, one at a time, in the size of `inputs`, and throws what it
  // reports.
  template <typename Body>
  void call(const Inputs& inputs, const Body& body) {
    std::string error;
    const py::gil_scoped_release released;
    const std::lock_guard lock(mutex_);
    session_->set_size(inputs.size);
    if (!body(&error)) throw EdgekitError(error);
  }

  static py::array read_input(const TensorInfo& input, const py::handle& value) {
    py::array given = py::array::ensure(value);
    if (!given) {
      PyErr_Clear();
      throw EdgekitError(std::string("input '") + input.name + "' is not an array");
    }
    const py::dtype wanted = numpy_dtype(input.dtype);
    constexpr int kInPlace = static_cast<int>(py::array::c_style) |
                             static_cast<int>(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
    const bool same = given.dtype().is(wanted) || given.dtype().equal(wanted);
    if (same && (given.flags() & kInPlace) == kInPlace) return given;
    const bool number = std::string("fiu").find(given.dtype().kind()) != std::string::npos;
    if (!same && !(number && input.dtype == DType::kFloat32)) {
      throw EdgekitError(std::string("input '") + input.name + "' is " +
                         py::str(given.dtype()).cast<std::string>() + ", the plan takes " +
                         dtype_name(input.dtype));
    }
    return py::module_::import("numpy").attr("require")(given, wanted, "CA").cast<py::array>();
  }

  Inputs read_inputs(const py::dict& values) const {
    const std::vector<TensorInfo>& wanted = plan_.plan->inputs();
    Inputs inputs;
    std::vector<std::optional<Shape>> shapes;
    size_t given = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const TensorInfo& input = wanted[i];
      if (!values.contains(input.name)) {
        if (plan_.plan->state_outputs()[i] >= 0) {
          // The session keeps it.
          shapes.emplace_back();
          inputs.pointers.push_back(nullptr);
          continue;
        }
        throw EdgekitError(std::string("input '") + input.name + "' is missing: " +
                           dtype_name(input.dtype) + " " + format_shape(input.shape));
      }
      inputs.arrays.push_back(read_input(input, values[input.name]));
      const py::array& array = inputs.arrays.back();
      Shape shape;
      if (static_cast<size_t>(array.ndim()) > kMaxRank) {
        throw EdgekitError(std::string("input '") + input.name + "' has too many dimensions");
      }
      shape.rank = static_cast<size_t>(array.ndim());
      std::copy_n(array.shape(), shape.rank, shape.dims);
      shapes.emplace_back(shape);
      ++given;
      inputs.pointers.push_back(array.data());
    }
    if (values.size() != given) refuse_unknown(values);
    std::string error;
    inputs.size = 0;
    inputs.batches = find_size(*plan_.plan, shapes, &inputs.size, &error);
    if (inputs.batches == 0) throw EdgekitError(error);
    inputs.plan = &plan_.plan->size(inputs.size);
    return inputs;
  }

  // Reads inputs of which there is just one run.
  Inputs read_sample(const py::dict& values) const {
    Inputs inputs = read_inputs(values);
    if (inputs.batches != 1) {
      throw EdgekitError("this takes one batch of the plan's own size, not " +
                         std::to_string(inputs.batches));
    }
    return inputs;
  }

  void refuse_unknown(const py::dict& values) const {
    std::string known;
    py::set names;
    for (const TensorInfo& input : plan_.plan->inputs()) {
      known += std::string(known.empty() ? "" : ", ") + input.name;
      names.add(py::str(input.name));
    }
    for (const auto& entry : values) {
      if (names.contains(entry.first)) continue;
      throw EdgekitError("there is no input '" + py::str(entry.first).cast<std::string>() +
                         "'; the plan has " + known);
    }
  }

  PyPlan plan_;
  size_t threads_;
  std::unique_ptr<Session> session_;
  // Threads of Python may meet here once the GIL is released.
  std::mutex mutex_;
};

}  // namespace

void bind_session(py::module_& module) {
  module.attr("MAX_THREADS") = ThreadPool::kMaxThreads;
  py::class_<PySession>(module, "Session")
      .def(py::init<const PyPlan&, size_t, const std::optional<std::vector<uint32_t>>&>(),
           py::arg("plan"), py::arg("threads") = 1, py::arg("cores") = py::none())
      .def_property_readonly("plan", &PySession::plan)
      .def_property_readonly("threads", &PySession::threads)
      .def_property_readonly("running_threads", &PySession::running_threads)
      .def_property_readonly("pinning_problem", &PySession::pinning_problem)
      .def("run", &PySession::run, py::arg("inputs"))
      .def("reset", &PySession::reset)
      .def("trace", &PySession::trace, py::arg("inputs"))
      .def("digests", &PySession::digests, py::arg("inputs"))
      .def("profile", &PySession::profile, py::arg("inputs"), py::arg("repeats") = 10);
}

}  // namespace edgekit::bindings
