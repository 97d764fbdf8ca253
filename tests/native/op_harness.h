#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/storage.h"
#include "ops/op.h"
#include "ops/tensor.h"
#include "random.h"
#include "test.h"

// What tests of ops share: tensors in guarded memory, and runs in one piece and in any pieces.

namespace edgekit::test {

/// Readable bytes behind a tensor, as in the runtime's arena.
constexpr size_t kReadBehind = 64;

/// A tensor with its memory, which a page without access follows.
class OwnedTensor {
 public:
  OwnedTensor(const char* name, DType dtype, std::vector<int64_t> dims)
      : size_(dtype_size(dtype) * product(dims)), memory_(size_ + kReadBehind, 8) {
    data_ = memory_.data();
    std::memset(data_, 0x5A, memory_.size());
    view_.name = name;
    view_.data = &data_;
    view_.dtype = dtype;
    view_.shape.rank = dims.size();
    std::copy(dims.begin(), dims.end(), view_.shape.dims);
  }

  OwnedTensor(const OwnedTensor&) = delete;
  OwnedTensor& operator=(const OwnedTensor&) = delete;

  TensorView& view() { return view_; }
  const TensorView& view() const { return view_; }
  uint8_t* bytes() { return data_; }
  size_t size() const { return size_; }

  /// Makes other's memory this tensor's.
  void share(OwnedTensor& other) { data_ = other.data_; }

  /// Returns element i's code.
  int32_t code(Storage storage, size_t i) const {
    return stored_value(storage, data_[i]) - storage_offset(storage);
  }

 private:
  static size_t product(const std::vector<int64_t>& dims) {
    size_t count = 1;
    for (const int64_t dim : dims) count *= static_cast<size_t>(dim);
    return count;
  }

  size_t size_;
  GuardedBuffer<uint8_t> memory_;
  uint8_t* data_ = nullptr;
  TensorView view_;
};

/// Draws a scale, and a zero point at an end or anywhere.
inline void pick_quantization(Random& random, TensorView& view) {
  view.scale = random.log_uniform(1e-3, 1);
  view.zero_point = static_cast<int32_t>(random.one_in(2) ? random.pick<int64_t>({-128, 0, 127})
                                                          : random.integer(-128, 127));
}

/// Draws bounds of codes, the full range more often than not.
inline void pick_bounds(Random& random, int32_t* lo, int32_t* hi) {
  *lo = -128;
  *hi = 127;
  if (random.one_in(3)) {
    *lo = static_cast<int32_t>(random.integer(-128, 127));
    *hi = static_cast<int32_t>(random.integer(*lo, 127));
  }
}

/// Returns the byte that holds a code.
inline uint8_t to_stored(int64_t code, Storage storage) {
  return static_cast<uint8_t>(code + storage_offset(storage));
}

/// Returns clamp(zero_point + rne(v), lo, hi) of codes, whatever the size of v; NaN gives lo.
inline int64_t round_to_code(float v, int32_t zero_point, int32_t lo, int32_t hi) {
  const double code = std::nearbyint(static_cast<double>(v)) + zero_point;
  return !(code > lo) ? lo : code > hi ? hi : static_cast<int64_t>(code);
}

/// Runs the units [0, units) in pieces cut at random, in a random order, each with scratch of its
/// own that holds garbage.
inline void run_in_pieces(Random& random, const Op& op) {
  std::vector<size_t> cuts = {0, op.units()};
  for (size_t i = random.size(0, 3); i-- > 0;) cuts.push_back(random.size(0, op.units()));
  std::sort(cuts.begin(), cuts.end());
  std::vector<size_t> pieces;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) pieces.push_back(i);
  for (size_t i = pieces.size(); i > 1; --i) {
    std::swap(pieces[i - 1], pieces[random.size(0, i - 1)]);
  }
  for (const size_t piece : pieces) {
    GuardedBuffer<uint8_t> scratch(op.scratch_size(), 64);
    std::memset(scratch.data(), 0xC3, scratch.size());
    if (cuts[piece] < cuts[piece + 1]) op.run(cuts[piece], cuts[piece + 1], scratch.data());
  }
}

/// Runs the op in one piece and in several, and compares the output's bytes each time. `prepare`
/// sets up the tensors before each run, since an output may lie in an input.
template <class Prepare>
void check_runs(Random& random, const Op& op, OwnedTensor& output,
                const std::vector<uint8_t>& expected, const std::string& what, Prepare prepare) {
  EDGEKIT_CHECK(expected.size() == output.size(), what + ": sizes of the output and its reference");
  EDGEKIT_CHECK(op.granule() >= 1 && (op.units() == 0 || op.cost() > 0), what);
  for (int run = 0; run < 3; ++run) {
    prepare();
    if (run == 0) {
      GuardedBuffer<uint8_t> scratch(op.scratch_size(), 64);
      if (op.units() != 0) op.run(0, op.units(), scratch.data());
    } else {
      run_in_pieces(random, op);
    }
    const auto difference = std::mismatch(expected.begin(), expected.end(), output.bytes());
    EDGEKIT_CHECK(difference.first == expected.end(),
                  what + (run == 0 ? ": byte " : " in pieces: byte ") +
                      std::to_string(difference.first - expected.begin()) + " is " +
                      std::to_string(*difference.second) + ", not " +
                      std::to_string(*difference.first));
  }
}

/// The same for an output that lies in no input.
inline void check_runs(Random& random, const Op& op, OwnedTensor& output,
                       const std::vector<uint8_t>& expected, const std::string& what) {
  check_runs(random, op, output, expected, what,
             [&] { std::memset(output.bytes(), 0xA5, output.size()); });
}

/// Checks that a factory refused, with a message that has `part` in it.
inline void check_refused(const std::unique_ptr<Op>& op, const std::string& error,
                          const std::string& part) {
  EDGEKIT_CHECK(op == nullptr, "an op was made where '" + part + "' was expected");
  EDGEKIT_CHECK(op != nullptr || error.find(part) != std::string::npos,
                "the message is '" + error + "', without '" + part + "'");
}

}  // namespace edgekit::test
