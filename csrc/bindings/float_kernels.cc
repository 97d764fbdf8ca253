#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>

#include "bindings/arguments.h"
#include "bindings/bind.h"
#include "bindings/errors.h"
#include "kernels/float_depthwise/float_depthwise.h"
#include "kernels/float_gemm/float_gemm.h"
#include "kernels/nibbles.h"

namespace py = pybind11;

namespace edgekit::bindings {
namespace {

template <typename Kernel>
const Kernel& require_kernel(const Kernel* (*find)(const char*), const std::string& name) {
  const Kernel* kernel = find(name.c_str());
  if (kernel == nullptr) throw EdgekitError("unknown kernel '" + name + "'");
  return *kernel;
}

py::bytes pack_gemm_weights(const std::string& kernel_name, const py::array& weights) {
  const FloatGemmKernel& kernel = require_kernel(find_float_gemm_kernel, kernel_name);
  const auto* w = require<float>(weights, "w", 3);
  const size_t n = extent(weights, 0);
  const size_t taps = extent(weights, 1);
  const size_t k = extent(weights, 2);
  std::string packed(packed_float_gemm_size(kernel, n, k, taps) * sizeof(float), '\0');
  pack_float_gemm(kernel, w, taps * k, 1, n, k, taps, reinterpret_cast<float*>(packed.data()));
  return packed;
}

// As Int4FullyConnectedParams::weights has them.
py::bytes pack_int4_weights(const std::string& kernel_name, const py::array& weights) {
  const size_t panel = require_kernel(find_float_gemm_kernel, kernel_name).panel;
  const auto* w = require<int8_t>(weights, "w", 2);
  const size_t n = extent(weights, 0);
  const size_t k = extent(weights, 1);
  std::string packed;
  for (size_t first = 0; first < n; first += panel) {
    for (size_t i = 0; i < k; i += 2) {
      for (size_t c = first; c < first + panel; ++c) {
        const int8_t low = c < n ? w[c * k + i] : int8_t{0};
        const int8_t high = c < n && i + 1 < k ? w[c * k + i + 1] : int8_t{0};
        packed.push_back(static_cast<char>(join_nibbles(low, high)));
      }
    }
  }
  return packed;
}

py::bytes pack_depthwise_weights(const std::string& kernel_name, const py::array& weights) {
  const FloatDepthwiseKernel& kernel = require_kernel(find_float_depthwise_kernel, kernel_name);
  const auto* w = require<float>(weights, "w", 3);
  const size_t channels = extent(weights, 0);
  const size_t kernel_h = extent(weights, 1);
  const size_t kernel_w = extent(weights, 2);
  const size_t size = packed_float_depthwise_size(kernel, channels, kernel_h, kernel_w);
  std::string packed(size * sizeof(float), '\0');
  pack_float_depthwise(kernel, w, channels, kernel_h, kernel_w,
                       reinterpret_cast<float*>(packed.data()));
  return packed;
}

}  // namespace

void bind_float_kernels(py::module_& module) {
  module.def(
      "select_float_gemm",
      [](const std::string& isa) { return select_float_gemm(require_isa(isa)).name; },
      py::arg("isa"));
  module.def(
      "select_float_depthwise",
      [](const std::string& isa) { return select_float_depthwise(require_isa(isa)).name; },
      py::arg("isa"));
  module.def("pack_float_gemm", pack_gemm_weights, py::arg("kernel"), py::arg("w"));
  module.def("pack_int4_float_gemm", pack_int4_weights, py::arg("kernel"), py::arg("w"));
  module.def(
      "float_gemm_panel",
      [](const std::string& kernel) {
        return require_kernel(find_float_gemm_kernel, kernel).panel;
      },
      py::arg("kernel"));
  module.def("pack_float_depthwise", pack_depthwise_weights, py::arg("kernel"), py::arg("w"));
}

}  // namespace edgekit::bindings
