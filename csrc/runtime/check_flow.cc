#include "runtime/check_flow.h"

#include <algorithm>

#include "ops/tensor.h"
#include "runtime/check_graph.h"

namespace edgekit {
namespace {

// The arena's bytes that are still to be read, op by op.
class LiveRanges {
 public:
  // Returns false when the range overlaps one that is live, unless both are the same and `shared`.
  bool add(uint64_t begin, uint64_t end, bool shared) {
    const auto next = ranges_.lower_bound(begin);
    if (next != ranges_.end() && next->first == begin && shared && next->second.end == end) {
      ++next->second.users;
      return true;
    }
    if (next != ranges_.end() && next->first < end) return false;
    if (next != ranges_.begin() && std::prev(next)->second.end > begin) return false;
    ranges_.emplace_hint(next, begin, Range{end, 1});
    return true;
  }

  void remove(uint64_t begin) {
    const auto range = ranges_.find(begin);
    if (--range->second.users == 0) ranges_.erase(range);
  }

 private:
  struct Range {
    uint64_t end;
    size_t users;
  };
  std::map<uint64_t, Range> ranges_;
};

// Plays the plan. Memory is that of whole tensors: a part lives as long as the tensor that it lies
// in, and that one as long as any of its parts.
class FlowChecker {
 public:
  FlowChecker(const plan::Plan& plan, const std::vector<OpTensors>& ops,
              const std::map<uint32_t, uint32_t>& chain_end, std::string* error)
      : plan_(plan),
        tensors_(*plan.tensors()),
        ops_(ops),
        chain_end_(chain_end),
        error_(error),
        written_(tensors_.size()),
        last_use_(tensors_.size()),
        alive_(tensors_.size()) {}

  bool check() {
    for (uint32_t i = 0; i < ops_.size(); ++i) {
      for (const uint32_t index : ops_[i].reads) last_use_[whole(index)] = i;
      last_use_[whole(ops_[i].write)] = i;
    }
    for (const uint32_t index : *plan_.inputs()) written_[index] = true;
    for (uint32_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i]->place() == plan::Place_Constant) written_[i] = true;
    }
    uint32_t end = 0;
    for (uint32_t begin = 0; begin < ops_.size(); begin = end) {
      // What runs at once: one op, or a chain in strips, which goes on reading while it writes.
      const auto chain = chain_end_.find(begin);
      const bool strips = chain != chain_end_.end();
      end = strips ? chain->second : begin + 1;
      if (strips && !begin_output(end - 1)) return false;
      for (uint32_t i = begin; i < end; ++i) {
        if (!read_inputs(i) || !write_output(i)) return false;
      }
      if (!strips && !begin_output(begin)) return false;
      end_tensor(ops_[end - 1].write, end - 1);
    }
    for (const uint32_t index : *plan_.outputs()) {
      if (!written_[index]) {
        return fail("output '" + tensors_[index]->name()->str() + "' is never written");
      }
    }
    return true;
  }

 private:
  bool fail(const std::string& what) const {
    *error_ = "the plan is invalid: " + what;
    return false;
  }

  const std::string name(uint32_t op) const { return plan_.ops()->Get(op)->name()->str(); }

  // Returns the tensor in whose memory a tensor lies, itself or another.
  uint32_t whole(uint32_t index) const {
    const uint32_t parent = tensors_[index]->parent();
    return parent == 0 ? index : parent - 1;
  }

  bool read_inputs(uint32_t op) {
    for (const uint32_t index : ops_[op].reads) {
      if (!written_[index]) {
        return fail("op '" + name(op) + "' reads '" + tensors_[index]->name()->str() +
                    "' before it is written");
      }
      if (whole(index) != whole(ops_[op].write)) end_tensor(index, op);
    }
    return true;
  }

  // Frees the memory of a tensor that nothing uses after an op.
  void end_tensor(uint32_t index, uint32_t op) {
    const uint32_t memory = whole(index);
    if (!alive_[memory] || last_use_[memory] != op) return;
    live_.remove(tensors_[memory]->offset());
    alive_[memory] = false;
  }

  bool write_output(uint32_t op) {
    const uint32_t index = ops_[op].write;
    if (written_[index]) {
      return fail("op '" + name(op) + "' writes '" + tensors_[index]->name()->str() +
                  "' a second time");
    }
    // Of one memory, only what an op leaves in its place may be part of what it writes.
    const plan::OpParams kind = plan_.ops()->Get(op)->params_type();
    const bool leaves = kind == plan::OpParams_Concat || kind == plan::OpParams_Slice;
    for (uint32_t other = 0; other < tensors_.size(); ++other) {
      if (other == index || !written_[other] || !alive_[whole(other)] ||
          whole(other) != whole(index) || !overlap(*tensors_[other], *tensors_[index])) {
        continue;
      }
      if (!leaves || !is_read(other, op)) return fail_overwrite(op);
    }
    written_[index] = true;
    return true;
  }

  // Returns whether an op reads a tensor, or another that has bytes in common with it.
  bool is_read(uint32_t index, uint32_t op) const {
    const auto& reads = ops_[op].reads;
    return std::any_of(reads.begin(), reads.end(), [&](uint32_t read) {
      return whole(read) == whole(index) && overlap(*tensors_[read], *tensors_[index]);
    });
  }

  static bool overlap(const plan::Tensor& a, const plan::Tensor& b) {
    const uint64_t a_end = a.offset() + extent(a);
    const uint64_t b_end = b.offset() + extent(b);
    if (a.offset() >= b_end || b.offset() >= a_end) return false;
    const uint64_t stride = a.pixel_stride();
    if (stride == 0 || stride != b.pixel_stride()) return true;
    const uint64_t from_a = (b.offset() % stride + stride - a.offset() % stride) % stride;
    return from_a < pixel(a) || from_a + pixel(b) > stride;
  }

  static uint64_t pixel(const plan::Tensor& tensor) {
    const auto& shape = *tensor.shape();
    const int64_t elements = shape.size() == 0 ? 1 : shape.Get(shape.size() - 1);
    return static_cast<uint64_t>(elements) * dtype_size(static_cast<DType>(tensor.dtype()));
  }

  static uint64_t extent(const plan::Tensor& tensor) {
    const uint64_t bytes = tensor_bytes(tensor);
    if (tensor.pixel_stride() == 0) return bytes;
    return (bytes / pixel(tensor) - 1) * tensor.pixel_stride() + pixel(tensor);
  }

  bool fail_overwrite(uint32_t op) const {
    return fail("op '" + name(op) + "' overwrites a tensor that is still to be read");
  }

  // Makes the memory of an op's output live.
  bool begin_output(uint32_t op) {
    const uint32_t index = ops_[op].write;
    const uint32_t memory = whole(index);
    const plan::Tensor& tensor = *tensors_[memory];
    if (tensor.place() != plan::Place_Arena || alive_[memory]) return true;
    const plan::Tensor& input = *tensors_[ops_[op].reads[0]];
    const bool shared = plan_.ops()->Get(op)->params_type() == plan::OpParams_Reshape &&
                        input.place() == plan::Place_Arena && input.offset() == tensor.offset();
    if (!live_.add(tensor.offset(), tensor.offset() + tensor_bytes(tensor), shared)) {
      return fail_overwrite(op);
    }
    alive_[memory] = true;
    return true;
  }

  const plan::Plan& plan_;
  const flatbuffers::Vector<flatbuffers::Offset<plan::Tensor>>& tensors_;
  const std::vector<OpTensors>& ops_;
  const std::map<uint32_t, uint32_t>& chain_end_;
  std::string* const error_;
  LiveRanges live_;
  std::vector<bool> written_;
  // Of whole tensors: the last op that reads or writes them or a part.
  std::vector<uint32_t> last_use_;
  std::vector<bool> alive_;
};

}  // namespace

bool check_flow(const plan::Plan& plan, const std::vector<OpTensors>& tensors,
                const std::map<uint32_t, uint32_t>& chain_end, std::string* error) {
  return FlowChecker(plan, tensors, chain_end, error).check();
}

}  // namespace edgekit
