#include "runtime/check_graph.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string_view>
#include <vector>

#include "isa/isa.h"
#include "ops/tensor.h"
#include "runtime/aligned_bytes.h"
#include "runtime/check_flow.h"
#include "runtime/op_tensors.h"
#include "runtime/thread_pool.h"

namespace edgekit {
namespace {

// Far above any memory, so that sums of a few sizes can't overflow.
constexpr uint64_t kMaxBytes = uint64_t{1} << (sizeof(size_t) == 4 ? 30u : 46u);

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const size_t length = lead < 0x80   ? 1
                          : lead < 0xC2 ? 0
                          : lead < 0xE0 ? 2
                          : lead < 0xF0 ? 3
                          : lead < 0xF5 ? 4
                                        : 0;
    if (length == 0 || length > text.size() - i) return false;
    uint32_t code = length == 1 ? lead : lead & (0x7Fu >> length);
    for (size_t j = 1; j < length; ++j) {
      const auto next = static_cast<uint8_t>(text[i + j]);
      if ((next & 0xC0) != 0x80) return false;
      code = code << 6 | (next & 0x3Fu);
    }
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    if (overlong || surrogate || code > 0x10FFFF) return false;
    i += length;
  }
  return true;
}

bool is_text(const flatbuffers::String& text) {
  const std::string_view view(text.c_str(), text.size());
  return is_utf8(view) && view.find('\0') == std::string_view::npos;
}

bool is_name(const flatbuffers::String& text) { return text.size() > 0 && is_text(text); }

bool is_code(int64_t value) { return value >= -128 && value <= 127; }

// FlatBuffers' verifier looks at where a vector's length lies, not its elements.
bool is_aligned(const flatbuffers::Vector<int64_t>& vector) {
  return reinterpret_cast<uintptr_t>(vector.Data()) % alignof(int64_t) == 0;
}

class GraphChecker {
 public:
  GraphChecker(const plan::Plan& plan, size_t constants_size, std::string* error)
      : plan_(plan), constants_size_(constants_size), error_(error) {}

  bool check() {
    return check_texts() && check_tensors() &&
           check_list("input", plan::Place_Input, *plan_.inputs()) &&
           check_list("output", plan::Place_Output, *plan_.outputs()) && check_ops() &&
           check_strips() && check_cores() && check_flow(plan_, tensors_, chain_end_, error_);
  }

 private:
  bool fail(const std::string& what) const {
    *error_ = "the plan is invalid: " + what;
    return false;
  }

  bool check_texts() const {
    for (const auto* text :
         {plan_.isa(), plan_.target(), plan_.source_digest(), plan_.producer()}) {
      if (!is_name(*text))
        return fail("one of isa, target, source_digest and producer is not a name");
    }
    if (plan_.metadata() != nullptr) {
      for (const auto* entry : *plan_.metadata()) {
        if (!is_name(*entry->key()) || !is_text(*entry->value()))
          return fail("metadata is not text");
      }
    }
    Isa isa;
    if (!parse_isa(plan_.isa()->c_str(), &isa)) {
      return fail("it is for '" + plan_.isa()->str() +
                  "', an instruction set that this edgekit does not know");
    }
    const auto storage =
        isa_info(isa).storage == Storage::kU8 ? plan::Storage_U8 : plan::Storage_S8;
    if (plan_.storage() != storage) return fail("its storage is not that of " + plan_.isa()->str());
    return true;
  }

  bool check_tensors() const {
    if (plan_.arena_size() > kMaxBytes) return fail("its arena is larger than any memory");
    if (plan_.arena_lower_bound() > plan_.arena_size())
      return fail("its arena is below its lower bound");
    uint64_t end = 0;
    for (uint32_t i = 0; i < plan_.tensors()->size(); ++i) {
      const plan::Tensor& tensor = *plan_.tensors()->Get(i);
      if (!is_name(*tensor.name()))
        return fail("the name of tensor " + std::to_string(i) + " is not text");
      const auto wrong = [&](const char* what) {
        return fail("tensor '" + tensor.name()->str() + "' " + what);
      };
      if (tensor.dtype() > plan::DType_MAX) return wrong("has an unknown type");
      if (tensor.place() > plan::Place_MAX) return wrong("has an unknown place");
      if (!is_aligned(*tensor.shape())) return wrong("has a shape at an odd address");
      if (tensor.shape()->size() > kMaxRank) return wrong("has too many dimensions");
      uint64_t bytes = dtype_size(static_cast<DType>(tensor.dtype()));
      for (const int64_t dim : *tensor.shape()) {
        if (dim < 1 || static_cast<uint64_t>(dim) > kMaxBytes / bytes)
          return wrong("has an impossible shape");
        bytes *= static_cast<uint64_t>(dim);
      }
      if (tensor.dtype() == plan::DType_Code) {
        if (!std::isfinite(tensor.scale()) || !(tensor.scale() > 0))
          return wrong("has no positive scale");
        if (!is_code(tensor.zero_point())) return wrong("has a zero point outside int8");
      }
      if (tensor.place() == plan::Place_Constant &&
          (tensor.offset() % kAlignment != 0 || tensor.offset() > constants_size_ ||
           bytes > constants_size_ - tensor.offset())) {
        return wrong("does not lie inside the constants");
      }
      if (tensor.parent() != 0 || tensor.pixel_stride() != 0) {
        if (!check_part(tensor)) return wrong("does not lie inside a tensor of its type");
        continue;
      }
      if (tensor.place() == plan::Place_Arena &&
          (tensor.offset() % kAlignment != 0 || tensor.offset() > plan_.arena_size() ||
           bytes > plan_.arena_size() - tensor.offset())) {
        return wrong("does not lie inside the arena");
      }
      if (tensor.place() == plan::Place_Arena) end = std::max(end, tensor.offset() + bytes);
    }
    // A writer may count the bytes that kernels read behind the last tensor.
    if (plan_.arena_size() > align_up(static_cast<size_t>(end)) + kAlignment)
      return fail("its arena is larger than its tensors need");
    return true;
  }

  // A tensor in another one's memory, whose own place may not have been checked yet.
  bool check_part(const plan::Tensor& tensor) const {
    if (tensor.parent() == 0 || tensor.parent() > plan_.tensors()->size()) return false;
    const plan::Tensor& parent = *plan_.tensors()->Get(tensor.parent() - 1);
    if (parent.parent() != 0 || parent.place() != plan::Place_Arena ||
        tensor.place() != plan::Place_Arena || parent.dtype() != tensor.dtype() ||
        tensor.shape()->size() == 0) {
      return false;
    }
    const uint64_t element = dtype_size(static_cast<DType>(tensor.dtype()));
    uint64_t room = element;
    for (const int64_t dim : *parent.shape()) {
      if (dim < 1 || static_cast<uint64_t>(dim) > kMaxBytes / room) return false;
      room *= static_cast<uint64_t>(dim);
    }
    const uint64_t pixel =
        element * static_cast<uint64_t>(tensor.shape()->Get(tensor.shape()->size() - 1));
    const uint64_t pixels = tensor_bytes(tensor) / pixel;
    const uint64_t stride = tensor.pixel_stride() != 0 ? tensor.pixel_stride() : pixel;
    if (tensor.offset() < parent.offset() || tensor.offset() - parent.offset() > room) return false;
    room -= tensor.offset() - parent.offset();
    return stride >= pixel && stride <= kMaxBytes && stride % element == 0 &&
           tensor.offset() % element == 0 && pixel <= room &&
           (pixels - 1) <= (room - pixel) / stride;
  }

  // Inputs or outputs: each place is named once, in order.
  bool check_list(const char* kind, plan::Place place,
                  const flatbuffers::Vector<uint32_t>& list) const {
    size_t placed = 0;
    for (const auto* tensor : *plan_.tensors()) placed += tensor->place() == place;
    if (placed != list.size())
      return fail(std::string("its list of ") + kind + "s is not complete");
    std::set<std::string_view> names;
    for (uint32_t i = 0; i < list.size(); ++i) {
      if (list[i] >= plan_.tensors()->size())
        return fail(std::string("an ") + kind + " is not a tensor");
      const plan::Tensor& tensor = *plan_.tensors()->Get(list[i]);
      if (tensor.place() != place || tensor.offset() != i ||
          !names.insert(tensor.name()->string_view()).second) {
        return fail(std::string("its list of ") + kind + "s is not in order");
      }
    }
    return true;
  }

  bool check_blobs(const std::string& op, std::initializer_list<const plan::Blob*> blobs) const {
    for (const plan::Blob* blob : blobs) {
      if (blob == nullptr) return fail("op '" + op + "' lacks constants");
      if (blob->offset() % kAlignment != 0 || blob->offset() > constants_size_ ||
          blob->size() > constants_size_ - blob->offset()) {
        return fail("op '" + op + "' has constants outside the file");
      }
    }
    return true;
  }

  bool check_range(const std::string& op, int32_t lo, int32_t hi) const {
    return (is_code(lo) && is_code(hi) && lo <= hi) || fail("op '" + op + "' clamps outside int8");
  }

  template <typename Params>
  bool check_residual(const std::string& op, const Params& params) const {
    const plan::Residual* residual = params.residual();
    if (residual == nullptr) return true;
    if (!std::isfinite(residual->scale()) || !(residual->scale() > 0) ||
        !is_code(residual->zero_point())) {
      return fail("op '" + op + "' adds without a scale");
    }
    return check_range(op, residual->lo(), residual->hi());
  }

  template <typename Params>
  bool check_table(const std::string& op, const Params& params) const {
    const plan::FusedTable* table = params.table();
    if (table == nullptr) return true;
    if (!std::isfinite(table->scale()) || !(table->scale() > 0) || !is_code(table->zero_point())) {
      return fail("op '" + op + "' has a table without a scale");
    }
    return check_blobs(op, {table->codes()});
  }

  template <typename Params>
  bool check_fused(const std::string& op, const Params& params) const {
    const plan::FusedRequantize* fused = params.fused();
    return fused == nullptr || check_blobs(op, {fused->start(), fused->slope(), fused->shift()});
  }

  template <typename Params>
  bool check_weighted(const std::string& op, const Params& params) const {
    return is_name(*params.kernel())
               ? check_blobs(op, {params.weights(), params.bias(), params.multiplier()}) &&
                     check_range(op, params.lo(), params.hi())
               : fail("op '" + op + "' names no kernel");
  }

  template <typename Params>
  bool check_float_layer(const std::string& op, const Params& params) const {
    if (!is_name(*params.kernel())) return fail("op '" + op + "' names no kernel");
    if (params.residual() < -1) return fail("op '" + op + "' adds what is not a tensor");
    return check_blobs(op, {params.weights(), params.bias()});
  }

  bool check_params(const plan::Op& op, const std::string& name) const {
    switch (op.params_type()) {
      case plan::OpParams_Conv:
        return check_weighted(name, *op.params_as_Conv()) &&
               check_residual(name, *op.params_as_Conv()) &&
               check_table(name, *op.params_as_Conv()) && check_fused(name, *op.params_as_Conv());
      case plan::OpParams_FullyConnected:
        return check_weighted(name, *op.params_as_FullyConnected()) &&
               check_table(name, *op.params_as_FullyConnected()) &&
               check_fused(name, *op.params_as_FullyConnected());
      case plan::OpParams_DepthwiseConv:
        return check_weighted(name, *op.params_as_DepthwiseConv()) &&
               check_residual(name, *op.params_as_DepthwiseConv()) &&
               check_table(name, *op.params_as_DepthwiseConv());
      case plan::OpParams_Binary: {
        const plan::Binary& binary = *op.params_as_Binary();
        if (binary.kind() > plan::BinaryKind_MAX)
          return fail("op '" + name + "' is of an unknown kind");
        return check_range(name, binary.lo(), binary.hi()) && check_table(name, binary);
      }
      case plan::OpParams_Pool: {
        const plan::Pool& pool = *op.params_as_Pool();
        if (pool.kind() > plan::PoolKind_MAX)
          return fail("op '" + name + "' is of an unknown kind");
        return check_range(name, pool.lo(), pool.hi());
      }
      case plan::OpParams_GlobalMean:
        return check_range(name, op.params_as_GlobalMean()->lo(), op.params_as_GlobalMean()->hi());
      case plan::OpParams_Requantize:
        return check_range(name, op.params_as_Requantize()->lo(), op.params_as_Requantize()->hi());
      case plan::OpParams_QuantizeParts:
        return check_range(name, op.params_as_QuantizeParts()->lo(),
                           op.params_as_QuantizeParts()->hi());
      case plan::OpParams_Lookup:
        return check_blobs(name, {op.params_as_Lookup()->table()});
      case plan::OpParams_Softmax:
        return check_blobs(name, {op.params_as_Softmax()->table()});
      case plan::OpParams_Pad:
        return is_code(op.params_as_Pad()->value()) || fail("op '" + name + "' pads with no code");
      case plan::OpParams_Quantize:
      case plan::OpParams_Dequantize:
      case plan::OpParams_Concat:
      case plan::OpParams_Reshape:
      case plan::OpParams_Transpose:
        return true;
      case plan::OpParams_Slice:
        return (is_aligned(*op.params_as_Slice()->begin()) &&
                is_aligned(*op.params_as_Slice()->step())) ||
               fail("op '" + name + "' has numbers at an odd address");
      case plan::OpParams_FloatConv:
        return check_float_layer(name, *op.params_as_FloatConv());
      case plan::OpParams_FloatDepthwiseConv:
        return check_float_layer(name, *op.params_as_FloatDepthwiseConv());
      case plan::OpParams_FloatFullyConnected:
        return check_float_layer(name, *op.params_as_FloatFullyConnected());
      case plan::OpParams_FloatMatMul:
        return is_name(*op.params_as_FloatMatMul()->kernel()) ||
               fail("op '" + name + "' names no kernel");
      case plan::OpParams_FloatUnary:
        return op.params_as_FloatUnary()->function() <= plan::FloatFunction_MAX ||
               fail("op '" + name + "' is of an unknown kind");
      case plan::OpParams_FloatBinary:
        return op.params_as_FloatBinary()->op() <= plan::FloatOperator_MAX ||
               fail("op '" + name + "' is of an unknown kind");
      case plan::OpParams_FloatPool:
        return op.params_as_FloatPool()->kind() <= plan::PoolKind_MAX ||
               fail("op '" + name + "' is of an unknown kind");
      case plan::OpParams_FloatReduce:
        return op.params_as_FloatReduce()->reduction() <= plan::FloatReduction_MAX ||
               fail("op '" + name + "' is of an unknown kind");
      case plan::OpParams_FloatSoftmax:
        return true;
      case plan::OpParams_FloatLayerNorm: {
        const plan::FloatLayerNorm& norm = *op.params_as_FloatLayerNorm();
        return check_blobs(name, {norm.scale(), norm.bias()});
      }
      case plan::OpParams_FloatResize: {
        const plan::FloatResize& resize = *op.params_as_FloatResize();
        return check_blobs(
            name, {resize.rows(), resize.columns(), resize.row_weights(), resize.column_weights()});
      }
      case plan::OpParams_Resize:
        return check_range(name, op.params_as_Resize()->lo(), op.params_as_Resize()->hi());
      case plan::OpParams_ConvTranspose:
        return check_weighted(name, *op.params_as_ConvTranspose()) &&
               check_table(name, *op.params_as_ConvTranspose());
      case plan::OpParams_FloatConvTranspose: {
        const plan::FloatConvTranspose& layer = *op.params_as_FloatConvTranspose();
        if (!is_name(*layer.kernel())) return fail("op '" + name + "' names no kernel");
        return check_blobs(name, {layer.weights(), layer.bias()});
      }
      case plan::OpParams_DynamicFullyConnected: {
        const plan::DynamicFullyConnected& product = *op.params_as_DynamicFullyConnected();
        if (!is_name(*product.kernel())) return fail("op '" + name + "' names no kernel");
        return check_blobs(
            name, {product.weights(), product.correction(), product.multiplier(), product.bias()});
      }
      case plan::OpParams_WideConv: {
        const plan::WideConv& layer = *op.params_as_WideConv();
        if (!is_name(*layer.kernel())) return fail("op '" + name + "' names no kernel");
        return check_blobs(name, {layer.weights(), layer.sums(), layer.bias(), layer.multiplier()});
      }
      case plan::OpParams_WideDepthwiseConv: {
        const plan::WideDepthwiseConv& layer = *op.params_as_WideDepthwiseConv();
        return check_blobs(name, {layer.weights(), layer.bias(), layer.multiplier()});
      }
      case plan::OpParams_Expand:
      case plan::OpParams_Gather:
      case plan::OpParams_Cast:
      case plan::OpParams_Where:
        return true;
      case plan::OpParams_Compare:
        return op.params_as_Compare()->comparison() <= plan::Comparison_MAX ||
               fail("op '" + name + "' is of an unknown kind");
      case plan::OpParams_IntegerBinary:
        return op.params_as_IntegerBinary()->op() <= plan::IntegerOperator_MAX ||
               fail("op '" + name + "' is of an unknown kind");
      case plan::OpParams_ArgExtreme:
        return op.params_as_ArgExtreme()->extreme() <= plan::Extreme_MAX ||
               fail("op '" + name + "' is of an unknown kind");
      case plan::OpParams_MatMul: {
        const plan::MatMul& product = *op.params_as_MatMul();
        if (!is_name(*product.kernel())) return fail("op '" + name + "' names no kernel");
        return check_range(name, product.lo(), product.hi()) && check_table(name, product);
      }
      case plan::OpParams_GroupFullyConnected: {
        const plan::GroupFullyConnected& product = *op.params_as_GroupFullyConnected();
        if (!is_name(*product.kernel())) return fail("op '" + name + "' names no kernel");
        return check_blobs(name, {product.weights(), product.correction(), product.multiplier(),
                                  product.bias()}) &&
               check_range(name, product.lo(), product.hi()) && check_table(name, product);
      }
      case plan::OpParams_Int4FullyConnected:
        return check_float_layer(name, *op.params_as_Int4FullyConnected()) &&
               check_blobs(name, {op.params_as_Int4FullyConnected()->scales()});
      case plan::OpParams_NONE:
        break;
    }
    return fail("op '" + name + "' is of a kind that this edgekit does not know");
  }

  // Kernels read codes up to 64 bytes past the end, which only the arena promises, and in the
  // plan's storage, which callers do not know.
  bool has_callers_codes(const OpTensors& op) const {
    const auto is_callers = [this](uint32_t index) {
      const plan::Tensor& tensor = *plan_.tensors()->Get(index);
      return tensor.dtype() == plan::DType_Code &&
             (tensor.place() == plan::Place_Input || tensor.place() == plan::Place_Output);
    };
    return is_callers(op.write) || std::any_of(op.reads.begin(), op.reads.end(), is_callers);
  }

  bool check_ops() {
    for (const plan::Op* op : *plan_.ops()) {
      if (!is_name(*op->name())) return fail("the name of an op is not text");
      const std::string name = op->name()->str();
      if (!check_params(*op, name)) return false;
      tensors_.push_back(op_tensors(*op));
      for (const uint32_t index : tensors_.back().reads) {
        if (index >= plan_.tensors()->size())
          return fail("op '" + name + "' reads what is not a tensor");
      }
      if (tensors_.back().write >= plan_.tensors()->size()) {
        return fail("op '" + name + "' writes what is not a tensor");
      }
      if (op->params_type() != plan::OpParams_Reshape && has_callers_codes(tensors_.back())) {
        return fail("op '" + name + "' takes the caller's codes, which only a reshape may");
      }
    }
    return true;
  }

  bool check_strips() {
    std::vector<bool> inner(plan_.tensors()->size());
    uint32_t end = 0;
    if (plan_.strips() != nullptr) {
      for (const plan::Strips* strips : *plan_.strips()) {
        if (strips->rows() == 0 || strips->op_count() < 2 || strips->first_op() < end ||
            strips->first_op() > tensors_.size() ||
            strips->op_count() > tensors_.size() - strips->first_op()) {
          return fail("its strips are not runs of ops in order");
        }
        end = strips->first_op() + strips->op_count();
        for (uint32_t i = strips->first_op(); i < end; ++i) {
          if (!check_in_strips(i, i == strips->first_op(), i + 1 == end, &inner)) return false;
        }
        chain_end_[strips->first_op()] = end;
      }
    }
    for (uint32_t i = 0; i < inner.size(); ++i) {
      const plan::Tensor& tensor = *plan_.tensors()->Get(i);
      if ((tensor.place() == plan::Place_Strips) != inner[i] || (inner[i] && tensor.offset() != 0))
        return fail("tensor '" + tensor.name()->str() + "' is in strips that don't make it");
    }
    for (uint32_t i = 0; i < tensors_.size(); ++i) {
      for (size_t j = 0; j < tensors_[i].reads.size(); ++j) {
        if (!inner[tensors_[i].reads[j]]) continue;
        if (j != 0 || i == 0 || tensors_[i - 1].write != tensors_[i].reads[j]) {
          return fail("op '" + plan_.ops()->Get(i)->name()->str() +
                      "' reads a tensor that is in the strips of others");
        }
      }
    }
    return true;
  }

  bool check_cores() const {
    if (plan_.cores() == nullptr) return true;
    if (plan_.cores()->size() > ThreadPool::kMaxThreads)
      return fail("it pins threads to too many cores");
    for (const uint32_t core : *plan_.cores()) {
      if (core >= CPU_SETSIZE)
        return fail("it pins a thread to core " + std::to_string(core) + ", which can't be");
    }
    return true;
  }

  // One op of a chain in strips. Marks its output as inner unless it is the chain's.
  bool check_in_strips(uint32_t index, bool first, bool last, std::vector<bool>* inner) const {
    const plan::Op& op = *plan_.ops()->Get(index);
    const auto kind = op.params_type();
    const bool known = kind == plan::OpParams_Conv || kind == plan::OpParams_DepthwiseConv ||
                       kind == plan::OpParams_FloatConv ||
                       kind == plan::OpParams_FloatDepthwiseConv ||
                       kind == plan::OpParams_QuantizeParts;
    const auto rank = [&](uint32_t tensor) {
      return plan_.tensors()->Get(tensor)->shape()->size();
    };
    const OpTensors& own = tensors_[index];
    if (!known || rank(own.reads[0]) != 4 || rank(own.write) != 4 ||
        (!first && tensors_[index - 1].write != own.reads[0])) {
      return fail("op '" + op.name()->str() + "' can't run in these strips");
    }
    if (!last) (*inner)[own.write] = true;
    return true;
  }

  const plan::Plan& plan_;
  const size_t constants_size_;
  std::string* const error_;
  std::vector<OpTensors> tensors_;
  // The op behind each chain in strips, by its first op.
  std::map<uint32_t, uint32_t> chain_end_;
};

}  // namespace

const plan::Plan* check_graph(const uint8_t* graph, size_t graph_size, size_t constants_size,
                              std::string* error) {
  if (graph_size >= FLATBUFFERS_MAX_BUFFER_SIZE) {
    *error = "the plan's graph is too large";
    return nullptr;
  }
  flatbuffers::Verifier verifier(graph, graph_size);
  if (!plan::VerifyPlanBuffer(verifier)) {
    *error = "the plan's graph is damaged";
    return nullptr;
  }
  const plan::Plan* root = plan::GetPlan(graph);
  if (!GraphChecker(*root, constants_size, error).check()) return nullptr;
  if (root->sizes() == nullptr) return root;
  for (const plan::Plan* size : *root->sizes()) {
    if (size->sizes() != nullptr) {
      *error = "the plan is invalid: a size of it has sizes of its own";
      return nullptr;
    }
    if (!GraphChecker(*size, constants_size, error).check()) return nullptr;
  }
  return root;
}

size_t tensor_bytes(const plan::Tensor& tensor) {
  size_t bytes = dtype_size(static_cast<DType>(tensor.dtype()));
  for (const int64_t dim : *tensor.shape()) bytes *= static_cast<size_t>(dim);
  return bytes;
}

}  // namespace edgekit
