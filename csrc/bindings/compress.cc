#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/bind.h"
#include "bindings/errors.h"
#include "compress/columns.h"
#include "compress/exact.h"
#include "compress/factor.h"
#include "compress/hessian.h"
#include "compress/removal.h"

namespace py = pybind11;

namespace edgekit::bindings {
namespace {

using compress::Columns;
using compress::Crew;
using compress::ExactRows;
using compress::Factor;
using compress::GivenZeros;
using compress::Grid;
using compress::Hessian;
using compress::MaskRule;
using compress::Progress;
using compress::Removal;
using compress::Window;
using Pair = std::array<int64_t, 2>;
using OptionalArray = std::optional<py::array>;

// Sizes beyond this would overflow products of two of them.
constexpr size_t kMostColumns = size_t{1} << 24;

void require_threads(size_t threads) {
  if (threads == 0 || threads > ThreadPool::kMaxThreads) {
    throw EdgekitError("threads is " + std::to_string(threads) + ", not 1 to " +
                       std::to_string(ThreadPool::kMaxThreads));
  }
}

/// Passes progress on to Python, and interrupts.
Progress tell(const py::object& callback) {
  return [&callback](size_t done, size_t total) {
    const py::gil_scoped_acquire acquired;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (!callback.is_none()) callback(done, total);
  };
}

/// Runs `work` without Python's lock; what cannot be done becomes EdgekitError.
template <typename Work>
void run_released(const Work& work) {
  std::string problem;
  {
    const py::gil_scoped_release released;
    try {
      work();
      return;
    } catch (const std::domain_error& error) {
      problem = error.what();
    }
  }
  throw EdgekitError(problem);
}

Window make_window(size_t channels, size_t groups, Pair size, Pair kernel, Pair stride,
                   Pair dilation, Pair pad, Pair out, bool transposed) {
  constexpr int64_t kMost = int64_t{1} << 24;
  const auto inside = [](const Pair& pair, int64_t least) {
    return pair[0] >= least && pair[1] >= least && pair[0] <= kMost && pair[1] <= kMost;
  };
  if (groups == 0 || channels == 0 || channels % groups != 0 || channels > kMostColumns) {
    throw EdgekitError("a window has channels that its groups share out evenly, not " +
                       std::to_string(channels) + " in " + std::to_string(groups));
  }
  if (!inside(size, 1) || !inside(kernel, 1) || !inside(stride, 1) || !inside(dilation, 1) ||
      !inside(pad, -kMost) || !inside(out, 0) || out[0] * out[1] > UINT32_MAX ||
      static_cast<size_t>(kernel[0] * kernel[1]) > kMostColumns / channels) {
    throw EdgekitError("a window's sizes are whole numbers of at least 1 and not this large");
  }
  return {channels,    groups,      size[0], size[1], kernel[0], kernel[1], stride[0], stride[1],
          dilation[0], dilation[1], pad[0],  pad[1],  out[0],    out[1],    transposed};
}

/// A Hessian and the threads that add to it.
class ThreadedHessian {
 public:
  ThreadedHessian(size_t groups, size_t depth, size_t threads, const std::string& isa) {
    require_threads(threads);
    if (groups == 0 || depth == 0 || depth > kMostColumns || groups > kMostColumns) {
      throw EdgekitError("a Hessian has at least one group and one input");
    }
    crew_ = std::make_unique<Crew>(threads);
    hessian_ = std::make_unique<Hessian>(groups, depth, require_isa_here(isa), *crew_);
  }

  void add(const Window& window, const py::array& image, const py::array& positions, double scale,
           double offset, double limit) {
    if (window.groups != hessian_->groups() || window.depth() != hessian_->depth()) {
      throw EdgekitError("the window has " + std::to_string(window.groups) + " groups of " +
                         std::to_string(window.depth()) + " inputs, the Hessian " +
                         std::to_string(hessian_->groups()) + " of " +
                         std::to_string(hessian_->depth()));
    }
    const auto* some = require<uint32_t>(positions, "positions", 1);
    const size_t count = extent(positions, 0);
    const auto places = static_cast<uint64_t>(window.out_h * window.out_w);
    for (size_t p = 0; p < count; ++p) {
      if (some[p] >= places) {
        throw EdgekitError("position " + std::to_string(some[p]) + " is outside of " +
                           std::to_string(places));
      }
    }
    if (!(limit > 0 && limit <= 0x1p24)) throw EdgekitError("limit is not within 1 and 2^24");
    const Grid grid = {scale, offset, limit};
    const bool codes = image.dtype().equal(py::dtype::of<int8_t>());
    const void* data = codes ? static_cast<const void*>(require<int8_t>(image, "image", 3))
                             : static_cast<const void*>(require<float>(image, "image", 3));
    require_extents(
        image, "image",
        {window.channels, static_cast<size_t>(window.height), static_cast<size_t>(window.width)});
    const py::gil_scoped_release released;
    if (codes) {
      hessian_->add(window, static_cast<const int8_t*>(data), grid, some, count);
    } else {
      hessian_->add(window, static_cast<const float*>(data), grid, some, count);
    }
  }

  py::array_t<double> matrix(size_t group) const {
    if (group >= hessian_->groups()) {
      throw EdgekitError("there is no group " + std::to_string(group));
    }
    py::array_t<double> result({hessian_->depth(), hessian_->depth()});
    hessian_->copy_to(group, result.mutable_data());
    return result;
  }

 private:
  std::unique_ptr<Crew> crew_;
  std::unique_ptr<Hessian> hessian_;
};

std::unique_ptr<Factor> make_factor(const py::array& h, const py::array& order, double damping,
                                    size_t threads, const std::string& isa,
                                    const py::object& progress) {
  require_threads(threads);
  const auto* data = require<double>(h, "h", 2);
  const size_t depth = extent(h, 0);
  if (depth == 0) throw EdgekitError("h has no rows");
  require_extents(h, "h", {depth, depth});
  const auto* given = require<int64_t>(order, "order", 1);
  require_extents(order, "order", {depth});
  std::vector<size_t> columns(depth);
  std::vector<bool> seen(depth);
  for (size_t i = 0; i < depth; ++i) {
    columns[i] = static_cast<size_t>(given[i]);
    if (columns[i] >= depth || seen[columns[i]]) {
      throw EdgekitError("order does not name each column once");
    }
    seen[columns[i]] = true;
  }
  if (!(damping >= 0)) throw EdgekitError("damping is negative");
  const Isa set = require_isa_here(isa);
  std::unique_ptr<Factor> factor;
  Crew crew(threads);
  run_released([&] {
    factor =
        std::make_unique<Factor>(data, columns.data(), depth, damping, set, crew, tell(progress));
  });
  return factor;
}

/// What rounding and removal take from Python and give back.
struct Results {
  py::array_t<double> result;
  OptionalArray codes;
  OptionalArray scales;
  OptionalArray kept;
  py::array_t<double> costs;
};

void require_codes(double low, double high) {
  if (!(low >= -128 && low < 0 && high > 0 && high <= 127)) {
    throw EdgekitError("codes lie within -128 and 127, and on both sides of 0");
  }
}

void require_positive(const double* scales, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!(scales[i] > 0)) throw EdgekitError("a scale is not positive");
  }
}

py::array copy(const py::array& array) { return array.attr("copy")().cast<py::array>(); }

void check_mask(const MaskRule& mask, const Factor& factor, size_t rows) {
  if (mask.kind == MaskRule::Kind::kNone || mask.kind == MaskRule::Kind::kGiven) return;
  if (mask.rows == 0 || mask.columns == 0 || mask.window == 0 || mask.window % mask.columns != 0) {
    throw EdgekitError("a mask's window is a multiple of its blocks' columns");
  }
  if (!(mask.density >= 0 && mask.density <= 1)) {
    throw EdgekitError("a mask's density is not within 0 and 1");
  }
  const bool by_element = mask.kind == MaskRule::Kind::kDensity && mask.columns == 1;
  for (size_t i = 0; !by_element && i < factor.depth(); ++i) {
    if (factor.order()[i] != i) {
      throw EdgekitError("blocks of columns are chosen in their own order alone");
    }
  }
  if (rows > kMostColumns) throw EdgekitError("too many rows");
}

Results solve_columns(const Factor& factor, const py::array& weights, const MaskRule& mask,
                      const OptionalArray& kept, const OptionalArray& scales,
                      const std::vector<double>& parts, size_t group, double low, double high,
                      size_t threads, const std::string& isa, const py::object& progress) {
  require_threads(threads);
  const auto* w = require<double>(weights, "weights", 2);
  const size_t rows = extent(weights, 0), depth = factor.depth();
  require_extents(weights, "weights", {rows, depth});
  check_mask(mask, factor, rows);
  Results made;
  made.result = py::array_t<double>({rows, depth});
  made.costs = py::array_t<double>(static_cast<py::ssize_t>(rows));
  Columns columns = {};
  columns.rows = rows;
  columns.weights = w;
  columns.mask = mask;
  columns.group = group == 0 ? depth : group;
  columns.rounds = scales.has_value() || !parts.empty();
  if (mask.kind != MaskRule::Kind::kNone) {
    if (mask.kind == MaskRule::Kind::kGiven) {
      if (!kept.has_value()) throw EdgekitError("kept is missing");
      require<uint8_t>(*kept, "kept", 2);
      require_extents(*kept, "kept", {rows, depth});
      made.kept = copy(*kept);
    } else {
      made.kept = py::array_t<uint8_t>({rows, depth});
      std::fill_n(static_cast<uint8_t*>(made.kept->mutable_data()), rows * depth, uint8_t{1});
    }
    columns.kept = static_cast<uint8_t*>(made.kept->mutable_data());
  }
  if (columns.rounds) {
    require_codes(low, high);
    const size_t groups = (depth + columns.group - 1) / columns.group;
    if (scales.has_value()) {
      const auto* given = require<double>(*scales, "scales", 2);
      require_extents(*scales, "scales", {rows, groups});
      require_positive(given, rows * groups);
      made.scales = copy(*scales);
    } else {
      for (size_t i = 0; i < depth; ++i) {
        if (columns.group < depth && factor.order()[i] != i) {
          throw EdgekitError("scales of groups are found in the columns' own order alone");
        }
      }
      require_positive(parts.data(), parts.size());
      made.scales = py::array_t<double>({rows, groups});
      columns.parts = parts.data();
      columns.part_count = parts.size();
    }
    columns.scales = static_cast<double*>(made.scales->mutable_data());
    made.codes = py::array_t<int8_t>({rows, depth});
    columns.codes = static_cast<int8_t*>(made.codes->mutable_data());
  }
  columns.low = low;
  columns.high = high;
  columns.result = made.result.mutable_data();
  columns.costs = made.costs.mutable_data();
  const Isa set = require_isa_here(isa);
  Crew crew(threads);
  run_released([&] { compress::solve_columns(factor, columns, set, crew, tell(progress)); });
  return made;
}

Results solve_exactly(const py::array& h, const py::array& weights, const OptionalArray& kept,
                      size_t removed, const OptionalArray& scales, double low, double high,
                      double damping, size_t threads, const py::object& progress) {
  require_threads(threads);
  ExactRows problem = {};
  problem.h = require<double>(h, "h", 3);
  problem.weights = require<double>(weights, "weights", 3);
  problem.groups = extent(weights, 0);
  problem.rows = extent(weights, 1);
  problem.depth = extent(weights, 2);
  require_extents(h, "h", {problem.groups, problem.depth, problem.depth});
  if (problem.depth == 0 || problem.rows == 0) throw EdgekitError("there are no weights");
  if (!(damping >= 0)) throw EdgekitError("damping is negative");
  const std::vector<size_t> shape = {problem.groups, problem.rows, problem.depth};
  Results made;
  made.result = py::array_t<double>(shape);
  made.costs = py::array_t<double>({problem.groups, problem.rows});
  if (kept.has_value()) {
    problem.kept = require<uint8_t>(*kept, "kept", 3);
    require_extents(*kept, "kept", {problem.groups, problem.rows, problem.depth});
  }
  problem.removed = removed;
  problem.rounds = scales.has_value();
  if (problem.rounds) {
    require_codes(low, high);
    problem.scales = require<double>(*scales, "scales", 2);
    require_extents(*scales, "scales", {problem.groups, problem.rows});
    require_positive(problem.scales, problem.groups * problem.rows);
    made.codes = py::array_t<int8_t>(shape);
    problem.codes = static_cast<int8_t*>(made.codes->mutable_data());
  }
  problem.low = low;
  problem.high = high;
  problem.damping = damping;
  problem.result = made.result.mutable_data();
  problem.costs = made.costs.mutable_data();
  Crew crew(threads);
  ptrdiff_t failed = -1;
  run_released([&] { failed = compress::solve_exactly(problem, crew, tell(progress)); });
  if (failed >= 0) {
    throw EdgekitError("the Hessian of group " + std::to_string(failed) +
                       " is not positive definite: take more damping");
  }
  return made;
}

/// Blocks and what each costs, [panels, steps].
py::tuple order_removal(const py::array& weights, const py::array& inverse, size_t rows,
                        size_t columns, size_t group, size_t keep, bool alone, size_t threads,
                        const std::string& isa, const py::object& progress) {
  require_threads(threads);
  Removal removal = {};
  removal.weights = require<double>(weights, "weights", 2);
  removal.rows = extent(weights, 0);
  removal.depth = extent(weights, 1);
  removal.inverse = require<double>(inverse, "inverse", 2);
  require_extents(inverse, "inverse", {removal.depth, removal.depth});
  for (const size_t size : {rows, columns, group}) {
    if (size == 0 || size > kMostColumns) throw EdgekitError("blocks and groups are not empty");
  }
  removal.panel = rows;
  removal.width = columns;
  removal.group = group;
  removal.keep = keep;
  removal.alone = alone;
  py::array_t<int64_t> order({removal.panels(), removal.steps()});
  py::array_t<double> costs({removal.panels(), removal.steps()});
  removal.order = order.mutable_data();
  removal.costs = costs.mutable_data();
  const Isa set = require_isa_here(isa);
  Crew crew(threads);
  bool done = false;
  run_released([&] { done = compress::order_removal(removal, set, crew, tell(progress)); });
  if (!done) throw EdgekitError("the covariance is not positive definite: take more damping");
  return py::make_tuple(order, costs);
}

/// Weights [rows, depth] and what each row loses.
py::tuple apply_zeros(const py::array& weights, const py::array& inverse, const py::array& kept,
                      const py::array& support_of, size_t threads, const std::string& isa,
                      const py::object& progress) {
  require_threads(threads);
  GivenZeros zeros = {};
  zeros.weights = require<double>(weights, "weights", 2);
  zeros.rows = extent(weights, 0);
  zeros.depth = extent(weights, 1);
  zeros.inverse = require<double>(inverse, "inverse", 2);
  require_extents(inverse, "inverse", {zeros.depth, zeros.depth});
  zeros.kept = require<uint8_t>(kept, "kept", 2);
  zeros.supports = extent(kept, 0);
  require_extents(kept, "kept", {zeros.supports, zeros.depth});
  zeros.support_of = require<int64_t>(support_of, "support_of", 1);
  require_extents(support_of, "support_of", {zeros.rows});
  for (size_t row = 0; row < zeros.rows; ++row) {
    if (zeros.support_of[row] < 0 || static_cast<size_t>(zeros.support_of[row]) >= zeros.supports) {
      throw EdgekitError("row " + std::to_string(row) + " has none of the supports");
    }
  }
  py::array_t<double> result({zeros.rows, zeros.depth});
  py::array_t<double> costs(static_cast<py::ssize_t>(zeros.rows));
  zeros.result = result.mutable_data();
  zeros.costs = costs.mutable_data();
  const Isa set = require_isa_here(isa);
  Crew crew(threads);
  bool done = false;
  run_released([&] { done = compress::apply_zeros(zeros, set, crew, tell(progress)); });
  if (!done) throw EdgekitError("the covariance is not positive definite: take more damping");
  return py::make_tuple(result, costs);
}

}  // namespace

void bind_compress(py::module_& module) {
  py::class_<Window>(module, "Window")
      .def(py::init(&make_window), py::arg("channels"), py::kw_only(), py::arg("groups") = 1,
           py::arg("size") = Pair{1, 1}, py::arg("kernel") = Pair{1, 1},
           py::arg("stride") = Pair{1, 1}, py::arg("dilation") = Pair{1, 1},
           py::arg("pad") = Pair{0, 0}, py::arg("out") = Pair{1, 1}, py::arg("transposed") = false)
      .def_readonly("groups", &Window::groups)
      .def_property_readonly("depth", &Window::depth)
      .def_property_readonly("positions",
                             [](const Window& window) { return window.out_h * window.out_w; });
  py::class_<ThreadedHessian>(module, "Hessian")
      .def(py::init<size_t, size_t, size_t, const std::string&>(), py::arg("groups"),
           py::arg("depth"), py::kw_only(), py::arg("threads") = 1, py::arg("isa") = "")
      .def("add", &ThreadedHessian::add, py::arg("window"), py::arg("image"), py::arg("positions"),
           py::kw_only(), py::arg("scale") = 1.0, py::arg("offset") = 0.0,
           py::arg("limit") = 32768.0)
      .def("matrix", &ThreadedHessian::matrix, py::arg("group") = 0);
  py::class_<Factor>(module, "Factor")
      .def(py::init(&make_factor), py::arg("h"), py::arg("order"), py::kw_only(),
           py::arg("damping"), py::arg("threads") = 1, py::arg("isa") = "",
           py::arg("progress") = py::none())
      .def_property_readonly("depth", &Factor::depth)
      .def_property_readonly("pivots", [](const Factor& factor) {
        py::array_t<double> pivots(static_cast<py::ssize_t>(factor.depth()));
        for (size_t i = 0; i < factor.depth(); ++i) pivots.mutable_data()[i] = factor.pivot(i);
        return pivots;
      });
  py::enum_<MaskRule::Kind>(module, "MaskKind")
      .value("NONE", MaskRule::Kind::kNone)
      .value("GIVEN", MaskRule::Kind::kGiven)
      .value("COUNT", MaskRule::Kind::kCount)
      .value("DENSITY", MaskRule::Kind::kDensity);
  py::class_<MaskRule>(module, "MaskRule")
      .def(py::init([](MaskRule::Kind kind, size_t rows, size_t columns, size_t window,
                       size_t count, double density) {
             return MaskRule{kind, rows, columns, window, count, density};
           }),
           py::arg("kind"), py::kw_only(), py::arg("rows") = 1, py::arg("columns") = 1,
           py::arg("window") = 1, py::arg("count") = 0, py::arg("density") = 1.0);
  py::class_<Results>(module, "SolvedRows")
      .def_readonly("weights", &Results::result)
      .def_readonly("codes", &Results::codes)
      .def_readonly("scales", &Results::scales)
      .def_readonly("kept", &Results::kept)
      .def_readonly("costs", &Results::costs);
  module.def("solve_columns", solve_columns, py::arg("factor"), py::arg("weights"), py::kw_only(),
             py::arg("mask"), py::arg("kept") = py::none(), py::arg("scales") = py::none(),
             py::arg("parts") = std::vector<double>(), py::arg("group") = 0, py::arg("low") = -127,
             py::arg("high") = 127, py::arg("threads") = 1, py::arg("isa") = "",
             py::arg("progress") = py::none());
  module.def("solve_exactly", solve_exactly, py::arg("h"), py::arg("weights"), py::kw_only(),
             py::arg("kept") = py::none(), py::arg("removed") = 0, py::arg("scales") = py::none(),
             py::arg("low") = -127, py::arg("high") = 127, py::arg("damping") = 0.01,
             py::arg("threads") = 1, py::arg("progress") = py::none());
  module.def("order_removal", order_removal, py::arg("weights"), py::arg("inverse"), py::kw_only(),
             py::arg("rows"), py::arg("columns"), py::arg("group"), py::arg("keep") = 0,
             py::arg("alone") = false, py::arg("threads") = 1, py::arg("isa") = "",
             py::arg("progress") = py::none());
  module.def("apply_zeros", apply_zeros, py::arg("weights"), py::arg("inverse"), py::kw_only(),
             py::arg("kept"), py::arg("support_of"), py::arg("threads") = 1, py::arg("isa") = "",
             py::arg("progress") = py::none());
}

}  // namespace edgekit::bindings
