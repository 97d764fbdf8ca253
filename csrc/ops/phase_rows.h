#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ops/op.h"
#include "ops/phases.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// Runs the phases of a transposed convolution. Units are output rows of all images.
///
/// Layer is a GemmLayer, whose kernels read bytes, or a FloatLayer; Element what its kernels read.
/// There is one for each pair of phases, columns first.
template <typename Layer, typename Element>
class PhaseRows : public Op {
 public:
  /// `zero_row`: what stands for an input pixel outside of the image, as long as kernels may read.
  PhaseRows(const TensorView& input, const TensorView& output, const Window& window, Phases phases,
            std::vector<Layer> layers, std::vector<Element> zero_row)
      : phases_(std::move(phases)),
        layers_(std::move(layers)),
        input_(input.data),
        output_(output.data),
        images_(static_cast<size_t>(input.shape.dims[0])),
        in_h_(input.shape.dims[1]),
        in_w_(input.shape.dims[2]),
        out_h_(static_cast<size_t>(output.shape.dims[1])),
        pad_top_(window.pad_top),
        channels_(static_cast<size_t>(input.shape.dims[3])),
        element_size_(dtype_size(output.dtype)),
        pixel_size_(static_cast<size_t>(output.shape.dims[3]) * element_size_),
        row_size_(static_cast<size_t>(output.shape.dims[2]) * pixel_size_),
        step_(window.stride_w * pixel_size_),
        zero_row_(std::move(zero_row)) {}

  size_t units() const override { return images_ * out_h_; }
  size_t cost() const override {
    size_t of_phases = 0;
    for (size_t i = 0; i < layers_.size(); ++i) {
      of_phases += layers_[i].cost(static_cast<size_t>(column(i).count));
    }
    return units() * of_phases / phases_.rows.size();
  }
  size_t scratch_size() const override {
    size_t pointers = 0;
    for (const Layer& layer : layers_) {
      pointers = std::max(pointers, block_size(layer) * layer.taps());
    }
    return pointers * sizeof(Element*);
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    const size_t columns = phases_.columns.size();
    for (size_t unit = begin; unit < end; ++unit) {
      const size_t y = unit % out_h_;
      const size_t row = (y + pad_top_) % phases_.rows.size();
      const Element* image = reinterpret_cast<const Element*>(*input_) +
                             unit / out_h_ * static_cast<size_t>(in_h_ * in_w_) * channels_;
      for (size_t i = row * columns; i < (row + 1) * columns; ++i) {
        for (size_t g = 0; g < layers_[i].groups(); ++g) {
          run_phase(i, g, image + g * layers_[i].k(), y,
                    *output_ + unit * row_size_ + g * layers_[i].n() * element_size_,
                    reinterpret_cast<const Element**>(scratch));
        }
      }
    }
  }

 private:
  /// Row pointers gathered at a time, unless one tile needs more.
  static constexpr size_t kBlockPointers = 4096;

  const AxisPhase& column(size_t i) const { return phases_.columns[i % phases_.columns.size()]; }

  static size_t block_size(const Layer& layer) {
    const size_t mr = layer.kernel().mr;
    const size_t fit = kBlockPointers / layer.taps() / mr * mr;
    return std::max(fit, mr);
  }

  /// Computes what pair i of phases gives to a group of output row y, which begins at `to`.
  void run_phase(size_t i, size_t group, const Element* image, size_t y, uint8_t* to,
                 const Element** pointers) const {
    const Layer& layer = layers_[i];
    const AxisPhase& row = phases_.rows[i / phases_.columns.size()];
    const AxisPhase& columns = column(i);
    const int64_t down =
        (static_cast<int64_t>(y) - row.first) / static_cast<int64_t>(phases_.rows.size());
    const auto count = static_cast<size_t>(columns.count);
    if (phases_.joined && row.places.size() == 1) {
      const Element* line = input_row(image, row.places[0] + down);
      auto args = layer.args(group, 0, count);
      args.a = line != nullptr ? line : zero_row_.data();
      args.a_stride = line != nullptr ? channels_ * sizeof(Element) : 0;
      args.y_stride = step_;
      args.y = reinterpret_cast<decltype(args.y)>(to);
      return layer.run(args);
    }
    const size_t block = block_size(layer);
    for (size_t first = 0; first < count; first += block) {
      const size_t pixels = std::min(block, count - first);
      gather(row, columns, image, down, first, pixels, pointers);
      auto args = layer.args(group, 0, pixels);
      args.rows = pointers;
      args.y_stride = step_;
      args.y = reinterpret_cast<decltype(args.y)>(
          to + static_cast<size_t>(columns.first) * pixel_size_ + first * step_);
      layer.run(args);
    }
  }

  /// Finds the taps of outputs [first, first + pixels) of a pair of phases.
  void gather(const AxisPhase& row, const AxisPhase& columns, const Element* image, int64_t down,
              size_t first, size_t pixels, const Element** next) const {
    for (size_t i = first; i < first + pixels; ++i) {
      for (const int64_t place : row.places) {
        const Element* line = input_row(image, place + down);
        for (const int64_t tap : columns.places) {
          const int64_t x = tap + static_cast<int64_t>(i);
          const bool inside = line != nullptr && x >= 0 && x < in_w_;
          *next++ = inside ? line + static_cast<size_t>(x) * channels_ : zero_row_.data();
        }
      }
    }
  }

  /// Returns where an input row begins, or null outside the image.
  const Element* input_row(const Element* image, int64_t y) const {
    if (y < 0 || y >= in_h_) return nullptr;
    return image + static_cast<size_t>(y * in_w_) * channels_;
  }

  Phases phases_;
  std::vector<Layer> layers_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t images_;
  int64_t in_h_;
  int64_t in_w_;
  size_t out_h_;
  size_t pad_top_;
  size_t channels_;
  size_t element_size_;
  size_t pixel_size_;
  size_t row_size_;
  /// Bytes from one output of a phase to the next.
  size_t step_;
  std::vector<Element> zero_row_;
};

/// Makes the op of all phases. The reader makes the layers one after another, as their constants
/// lie; null where one fails.
template <typename Layer, typename Element, typename Params, typename Reader>
std::unique_ptr<Op> make_phase_rows(const Params& params, Phases phases,
                                    std::vector<Element> zero_row, Reader* reader,
                                    const PlanTarget& target, std::string* error) {
  std::vector<Layer> layers;
  for (const AxisPhase& row : phases.rows) {
    for (const AxisPhase& column : phases.columns) {
      layers.emplace_back();
      const size_t taps = row.places.size() * column.places.size();
      if (!reader->read(taps, target, &layers.back(), error)) return nullptr;
    }
  }
  return std::make_unique<PhaseRows<Layer, Element>>(params.input, params.output, params.window,
                                                     std::move(phases), std::move(layers),
                                                     std::move(zero_row));
}

}  // namespace edgekit
