#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/isa.h"

namespace edgekit {

/// What a plan was made for. The factories (make_conv() and its like) take it beside an op's
/// parameters.
///
/// A factory trusts nothing but the memory behind its pointers: it returns null and writes to
/// `error` what is wrong, naming the tensor or parameter, when shapes, sizes, axes, kernels or
/// aliasing do not fit together. The caller must have checked that tensors lie inside the arena and
/// blobs inside the file, and puts the op's name before the message.
struct PlanTarget {
  Isa isa;
  Storage storage;
  /// False where ops are made to ask them what they need, not to run them: their kernels need not
  /// have been built, nor run on this CPU.
  bool runs = true;
  /// True where an op must compute rows of images by themselves: see Op::in_rows().
  bool in_rows = false;
};

/// One operator of a session, its memory already bound. Ops are made when a session is made (that
/// may allocate and may fail, with a message); running one allocates nothing and cannot fail.
///
/// An op's work is cut into `units()` pieces that may run in any order and on any thread, and give
/// the same bytes however they are cut. The runtime hands each thread one range whose ends are
/// multiples of `granule()`.
class Op {
 public:
  virtual ~Op() = default;

  /// Returns how many independent pieces the work has, such as output rows; 0 when there is nothing
  /// to do.
  virtual size_t units() const = 0;

  /// Returns whether the units are the output's rows [n, h] or pixels [n, h, w] in their order,
  /// each computed from the input under its own window alone.
  virtual bool in_rows() const { return false; }

  /// Returns the number of units that a range should be a multiple of (the kernel's tile), at
  /// least 1.
  virtual size_t granule() const { return 1; }

  /// Returns a rough count of multiplies or, where there are none, of moved bytes. The runtime's
  /// fork_cost() says from how many on an op is shared between threads.
  virtual size_t cost() const = 0;

  /// Returns the bytes of scratch that each thread needs, 64-byte aligned.
  virtual size_t scratch_size() const { return 0; }

  /// Computes the units [begin, end). `scratch` is this thread's own.
  virtual void run(size_t begin, size_t end, uint8_t* scratch) const = 0;
};

}  // namespace edgekit
