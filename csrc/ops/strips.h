#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// Sees what the ops of a Strips compute.
class StripsObserver {
 public:
  virtual ~StripsObserver() = default;
  /// The op at `index` of the chain has written rows [begin, end) of all images of its output;
  /// row `begin` starts at `rows`, which is null for the last op: that one writes a whole tensor.
  virtual void see(size_t index, size_t begin, size_t end, const uint8_t* rows) = 0;
};

/// A chain of convolutions that runs in strips of the last one's output rows, so that of the
/// tensors between them only the rows of a strip exist, in scratch:
///
///   op 0        op 1          op 2             each computes the rows that the next one's windows
///   expand  ->  depthwise ->  project          reach, less those that the strip before has left
///
/// Each thread takes a run of strips and computes the rows at its upper border anew, so threads
/// wait for each other once a chain. Every row of the tensors between is computed, so windows must
/// reach all of them. Units are strips.
class Strips : public Op {
 public:
  /// One op of the chain. `window` is how it reads its input [n, in_h, ...], and `output` the
  /// tensor [n, h, w, c] that it writes.
  struct Member {
    Window window;
    int64_t in_h;
    Shape output;
    DType dtype;
  };

  static constexpr size_t kMaxOps = 8;

  /// Rows of one image.
  struct Rows {
    size_t begin = 0;
    size_t end = 0;
  };

  /// The ops of one thread, whose tensors between them begin at `inner`, one for each op but the
  /// last; the ops hold pointers to these elements.
  struct Chain {
    std::vector<std::unique_ptr<Op>> ops;
    std::vector<uint8_t*> inner;
    /// What the buffer of each inner tensor holds.
    std::array<Rows, kMaxOps> kept;
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
  };

  /// Makes the op of equal `chains`, one for each thread; `rows` output rows make a strip. Returns
  /// null and sets `error` where an op can't compute rows by themselves.
  static std::unique_ptr<Strips> make(const std::vector<Member>& members, size_t rows,
                                      std::vector<std::unique_ptr<Chain>> chains,
                                      std::string* error);

  size_t units() const override { return images_ * strips_; }
  size_t cost() const override;
  size_t scratch_size() const override { return buffers_size_ + op_scratch_size_; }
  void run(size_t begin, size_t end, uint8_t* scratch) const override;

  /// Runs all strips on this thread and shows `observer` each op's rows, each at least once.
  void run_observed(uint8_t* scratch, StripsObserver* observer) const;

 private:
  /// One op, and where the rows of its output are kept unless it is the last.
  struct Level {
    Window window;
    size_t in_h;
    size_t out_h;
    /// Bytes of a row of the output, and the op's units that compute it.
    size_t row_size;
    size_t row_units;
    /// Rows that the buffer takes, and its first byte in scratch.
    size_t capacity;
    size_t buffer;
  };

  static bool reaches_all_rows(const Level& level);
  static Rows reach(const Level& level, const Rows& out);

  Strips() = default;
  bool measure(const std::vector<Member>& members, std::string* error);
  void run_strips(Chain& chain, size_t begin, size_t end, uint8_t* scratch,
                  StripsObserver* observer) const;
  void run_strip(Chain& chain, size_t image, Rows out, uint8_t* scratch,
                 StripsObserver* observer) const;

  std::vector<Level> levels_;
  std::vector<std::unique_ptr<Chain>> chains_;
  size_t images_ = 0;
  size_t strips_ = 0;
  size_t rows_ = 0;
  size_t buffers_size_ = 0;
  size_t op_scratch_size_ = 0;
};

}  // namespace edgekit
