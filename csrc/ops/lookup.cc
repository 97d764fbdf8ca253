#include "ops/lookup.h"

#include "kernels/elementwise/elementwise.h"
#include "ops/blocks.h"
#include "ops/check.h"

namespace edgekit {
namespace {

class Lookup : public Op {
 public:
  Lookup(const TensorView& input, const TensorView& output, const CodeTable& table,
         const PlanTarget& target)
      : size_(element_count(input.shape)),
        input_(input.data),
        output_(output.data),
        table_(table),
        kernel_(select_kernel<LookupArgs>(target.isa, target.storage).run) {}

  size_t units() const override { return block_count(size_); }
  size_t cost() const override { return size_; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    const size_t first = begin * kBlockSize;
    LookupArgs args;
    args.size = block_end(end, size_) - first;
    args.x = *input_ + first;
    args.y = *output_ + first;
    args.table = table_.bytes;
    kernel_(args);
  }

 private:
  size_t size_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  CodeTable table_;
  void (*kernel_)(const LookupArgs&);
};

}  // namespace

std::unique_ptr<Op> make_table_lookup(const TensorView& input, const TensorView& output,
                                      const CodeTable& table, const PlanTarget& target,
                                      std::string* error) {
  if (!check_codes(input, error) || !check_codes(output, error)) return nullptr;
  if (!same_shape(input.shape, output.shape)) {
    fail(error,
         {"input ", describe(input), " and output ", describe(output), " have different shapes"});
    return nullptr;
  }
  if (!check_disjoint_or_same(input, output, error)) return nullptr;
  return std::make_unique<Lookup>(input, output, table, target);
}

std::unique_ptr<Op> make_lookup(const LookupParams& params, const PlanTarget& target,
                                std::string* error) {
  if (!check_blob(params.table, 256, 1, "the table", error)) return nullptr;
  const CodeTable table =
      stored_table(reinterpret_cast<const int8_t*>(params.table.data), target.storage);
  return make_table_lookup(params.input, params.output, table, target, error);
}

}  // namespace edgekit
