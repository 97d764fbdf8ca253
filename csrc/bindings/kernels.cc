#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/bind.h"
#include "bindings/errors.h"
#include "kernels/depthwise/depthwise.h"
#include "kernels/fused_requantize.h"
#include "kernels/gemm/gemm.h"
#include "kernels/nibbles.h"
#include "kernels/shallow/shallow.h"
#include "kernels/sparse_gemm/sparse_gemm.h"
#include "runtime/codes_depthwise.h"
#include "runtime/codes_gemm.h"
#include "runtime/crc32c.h"

namespace py = pybind11;

namespace edgekit::bindings {
namespace {

// A row of any list, as Python sees it.
struct KernelInfo {
  std::string name;
  std::string isa;
  std::string storage;
  int mr;
  int nr;
  int kr;
  int panel;
  int bits;
  std::string exactness;
  bool built;
  bool supported;
  int unit;
  size_t most_fused_depth;
};

std::string storage_name(Storage storage) { return storage == Storage::kU8 ? "u8" : "s8"; }

KernelInfo describe(const GemmKernel& kernel) {
  return {kernel.name,
          isa_info(kernel.isa).name,
          storage_name(kernel.storage),
          kernel.mr,
          kernel.nr,
          kernel.kr,
          kernel.panel,
          kernel.bits,
          kernel.exactness == Exactness::kAlways ? "always" : "pair_sums_fit_16",
          kernel.run != nullptr,
          isa_supported(kernel.isa),
          kernel.sparse ? kernel.unit : kernel.kr,
          most_fused_depth(kernel)};
}

KernelInfo describe(const DepthwiseKernel& kernel) {
  return {kernel.name,
          isa_info(kernel.isa).name,
          storage_name(kernel.storage),
          kernel.tile_rows,
          kernel.cr,
          kernel.kr,
          kernel.cr,
          8,
          "always",
          kernel.run != nullptr,
          isa_supported(kernel.isa),
          0,
          0};
}

KernelInfo describe(const ShallowKernel& kernel) {
  return {kernel.name,
          isa_info(kernel.isa).name,
          storage_name(kernel.storage),
          kernel.tile_rows,
          kernel.nr,
          kernel.kr,
          kernel.nr,
          8,
          "always",
          kernel.run != nullptr,
          isa_supported(kernel.isa),
          0,
          0};
}

template <typename Kernel>
std::vector<KernelInfo> describe_all(const Kernel* (*list)(size_t*)) {
  size_t count;
  const Kernel* kernels = list(&count);
  std::vector<KernelInfo> infos;
  for (size_t i = 0; i < count; ++i) infos.push_back(describe(kernels[i]));
  return infos;
}

template <typename Kernel>
const Kernel& require_kernel(const Kernel* (*find)(const char*), const std::string& name) {
  const Kernel* kernel = find(name.c_str());
  if (kernel == nullptr) throw EdgekitError("unknown kernel '" + name + "'");
  return *kernel;
}

std::vector<IsaInfo> list_isas() {
  size_t count;
  const IsaInfo* table = isa_table(&count);
  return {table, table + count};
}

std::string name_best_isa() {
  const char* error = nullptr;
  const Isa isa = best_isa(&error);
  if (error != nullptr) throw EdgekitError(error);
  return isa_info(isa).name;
}

void require_nibbles(const int8_t* weights, size_t count) {
  const auto outside = [](int8_t weight) { return weight < -8 || weight > 7; };
  if (std::any_of(weights, weights + count, outside)) {
    throw EdgekitError("weights of 4 bits must lie in [-8, 7]");
  }
}

py::bytes pack_nibbles(const py::bytes& packed) {
  const std::string_view bytes = packed;
  const auto* weights = reinterpret_cast<const int8_t*>(bytes.data());
  require_nibbles(weights, bytes.size());
  std::string joined((bytes.size() + 1) / 2, '\0');
  for (size_t i = 0; i < joined.size(); ++i) {
    const int8_t high = 2 * i + 1 < bytes.size() ? weights[2 * i + 1] : int8_t{0};
    joined[i] = static_cast<char>(join_nibbles(weights[2 * i], high));
  }
  return joined;
}

py::bytes pack_gemm_weights(const std::string& kernel_name, const py::array& weights) {
  const GemmKernel& kernel = require_kernel(find_gemm_kernel, kernel_name);
  const auto* w = require<int8_t>(weights, "w", 3);
  const size_t n = extent(weights, 0);
  const size_t taps = extent(weights, 1);
  const size_t k = extent(weights, 2);
  if (kernel.bits == 4) require_nibbles(w, n * taps * k);
  std::string packed(packed_gemm_size(kernel, n, k, taps), '\0');
  pack_gemm(kernel, w, n, k, taps, reinterpret_cast<int8_t*>(packed.data()));
  return packed;
}

const GemmKernel& require_sparse(const std::string& kernel_name, size_t k) {
  const GemmKernel& kernel = require_kernel(find_sparse_gemm_kernel, kernel_name);
  if (!sparse_steps_fit(kernel, k)) throw EdgekitError("k is too large for a sparse kernel");
  return kernel;
}

py::bytes pack_sparse_weights(const std::string& kernel_name, const py::array& weights) {
  const auto* w = require<int8_t>(weights, "w", 3);
  const size_t k = extent(weights, 2);
  const GemmKernel& kernel = require_sparse(kernel_name, k);
  const std::vector<uint8_t> packed =
      pack_sparse_gemm(kernel, w, extent(weights, 0), k, extent(weights, 1));
  return {reinterpret_cast<const char*>(packed.data()), packed.size()};
}

// The share of a kernel's blocks that hold anything but zeros.
double find_block_density(const std::string& kernel_name, const py::array& weights) {
  const auto* w = require<int8_t>(weights, "w", 3);
  const size_t n = extent(weights, 0);
  const size_t taps = extent(weights, 1);
  const size_t k = extent(weights, 2);
  const GemmKernel& kernel = require_kernel(find_sparse_gemm_kernel, kernel_name);
  const size_t all = (n + kernel.nr - 1) / kernel.nr * taps * ((k + kernel.kr - 1) / kernel.kr);
  if (all == 0) return 0;
  return static_cast<double>(count_blocks(kernel, w, n, k, taps)) / static_cast<double>(all);
}

// The least float from `scale` on, a few last places at most, whose multiplier fuse_requantize()
// takes for all ranges; `scale` itself where there is none.
float settle_scale(float scale, float input_scale, float output_scale, const Requantize& requantize,
                   const std::vector<AccumulatorRange>& ranges) {
  constexpr int kTrials = 64;
  float settled = scale;
  for (int i = 0; i < kTrials; ++i) {
    const float product = input_scale * settled;
    const auto is_proved = [&](const AccumulatorRange& range) {
      FusedChannel channel;
      return fuse_requantize(product / output_scale, 0, requantize, range, &channel);
    };
    if (std::all_of(ranges.begin(), ranges.end(), is_proved)) return settled;
    settled = std::nextafter(settled, std::numeric_limits<float>::infinity());
  }
  return scale;
}

py::object fuse_layer(const std::string& kernel_name, size_t groups, const py::array& scales,
                      const py::array& biases, const py::array& products, int32_t zero_point,
                      int32_t lo, int32_t hi) {
  const GemmKernel* kernel = find_gemm_kernel(kernel_name.c_str());
  if (kernel == nullptr) kernel = &require_kernel(find_sparse_gemm_kernel, kernel_name);
  const auto* scale = require<float>(scales, "scales", 1);
  const size_t count = extent(scales, 0);
  const auto* bias = require<int32_t>(biases, "biases", 1);
  const auto* product = require<int64_t>(products, "products", 1);
  require_extents(biases, "biases", {count});
  require_extents(products, "products", {count});
  if (groups == 0 || count % groups != 0) throw py::value_error("groups must divide the channels");
  if (!fuses(*kernel)) return py::none();
  Requantize requantize = {};
  requantize.zero_point = zero_point;
  requantize.lo = static_cast<float>(lo - zero_point);
  requantize.hi = static_cast<float>(hi - zero_point);
  const size_t n = count / groups;
  const size_t padded_n = (n + kernel->nr - 1) / kernel->nr * kernel->nr;
  const auto size = static_cast<py::ssize_t>(groups * padded_n);
  py::array_t<int32_t> start(size);
  py::array_t<float> slope(size);
  py::array_t<float> shift(size);
  for (size_t i = 0; i < groups * padded_n; ++i) {
    FusedChannel channel = unused_channel();
    if (i % padded_n < n) {
      const size_t c = i / padded_n * n + i % padded_n;
      const AccumulatorRange range = {bias[c] - product[c], bias[c] + product[c]};
      if (!fuse_requantize(scale[c], bias[c], requantize, range, &channel)) return py::none();
    }
    start.mutable_data()[i] = channel.start;
    slope.mutable_data()[i] = channel.slope;
    shift.mutable_data()[i] = channel.shift;
  }
  return py::make_tuple(start, slope, shift);
}

py::array_t<float> settle_scales(const py::array& scales, float input_scale, float output_scale,
                                 int32_t zero_point, int32_t lo, int32_t hi,
                                 const py::array& lowest, const py::array& highest) {
  const auto* scale = require<float>(scales, "scales", 1);
  const size_t n = extent(scales, 0);
  const auto* low = require<int64_t>(lowest, "lowest", 2);
  const auto* high = require<int64_t>(highest, "highest", 2);
  const size_t kinds = extent(lowest, 0);
  require_extents(lowest, "lowest", {kinds, n});
  require_extents(highest, "highest", {kinds, n});
  Requantize requantize = {};
  requantize.zero_point = zero_point;
  requantize.lo = static_cast<float>(lo - zero_point);
  requantize.hi = static_cast<float>(hi - zero_point);
  py::array_t<float> settled(static_cast<py::ssize_t>(n));
  std::vector<AccumulatorRange> ranges(kinds);
  for (size_t c = 0; c < n; ++c) {
    for (size_t i = 0; i < kinds; ++i) ranges[i] = {low[i * n + c], high[i * n + c]};
    settled.mutable_data()[c] =
        settle_scale(scale[c], input_scale, output_scale, requantize, ranges);
  }
  return settled;
}

py::bytes pack_depthwise_weights(const std::string& kernel_name, const py::array& weights) {
  const DepthwiseKernel& kernel = require_kernel(find_depthwise_kernel, kernel_name);
  const auto* w = require<int8_t>(weights, "w", 3);
  const size_t channels = extent(weights, 0);
  const size_t kernel_h = extent(weights, 1);
  const size_t kernel_w = extent(weights, 2);
  std::string packed(packed_depthwise_size(kernel, channels, kernel_h, kernel_w), '\0');
  pack_depthwise(kernel, w, channels, kernel_h, kernel_w, reinterpret_cast<int8_t*>(packed.data()));
  return packed;
}

py::bytes pack_shallow_weights(const std::string& kernel_name, const py::array& weights) {
  const ShallowKernel& kernel = require_kernel(find_shallow_kernel, kernel_name);
  const auto* w = require<int8_t>(weights, "w", 4);
  const size_t n = extent(weights, 0);
  const size_t kernel_h = extent(weights, 1);
  const size_t kernel_w = extent(weights, 2);
  const size_t channels = extent(weights, 3);
  std::string packed(packed_shallow_size(kernel, n, channels, kernel_h, kernel_w), '\0');
  pack_shallow(kernel, w, n, channels, kernel_h, kernel_w,
               reinterpret_cast<int8_t*>(packed.data()));
  return packed;
}

// The kernel of that name, which must run here.
const GemmKernel& require_runnable(const std::string& name) {
  const GemmKernel* sparse = find_sparse_gemm_kernel(name.c_str());
  const GemmKernel& kernel = sparse != nullptr ? *sparse : require_kernel(find_gemm_kernel, name);
  if (kernel.run == nullptr || !isa_supported(kernel.isa)) {
    throw EdgekitError("kernel '" + name + "' cannot run here: this CPU or build lacks " +
                       isa_info(kernel.isa).name);
  }
  return kernel;
}

void require_codes(int32_t zero_point, int32_t lo, int32_t hi) {
  if (lo < -128 || lo > hi || hi > 127 || zero_point < -128 || zero_point > 127) {
    throw EdgekitError("lo <= hi and zero_point must be int8 codes");
  }
}

CodesGemm require_gemm(const GemmKernel& kernel, size_t m, const py::array& w,
                       const py::array& bias, const py::array& scale, int32_t zero_point,
                       int32_t lo, int32_t hi) {
  CodesGemm gemm = {};
  gemm.w = require<int8_t>(w, "w", 2);
  gemm.bias = require<int32_t>(bias, "bias", 1);
  gemm.scale = require<float>(scale, "scale", 1);
  gemm.m = m;
  gemm.n = extent(w, 0);
  gemm.k = extent(w, 1);
  if (extent(bias, 0) != gemm.n || extent(scale, 0) != gemm.n) {
    throw EdgekitError("the shapes must be a [m, k], w [n, k], bias [n] and scale [n]");
  }
  if (kernel.bits == 4) require_nibbles(gemm.w, gemm.n * gemm.k);
  require_codes(zero_point, lo, hi);
  gemm.zero_point = zero_point;
  gemm.lo = lo;
  gemm.hi = hi;
  return gemm;
}

py::array_t<int8_t> gemm(const std::string& kernel_name, const py::array& a, const py::array& w,
                         const py::array& bias, const py::array& scale, int32_t zero_point,
                         int32_t lo, int32_t hi, size_t threads) {
  const GemmKernel& kernel = require_runnable(kernel_name);
  const auto* codes = require<int8_t>(a, "a", 2);
  const CodesGemm problem = require_gemm(kernel, extent(a, 0), w, bias, scale, zero_point, lo, hi);
  if (extent(a, 1) != problem.k) {
    throw EdgekitError("the shapes must be a [m, k], w [n, k], bias [n] and scale [n]");
  }
  py::array_t<int8_t> y({a.shape(0), w.shape(0)});
  int8_t* results = y.mutable_data();
  std::string error;
  bool done;
  {
    const py::gil_scoped_release released;
    done = run_codes_gemm(kernel, problem, codes, results, threads, &error);
  }
  if (!done) throw EdgekitError(error);
  return y;
}

// PreparedGemm, whose memory Python sees as arrays.
struct PyGemm {
  PyGemm(const std::string& kernel_name, size_t rows, const py::array& w, const py::array& bias,
         const py::array& scale, int32_t zero_point, int32_t lo, int32_t hi)
      : m(rows), k(extent(w, 1)), n(extent(w, 0)) {
    std::string error;
    const GemmKernel& kernel = require_runnable(kernel_name);
    const CodesGemm problem = require_gemm(kernel, m, w, bias, scale, zero_point, lo, hi);
    if (!gemm.init(kernel, problem, &error)) throw EdgekitError(error);
  }

  // An array on the memory of `self`, which it keeps alive.
  static py::array_t<uint8_t> view(const py::object& self, uint8_t* data, size_t rows,
                                   size_t columns) {
    return py::array_t<uint8_t>({rows, columns}, data, self);
  }

  PreparedGemm gemm;
  size_t m;
  size_t k;
  size_t n;
};

// PreparedDepthwise, whose memory Python sees as arrays. The window is square and padded alike on
// all sides.
struct PyDepthwise {
  PyDepthwise(const std::string& kernel_name, size_t height, size_t columns, const py::array& w,
              const py::array& bias, const py::array& scale, uint32_t stride, uint32_t padding,
              int32_t x_zero_point, int32_t zero_point, int32_t lo, int32_t hi)
      : h(height), width(columns), channels(extent(w, 0)) {
    const DepthwiseKernel& kernel = require_kernel(find_depthwise_kernel, kernel_name);
    CodesDepthwise problem = {};
    problem.h = height;
    problem.w = columns;
    problem.channels = channels;
    problem.weights = require<int8_t>(w, "w", 3);
    problem.bias = require<int32_t>(bias, "bias", 1);
    problem.scale = require<float>(scale, "scale", 1);
    if (extent(bias, 0) != channels || extent(scale, 0) != channels) {
      throw EdgekitError("the shapes must be w [c, kernel_h, kernel_w], bias [c] and scale [c]");
    }
    problem.window.kernel_h = static_cast<uint32_t>(extent(w, 1));
    problem.window.kernel_w = static_cast<uint32_t>(extent(w, 2));
    problem.window.stride_h = problem.window.stride_w = stride;
    problem.window.pad_top = problem.window.pad_bottom = padding;
    problem.window.pad_left = problem.window.pad_right = padding;
    require_codes(zero_point, lo, hi);
    problem.x_zero_point = x_zero_point;
    problem.zero_point = zero_point;
    problem.lo = lo;
    problem.hi = hi;
    std::string error;
    if (!depthwise.init(kernel, problem, &error)) throw EdgekitError(error);
  }

  // An array on the memory of `self`, which it keeps alive.
  static py::array_t<uint8_t> view(const py::object& self, uint8_t* data, size_t rows,
                                   size_t columns) {
    return py::array_t<uint8_t>({rows, columns, self.cast<const PyDepthwise&>().channels}, data,
                                self);
  }

  PreparedDepthwise depthwise;
  size_t h;
  size_t width;
  size_t channels;
};

}  // namespace

void bind_kernels(py::module_& module) {
  py::class_<IsaInfo>(module, "IsaInfo")
      .def_property_readonly("name", [](const IsaInfo& info) { return info.name; })
      .def_property_readonly("parent",
                             [](const IsaInfo& info) { return isa_info(info.parent).name; })
      .def_property_readonly("storage",
                             [](const IsaInfo& info) { return storage_name(info.storage); })
      .def_property_readonly("built", [](const IsaInfo& info) { return isa_built(info.isa); })
      .def_property_readonly("supported",
                             [](const IsaInfo& info) { return isa_supported(info.isa); });
  py::class_<KernelInfo>(module, "KernelInfo")
      .def_readonly("name", &KernelInfo::name)
      .def_readonly("isa", &KernelInfo::isa)
      .def_readonly("storage", &KernelInfo::storage)
      .def_readonly("mr", &KernelInfo::mr)
      .def_readonly("nr", &KernelInfo::nr)
      .def_readonly("kr", &KernelInfo::kr)
      .def_readonly("panel", &KernelInfo::panel)
      .def_readonly("bits", &KernelInfo::bits)
      .def_readonly("exactness", &KernelInfo::exactness)
      .def_readonly("built", &KernelInfo::built)
      .def_readonly("supported", &KernelInfo::supported)
      .def_readonly("unit", &KernelInfo::unit)
      .def_readonly("most_fused_depth", &KernelInfo::most_fused_depth);

  module.def("isas", list_isas);
  module.def("best_isa", name_best_isa);
  module.def("gemm_kernels", [] { return describe_all(gemm_kernels); });
  module.def("sparse_gemm_kernels", [] { return describe_all(sparse_gemm_kernels); });
  module.def("depthwise_kernels", [] { return describe_all(depthwise_kernels); });
  module.def("shallow_kernels", [] { return describe_all(shallow_kernels); });
  module.def(
      "select_gemm",
      [](const std::string& isa_name, size_t m, size_t n, size_t k, size_t taps, bool pair_sums,
         size_t bits) {
        const Isa isa = require_isa(isa_name);
        if (bits != 4 && bits != 8) throw EdgekitError("weights have 4 or 8 bits");
        return describe(select_gemm(isa, isa_info(isa).storage, m, n, k, taps, pair_sums, bits));
      },
      py::arg("isa"), py::arg("m"), py::arg("n"), py::arg("k"), py::arg("taps"),
      py::arg("pair_sums_fit_16"), py::arg("bits") = 8);
  module.def(
      "select_sparse_gemm",
      [](const std::string& isa_name, bool pair_sums) {
        const Isa isa = require_isa(isa_name);
        return describe(select_sparse_gemm(isa, isa_info(isa).storage, pair_sums));
      },
      py::arg("isa"), py::arg("pair_sums_fit_16"));
  module.def(
      "select_depthwise",
      [](const std::string& isa_name, size_t channels, size_t kernel_h, size_t kernel_w,
         size_t stride_w, size_t dilation_w) {
        const Isa isa = require_isa(isa_name);
        return describe(select_depthwise(isa, isa_info(isa).storage, channels, kernel_h, kernel_w,
                                         stride_w, dilation_w));
      },
      py::arg("isa"), py::arg("channels"), py::arg("kernel_h"), py::arg("kernel_w"),
      py::arg("stride_w"), py::arg("dilation_w"));
  module.def(
      "select_shallow",
      [](const std::string& isa_name, size_t n, size_t channels, size_t kernel_h,
         size_t kernel_w) -> std::optional<KernelInfo> {
        const Isa isa = require_isa(isa_name);
        const ShallowKernel* kernel =
            select_shallow(isa, isa_info(isa).storage, n, channels, kernel_h, kernel_w);
        if (kernel == nullptr) return std::nullopt;
        return describe(*kernel);
      },
      py::arg("isa"), py::arg("n"), py::arg("channels"), py::arg("kernel_h"), py::arg("kernel_w"));
  module.def(
      "pair_sums_fit_16",
      [](const py::array& w) {
        const auto* codes = require<int8_t>(w, "w", 3);
        return pair_sums_fit_16(codes, extent(w, 0), extent(w, 2), extent(w, 1));
      },
      py::arg("w"));
  module.def("pack_gemm", pack_gemm_weights, py::arg("kernel"), py::arg("w"));
  module.def("pack_sparse_gemm", pack_sparse_weights, py::arg("kernel"), py::arg("w"));
  module.attr("MOST_FUSED_DEPTH") = kMostFusedDepth;
  module.def("fuse_requantize", fuse_layer, py::arg("kernel"), py::arg("groups"), py::arg("scales"),
             py::arg("biases"), py::arg("products"), py::arg("zero_point"), py::arg("lo"),
             py::arg("hi"));
  module.def("settle_scales", settle_scales, py::arg("scales"), py::arg("input_scale"),
             py::arg("output_scale"), py::arg("zero_point"), py::arg("lo"), py::arg("hi"),
             py::arg("lowest"), py::arg("highest"));
  module.def("block_density", find_block_density, py::arg("kernel"), py::arg("w"));
  module.def("pack_nibbles", pack_nibbles, py::arg("packed"));
  module.def("pack_depthwise", pack_depthwise_weights, py::arg("kernel"), py::arg("w"));
  module.def("pack_shallow", pack_shallow_weights, py::arg("kernel"), py::arg("w"));
  module.def(
      "crc32c",
      [](const py::bytes& data) {
        const std::string_view bytes = data;
        return crc32c(bytes.data(), bytes.size());
      },
      py::arg("data"));
  module.def("gemm", gemm, py::arg("kernel"), py::arg("a"), py::arg("w"), py::arg("bias"),
             py::arg("scale"), py::arg("zero_point"), py::arg("lo"), py::arg("hi"),
             py::arg("threads") = 1);
  py::class_<PyGemm>(module, "Gemm")
      .def(py::init<const std::string&, size_t, const py::array&, const py::array&,
                    const py::array&, int32_t, int32_t, int32_t>(),
           py::arg("kernel"), py::arg("m"), py::arg("w"), py::arg("bias"), py::arg("scale"),
           py::arg("zero_point"), py::arg("lo"), py::arg("hi"))
      .def_property_readonly("a",
                             [](const py::object& self) {
                               const auto& gemm = self.cast<const PyGemm&>();
                               return PyGemm::view(self, gemm.gemm.a(), gemm.m, gemm.k);
                             })
      .def_property_readonly("y",
                             [](const py::object& self) {
                               const auto& gemm = self.cast<const PyGemm&>();
                               return PyGemm::view(self, gemm.gemm.y(), gemm.m, gemm.n);
                             })
      .def("run", [](const PyGemm& gemm) {
        const py::gil_scoped_release released;
        gemm.gemm.run();
      });
  py::class_<PyDepthwise>(module, "Depthwise")
      .def(py::init<const std::string&, size_t, size_t, const py::array&, const py::array&,
                    const py::array&, uint32_t, uint32_t, int32_t, int32_t, int32_t, int32_t>(),
           py::arg("kernel"), py::arg("h"), py::arg("w"), py::arg("weights"), py::arg("bias"),
           py::arg("scale"), py::arg("stride"), py::arg("padding"), py::arg("x_zero_point"),
           py::arg("zero_point"), py::arg("lo"), py::arg("hi"))
      .def_property_readonly("x",
                             [](const py::object& self) {
                               const auto& prepared = self.cast<const PyDepthwise&>();
                               return PyDepthwise::view(self, prepared.depthwise.x(), prepared.h,
                                                        prepared.width);
                             })
      .def_property_readonly(
          "y",
          [](const py::object& self) {
            const PreparedDepthwise& prepared = self.cast<const PyDepthwise&>().depthwise;
            return PyDepthwise::view(self, prepared.y(), prepared.out_h(), prepared.out_w());
          })
      .def("run", [](const PyDepthwise& prepared) {
        const py::gil_scoped_release released;
        prepared.depthwise.run();
      });
}

}  // namespace edgekit::bindings
