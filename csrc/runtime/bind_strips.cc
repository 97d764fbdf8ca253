#include "runtime/bind_strips.h"

#include <utility>

#include "runtime/bind_op.h"
#include "runtime/op_tensors.h"

namespace edgekit {
namespace {

template <typename Table>
Window read_window(const Table& op) {
  return {op.kernel_h(),   op.kernel_w(), op.stride_h(), op.stride_w(),   op.dilation_h(),
          op.dilation_w(), op.pad_top(),  op.pad_left(), op.pad_bottom(), op.pad_right()};
}

/// How an op reads the rows of its input; check_graph() lets no others into strips.
Window find_window(const plan::Op& op) {
  switch (op.params_type()) {
    case plan::OpParams_Conv:
      return read_window(*op.params_as_Conv());
    case plan::OpParams_DepthwiseConv:
      return read_window(*op.params_as_DepthwiseConv());
    case plan::OpParams_FloatConv:
      return read_window(*op.params_as_FloatConv());
    case plan::OpParams_FloatDepthwiseConv:
      return read_window(*op.params_as_FloatDepthwiseConv());
    default:
      return Window();
  }
}

/// Makes the ops of one thread, whose tensors in between have addresses of its own.
std::unique_ptr<Strips::Chain> bind_chain(const std::vector<const plan::Op*>& ops,
                                          std::vector<TensorView> tensors, const uint8_t* constants,
                                          PlanTarget target, std::string* error) {
  auto chain = std::make_unique<Strips::Chain>();
  chain->inner.resize(ops.size() - 1);
  for (size_t i = 0; i + 1 < ops.size(); ++i) {
    tensors[op_tensors(*ops[i]).write].data = &chain->inner[i];
  }
  target.in_rows = true;
  for (const plan::Op* op : ops) {
    chain->ops.push_back(bind_op(*op, tensors, constants, target, error));
    if (chain->ops.back() == nullptr) return nullptr;
  }
  return chain;
}

}  // namespace

std::unique_ptr<Strips> bind_strips(const plan::Plan& graph, const plan::Strips& strips,
                                    const std::vector<TensorView>& tensors,
                                    const uint8_t* constants, const PlanTarget& target,
                                    size_t threads, std::string* error) {
  std::vector<const plan::Op*> ops;
  std::vector<Strips::Member> members;
  for (uint32_t i = 0; i < strips.op_count(); ++i) {
    ops.push_back(graph.ops()->Get(strips.first_op() + i));
    const OpTensors own = op_tensors(*ops.back());
    const TensorView& output = tensors[own.write];
    members.push_back({find_window(*ops.back()), tensors[own.reads[0]].shape.dims[1], output.shape,
                       output.dtype});
  }
  std::vector<std::unique_ptr<Strips::Chain>> chains;
  for (size_t thread = 0; thread < threads; ++thread) {
    chains.push_back(bind_chain(ops, tensors, constants, target, error));
    if (chains.back() == nullptr) return nullptr;
  }
  std::string reason;
  std::unique_ptr<Strips> op = Strips::make(members, strips.rows(), std::move(chains), &reason);
  if (op == nullptr) {
    *error = "the plan is invalid: op '" + ops[0]->name()->str() + "': " + reason;
  }
  return op;
}

}  // namespace edgekit
