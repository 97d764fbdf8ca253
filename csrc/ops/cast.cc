#include "ops/cast.h"

#include <limits>
#include <type_traits>

#include "ops/blocks.h"
#include "ops/pointwise_operands.h"

namespace edgekit {
namespace {

/// A bool's byte, which may hold any value.
struct Bool {
  uint8_t byte;
};

template <typename To, typename From>
To convert(From x) {
  if constexpr (std::is_same_v<From, Bool>) {
    return convert<To>(static_cast<uint8_t>(x.byte != 0));
  } else if constexpr (std::is_same_v<To, Bool>) {
    return {static_cast<uint8_t>(x != From{0})};
  } else if constexpr (std::is_same_v<From, float> && !std::is_same_v<To, float>) {
    // Both ends are powers of two, or 0, and so exact in float32.
    constexpr To kHalf = std::numeric_limits<To>::max() / 2 + 1;
    constexpr float kEnd = static_cast<float>(kHalf) * 2;
    if (!(x > static_cast<float>(std::numeric_limits<To>::min()))) {
      return x == x ? std::numeric_limits<To>::min() : To{0};
    }
    return x < kEnd ? static_cast<To>(x) : std::numeric_limits<To>::max();
  } else {
    return static_cast<To>(x);
  }
}

template <typename From, typename To>
void convert_all(const uint8_t* x, uint8_t* y, size_t begin, size_t end) {
  const From* from = reinterpret_cast<const From*>(x);
  To* to = reinterpret_cast<To*>(y);
  for (size_t i = begin; i < end; ++i) to[i] = convert<To>(from[i]);
}

using Convert = void (*)(const uint8_t*, uint8_t*, size_t, size_t);

template <typename From>
Convert select_to(DType to) {
  switch (to) {
    case DType::kFloat32:
      return convert_all<From, float>;
    case DType::kInt32:
      return convert_all<From, int32_t>;
    case DType::kInt64:
      return convert_all<From, int64_t>;
    case DType::kUInt8:
      return convert_all<From, uint8_t>;
    case DType::kBool:
      return convert_all<From, Bool>;
    default:
      return nullptr;
  }
}

Convert select(DType from, DType to) {
  switch (from) {
    case DType::kFloat32:
      return select_to<float>(to);
    case DType::kInt32:
      return select_to<int32_t>(to);
    case DType::kInt64:
      return select_to<int64_t>(to);
    case DType::kUInt8:
      return select_to<uint8_t>(to);
    case DType::kBool:
      return select_to<Bool>(to);
    default:
      return nullptr;
  }
}

/// Units are blocks of elements.
class Cast : public Op {
 public:
  Cast(const CastParams& params, Convert convert)
      : input_(params.input.data),
        output_(params.output.data),
        size_(element_count(params.output.shape)),
        convert_(convert) {}

  size_t units() const override { return block_count(size_); }
  size_t cost() const override { return size_; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    convert_(*input_, *output_, begin * kBlockSize, block_end(end, size_));
  }

 private:
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t size_;
  Convert convert_;
};

}  // namespace

std::unique_ptr<Op> make_cast(const CastParams& params, const PlanTarget&, std::string* error) {
  if (!check_operands({&params.input}, params.output, error)) return nullptr;
  const Convert convert = select(params.input.dtype, params.output.dtype);
  if (convert == nullptr || !same_shape(params.input.shape, params.output.shape)) {
    fail(error,
         {"input ", describe(params.input), " can't be made output ", describe(params.output)});
    return nullptr;
  }
  return std::make_unique<Cast>(params, convert);
}

}  // namespace edgekit
