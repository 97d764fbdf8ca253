#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "ops/blocks.h"
#include "ops/check.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// An operand of an elementwise op on plain numbers: one element for each of the output's, or a
/// single one for all.
template <typename T>
class Operand {
 public:
  explicit Operand(const TensorView& tensor)
      : data_(tensor.data), step_(element_count(tensor.shape) == 1 ? 0 : 1) {}

  T operator[](size_t i) const { return reinterpret_cast<const T*>(*data_)[i * step_]; }

 private:
  uint8_t* const* data_;
  size_t step_;
};

/// An elementwise op on plain numbers, y[i] = Own::element(i) of type T. Units are blocks of the
/// output's elements.
template <typename Own, typename T>
class PlainElementwise : public Op {
 public:
  size_t units() const override { return block_count(size_); }
  size_t cost() const override { return size_ * sizeof(T); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    const auto* own = static_cast<const Own*>(this);
    T* y = reinterpret_cast<T*>(*output_);
    const size_t last = block_end(end, size_);
    for (size_t i = begin * kBlockSize; i < last; ++i) y[i] = own->element(i);
  }

 private:
  friend Own;

  explicit PlainElementwise(const TensorView& output)
      : output_(output.data), size_(element_count(output.shape)) {}

  uint8_t* const* output_;
  size_t size_;
};

/// Checks that each operand has the output's shape or one element, and shares no memory with it.
inline bool check_operands(std::initializer_list<const TensorView*> operands,
                           const TensorView& output, std::string* error) {
  if (!check_tensor(output, error)) return false;
  for (const TensorView* operand : operands) {
    if (!check_tensor(*operand, error) || !check_disjoint(*operand, output, error)) return false;
    if (!same_shape(operand->shape, output.shape) && element_count(operand->shape) != 1) {
      return fail(error, {"operand ", describe(*operand), " is neither a single number nor as ",
                          describe(output)});
    }
  }
  return true;
}

}  // namespace edgekit
