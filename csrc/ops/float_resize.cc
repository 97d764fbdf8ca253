#include "ops/float_resize.h"

#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/check_floats.h"

namespace edgekit {
namespace {

/// Where an output's row or column comes from.
struct Source {
  size_t first;
  size_t second;
  float weight;
};

/// Units are output rows of all images.
class FloatResize : public Op {
 public:
  FloatResize(const FloatResizeParams& params, std::vector<Source> rows,
              std::vector<Source> columns)
      : rows_(std::move(rows)),
        columns_(std::move(columns)),
        input_(params.input.data),
        output_(params.output.data),
        images_(static_cast<size_t>(params.input.shape.dims[0])),
        in_h_(static_cast<size_t>(params.input.shape.dims[1])),
        in_w_(static_cast<size_t>(params.input.shape.dims[2])),
        channels_(static_cast<size_t>(params.input.shape.dims[3])) {}

  size_t units() const override { return images_ * rows_.size(); }
  size_t cost() const override { return units() * columns_.size() * channels_ * 4; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    for (size_t unit = begin; unit < end; ++unit) {
      const Source& row = rows_[unit % rows_.size()];
      const float* image =
          reinterpret_cast<const float*>(*input_) + unit / rows_.size() * in_h_ * in_w_ * channels_;
      const float* top = image + row.first * in_w_ * channels_;
      const float* bottom = image + row.second * in_w_ * channels_;
      float* y = reinterpret_cast<float*>(*output_) + unit * columns_.size() * channels_;
      for (const Source& column : columns_) {
        const size_t left = column.first * channels_;
        const size_t right = column.second * channels_;
        for (size_t c = 0; c < channels_; ++c) {
          const float upper = mix(top[left + c], top[right + c], column.weight);
          const float lower = mix(bottom[left + c], bottom[right + c], column.weight);
          y[c] = mix(upper, lower, row.weight);
        }
        y += channels_;
      }
    }
  }

 private:
  static float mix(float a, float b, float weight) {
    return weight == 0.0F ? a : (1.0F - weight) * a + weight * b;
  }

  std::vector<Source> rows_;
  std::vector<Source> columns_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t images_;
  size_t in_h_;
  size_t in_w_;
  size_t channels_;
};

/// Reads where rows or columns come from; false where one is outside of `size`.
bool read_sources(const Blob& indices, const Blob& weights, int64_t count, int64_t size,
                  std::vector<Source>* sources, std::string* error) {
  const auto outputs = static_cast<size_t>(count);
  if (!check_blob(indices, 2 * outputs, sizeof(int32_t), "the list of sources", error) ||
      !check_blob(weights, outputs, sizeof(float), "the list of weights", error)) {
    return false;
  }
  const auto* pairs = reinterpret_cast<const int32_t*>(indices.data);
  const auto* factors = reinterpret_cast<const float*>(weights.data);
  for (size_t i = 0; i < outputs; ++i) {
    const int32_t first = pairs[2 * i];
    const int32_t second = pairs[2 * i + 1];
    if (first < 0 || first >= size || second < 0 || second >= size ||
        !(factors[i] >= 0 && factors[i] <= 1)) {
      return fail(error, {"source ", std::to_string(i), " lies outside of the image"});
    }
    sources->push_back({static_cast<size_t>(first), static_cast<size_t>(second), factors[i]});
  }
  return true;
}

}  // namespace

std::unique_ptr<Op> make_float_resize(const FloatResizeParams& params, const PlanTarget&,
                                      std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  std::vector<Source> rows;
  std::vector<Source> columns;
  if (!check_float_images(input, output, error) ||
      !read_sources(params.rows, params.row_weights, output.shape.dims[1], input.shape.dims[1],
                    &rows, error) ||
      !read_sources(params.columns, params.column_weights, output.shape.dims[2],
                    input.shape.dims[2], &columns, error)) {
    return nullptr;
  }
  return std::make_unique<FloatResize>(params, std::move(rows), std::move(columns));
}

}  // namespace edgekit
