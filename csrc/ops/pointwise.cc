#include "ops/pointwise.h"

#include <utility>

namespace edgekit {
namespace {

/// Below so many tiles of rows, threads share the columns instead: a fully connected layer has one
/// row.
constexpr size_t kFewTiles = 4;

/// Units are rows.
class PointwiseRows : public Op {
 public:
  PointwiseRows(GemmLayer layer, const TensorView& input, size_t rows)
      : layer_(std::move(layer)), input_(input.data), rows_(rows) {}

  size_t units() const override { return rows_; }
  size_t granule() const override { return layer_.kernel().mr; }
  size_t cost() const override { return layer_.cost(rows_); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    for (size_t g = 0; g < layer_.groups(); ++g) {
      GemmArgs args = layer_.args(g, begin, end - begin);
      args.a_stride = layer_.groups() * layer_.k();
      args.a = *input_ + begin * args.a_stride + g * layer_.k();
      layer_.kernel().run(args);
    }
  }

 private:
  GemmLayer layer_;
  uint8_t* const* input_;
  size_t rows_;
};

/// Units are columns, for a layer of one group; ranges begin at multiples of nr, where a panel
/// begins.
class PointwiseColumns : public Op {
 public:
  PointwiseColumns(GemmLayer layer, const TensorView& input, size_t rows)
      : layer_(std::move(layer)), input_(input.data), rows_(rows) {}

  size_t units() const override { return (layer_.n() + nr() - 1) / nr(); }
  size_t cost() const override { return layer_.cost(rows_); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    const size_t first = begin * nr();
    const size_t last = end * nr() < layer_.n() ? end * nr() : layer_.n();
    const size_t element_size = layer_.element_size();
    GemmArgs args = layer_.args(0, 0, rows_);
    args.a_stride = layer_.k();
    args.a = *input_;
    args.n = last - first;
    args.w += packed_gemm_size(layer_.kernel(), first, layer_.k(), 1);
    args.bias += first;
    args.requantize.scale += first;
    if (args.requantize.residual != nullptr) args.requantize.residual += first;
    args.y = static_cast<uint8_t*>(args.y) + first * element_size;
    layer_.kernel().run(args);
  }

 private:
  size_t nr() const { return layer_.kernel().nr; }

  GemmLayer layer_;
  uint8_t* const* input_;
  size_t rows_;
};

}  // namespace

std::unique_ptr<Op> make_pointwise(GemmLayer layer, const TensorView& input, size_t rows) {
  const GemmKernel& kernel = layer.kernel();
  const size_t tiles = (rows + kernel.mr - 1u) / kernel.mr;
  const bool few_rows = tiles < kFewTiles && layer.n() > tiles * kernel.nr;
  if (few_rows && layer.groups() == 1 && kernel.nr % kernel.panel == 0) {
    return std::make_unique<PointwiseColumns>(std::move(layer), input, rows);
  }
  return std::make_unique<PointwiseRows>(std::move(layer), input, rows);
}

}  // namespace edgekit
