#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "ops/check.h"
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
