#include "ops/pointwise.h"

#include <algorithm>
#include <utility>

#include "ops/check.h"

namespace edgekit {
namespace {

/// Below so many tiles of rows, units are tiles of rows and columns: whole rows would leave one
/// thread with a tile more than another, and each would read all weights.
constexpr size_t kFewTiles = 32;

/// Units are rows.
class PointwiseRows : public Op {
 public:
  PointwiseRows(GemmLayer layer, const TensorView& input, size_t rows, size_t tap_step)
      : layer_(std::move(layer)),
        input_(input.data),
        input_stride_(pixel_stride(input)),
        tap_step_(tap_step),
        rows_(rows) {}

  size_t units() const override { return rows_; }
  bool in_rows() const override { return true; }
  size_t granule() const override { return layer_.kernel().mr; }
  size_t cost() const override { return layer_.cost(rows_); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    for (size_t g = 0; g < layer_.groups(); ++g) {
      GemmArgs args = layer_.args(g, begin, end - begin);
      args.a_stride = input_stride_;
      args.tap_step = tap_step_;
      args.a = *input_ + begin * args.a_stride + g * layer_.k();
      layer_.run(args);
    }
  }

 private:
  GemmLayer layer_;
  uint8_t* const* input_;
  size_t input_stride_;
  size_t tap_step_;
  size_t rows_;
};

/// Units are tiles of mr rows by nr columns, for a layer of one group, the tiles of the same
/// columns side by side. So a range is whole columns but for its ends, and reads little more than
/// its share of the weights.
class PointwiseTiles : public Op {
 public:
  PointwiseTiles(GemmLayer layer, const TensorView& input, size_t rows, size_t tap_step)
      : layer_(std::move(layer)),
        input_(input.data),
        input_stride_(pixel_stride(input)),
        tap_step_(tap_step),
        rows_(rows),
        row_tiles_((rows + layer_.kernel().mr - 1) / layer_.kernel().mr) {}

  size_t units() const override { return row_tiles_ * ((layer_.n() + nr() - 1) / nr()); }
  size_t cost() const override { return layer_.cost(rows_); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    while (begin < end) {
      const size_t tile = begin % row_tiles_;
      const size_t left = end - begin;
      const bool whole = tile == 0 && left >= row_tiles_;
      const size_t tiles = whole ? row_tiles_ : std::min(left, row_tiles_ - tile);
      const size_t columns = whole ? left / row_tiles_ : 1;
      run_tiles(tile, tiles, begin / row_tiles_, columns);
      begin += tiles * columns;
    }
  }

 private:
  size_t nr() const { return layer_.kernel().nr; }

  /// Computes `tiles` tiles of rows from `tile` on, of `columns` tiles of columns from `column` on.
  void run_tiles(size_t tile, size_t tiles, size_t column, size_t columns) const {
    const size_t mr = layer_.kernel().mr;
    const size_t first_row = tile * mr;
    GemmArgs args = layer_.args(0, first_row, std::min(tiles * mr, rows_ - first_row));
    args.a_stride = input_stride_;
    args.tap_step = tap_step_;
    args.a = *input_ + first_row * args.a_stride;
    layer_.cut_columns(column * nr(), columns * nr(), &args);
    layer_.run(args);
  }

  GemmLayer layer_;
  uint8_t* const* input_;
  size_t input_stride_;
  size_t tap_step_;
  size_t rows_;
  size_t row_tiles_;
};

}  // namespace

std::unique_ptr<Op> make_pointwise(GemmLayer layer, const TensorView& input, size_t rows,
                                   size_t tap_step, const PlanTarget& target) {
  const GemmKernel& kernel = layer.kernel();
  const size_t tiles = (rows + kernel.mr - 1u) / kernel.mr;
  if (!target.in_rows && tiles < kFewTiles && layer.groups() == 1 &&
      kernel.nr % kernel.panel == 0) {
    return std::make_unique<PointwiseTiles>(std::move(layer), input, rows, tap_step);
  }
  return std::make_unique<PointwiseRows>(std::move(layer), input, rows, tap_step);
}

}  // namespace edgekit
