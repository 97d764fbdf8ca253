#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "conv_problem.h"
#include "kernels/depthwise/depthwise.h"
#include "kernels/gemm/gemm.h"
#include "runtime/plan.h"
#include "runtime/session.h"
#include "test.h"
#include "tiny_plan.h"

namespace edgekit::test {
namespace {

/// Returns the bytes of a tensor of codes.
size_t bytes(const plan::TensorT& tensor) {
  size_t size = 1;
  for (const int64_t dim : tensor.shape) size *= static_cast<size_t>(dim);
  return size;
}

/// Makes the arena as large as its tensors need.
void fit_arena(plan::PlanT& graph) {
  graph.arena_size = 0;
  for (const auto& tensor : graph.tensors) {
    if (tensor->place != plan::Place_Arena) continue;
    const auto offset = static_cast<size_t>(tensor->offset);
    graph.arena_size = std::max<uint64_t>(graph.arena_size, align_up(offset + bytes(*tensor)));
  }
}

/// Images of which some hang over the strips' ends, through a random chain of convolutions, and
/// back to float32. The chain's output is summed with its input where they have one shape.
class ChainPlan {
 public:
  ChainPlan(Random& random, Isa isa, bool reaching = true)
      : random_(random), isa_(isa), reaching_(reaching) {
    const IsaInfo& info = isa_info(isa);
    storage_ = info.storage;
    graph_.isa = info.name;
    graph_.storage = storage_ == Storage::kU8 ? plan::Storage_U8 : plan::Storage_S8;
    graph_.target = "host";
    graph_.source_digest = "00";
    graph_.producer = "test";
    const int64_t images = random.integer(1, 2);
    const std::vector<int64_t> first = {images, random.integer(1, 24), random.integer(1, 9),
                                        random.integer(1, 5)};
    add_tensor("x", plan::DType_Float32, plan::Place_Input,
               {first[0], first[3], first[1], first[2]});
    add_tensor("codes", plan::DType_Code, plan::Place_Arena, first);
    graph_.tensors[1]->channels_last = true;
    plan::QuantizeT quantize;
    quantize.input = 0;
    quantize.output = 1;
    add_op("quantize", quantize);
    const size_t length = random.size(2, 4);
    for (size_t i = 0; i < length; ++i) add_convolution(i + 1 == length);
    const uint32_t last = static_cast<uint32_t>(graph_.tensors.size()) - 1;
    const std::vector<int64_t> shape = graph_.tensors[last]->shape;
    add_tensor("y", plan::DType_Float32, plan::Place_Output, shape);
    plan::DequantizeT dequantize;
    dequantize.input = last;
    dequantize.output = last + 1;
    add_op("dequantize", dequantize);
    graph_.inputs = {0};
    graph_.outputs = {last + 1};
    strips_.first_op = 1;
    strips_.op_count = static_cast<uint32_t>(length);
    strips_.rows = static_cast<uint32_t>(random.integer(1, shape[1] + 1));
  }

  /// Returns the plan with its chain in strips or not. `change` may tell lies.
  template <class Change>
  std::vector<uint8_t> pack(bool in_strips, Change change) const {
    plan::PlanT graph = graph_;
    graph.strips.clear();
    if (in_strips) {
      graph.strips.push_back(std::make_unique<plan::StripsT>(strips_));
      for (uint32_t i = 0; i + 1 < strips_.op_count; ++i) {
        graph.tensors[2 + i]->place = plan::Place_Strips;
      }
    }
    size_t end = 0;
    for (auto& tensor : graph.tensors) {
      if (tensor->place != plan::Place_Arena) continue;
      tensor->offset = end;
      end = align_up(end + bytes(*tensor));
    }
    fit_arena(graph);
    change(graph);
    return pack_plan(graph, constants_);
  }

  std::vector<uint8_t> pack(bool in_strips) const {
    return pack(in_strips, [](plan::PlanT&) {});
  }

  std::string describe() const {
    std::string text = graph_.isa + " rows " + std::to_string(strips_.rows);
    for (const auto& tensor : graph_.tensors) {
      text += " [";
      for (const int64_t dim : tensor->shape) text += std::to_string(dim) + " ";
      text += "]";
    }
    return text;
  }

 private:
  void add_convolution(bool last) {
    const auto input = static_cast<uint32_t>(graph_.tensors.size()) - 1;
    const std::vector<int64_t> in = graph_.tensors[input]->shape;
    const bool depthwise = random_.one_in(2);
    Window window;
    if (depthwise || random_.one_in(2)) {
      window = pick_fitting_window(static_cast<size_t>(in[1]), static_cast<size_t>(in[2]));
    }
    const int64_t channels = depthwise ? in[3] : random_.integer(1, random_.one_in(3) ? 70 : 12);
    const auto out = [](int64_t size, uint32_t pads, uint32_t kernel, uint32_t dilation,
                        uint32_t stride) {
      return (size + pads - (int64_t{kernel - 1} * dilation + 1)) / stride + 1;
    };
    const std::vector<int64_t> shape = {in[0],
                                        out(in[1], window.pad_top + window.pad_bottom,
                                            window.kernel_h, window.dilation_h, window.stride_h),
                                        out(in[2], window.pad_left + window.pad_right,
                                            window.kernel_w, window.dilation_w, window.stride_w),
                                        channels};
    add_tensor("tensor" + std::to_string(input), plan::DType_Code, plan::Place_Arena, shape);
    std::unique_ptr<plan::ResidualT> residual;
    if (last && shape == graph_.tensors[1]->shape) {
      residual = std::make_unique<plan::ResidualT>();
      residual->tensor = 1;
      residual->scale = 0.03F;
      residual->lo = -128;
      residual->hi = 127;
    }
    const std::string name = "op" + std::to_string(input);
    if (depthwise) {
      plan::DepthwiseConvT conv;
      const auto count = static_cast<size_t>(channels);
      const DepthwiseKernel& kernel =
          select_depthwise(isa_, storage_, count, window.kernel_h, window.kernel_w, window.stride_w,
                           window.dilation_w);
      const std::vector<int8_t> weights = draw_weights(count * window.kernel_h * window.kernel_w);
      std::vector<int8_t> packed(
          packed_depthwise_size(kernel, count, window.kernel_h, window.kernel_w));
      pack_depthwise(kernel, weights.data(), count, window.kernel_h, window.kernel_w,
                     packed.data());
      fill(input, channels, kernel.name, packed, window, std::move(residual), &conv);
      add_op(name, conv);
    } else {
      plan::ConvT conv;
      const auto n = static_cast<size_t>(channels);
      const auto k = static_cast<size_t>(in[3]);
      const size_t taps = size_t{window.kernel_h} * window.kernel_w;
      const GemmKernel& kernel = select_gemm(isa_, storage_, 1000, n, k, taps, true);
      const std::vector<int8_t> weights = draw_weights(n * taps * k);
      std::vector<int8_t> packed(packed_gemm_size(kernel, n, k, taps));
      pack_gemm(kernel, weights.data(), n, k, taps, packed.data());
      fill(input, channels, kernel.name, packed, window, std::move(residual), &conv);
      add_op(name, conv);
    }
  }

  /// Draws a window that fits an image of that size, and reaches all of its rows.
  Window pick_fitting_window(size_t height, size_t width) {
    for (;;) {
      size_t in_h = 0;
      size_t in_w = 0;
      const Window window = pick_window(random_, &in_h, &in_w);
      const bool fits =
          (window.kernel_h - 1) * window.dilation_h < height + window.pad_top + window.pad_bottom &&
          (window.kernel_w - 1) * window.dilation_w < width + window.pad_left + window.pad_right;
      const size_t extent = (window.kernel_h - 1) * window.dilation_h + 1;
      const size_t padded = height + window.pad_top + window.pad_bottom;
      const bool reaches_end = (padded - extent) % window.stride_h <= window.pad_bottom;
      if (fits && (!reaching_ || (window.stride_h <= extent && reaches_end))) return window;
    }
  }

  std::vector<int8_t> draw_weights(size_t count) {
    std::vector<int8_t> weights(count);
    for (int8_t& w : weights) w = static_cast<int8_t>(random_.integer(-60, 60));
    return weights;
  }

  template <class Table>
  void fill(uint32_t input, int64_t channels, const char* kernel, const std::vector<int8_t>& packed,
            const Window& window, std::unique_ptr<plan::ResidualT> residual, Table* conv) {
    conv->input = input;
    conv->output = input + 1;
    conv->kernel = kernel;
    conv->weights = add_blob(packed.data(), packed.size());
    std::vector<int32_t> bias(static_cast<size_t>(channels));
    for (int32_t& value : bias) value = static_cast<int32_t>(random_.integer(-3000, 3000));
    const std::vector<float> multiplier(bias.size(), 0.01F);
    conv->bias = add_blob(bias.data(), bias.size() * sizeof(int32_t));
    conv->multiplier = add_blob(multiplier.data(), multiplier.size() * sizeof(float));
    conv->kernel_h = window.kernel_h;
    conv->kernel_w = window.kernel_w;
    conv->stride_h = window.stride_h;
    conv->stride_w = window.stride_w;
    conv->dilation_h = window.dilation_h;
    conv->dilation_w = window.dilation_w;
    conv->pad_top = window.pad_top;
    conv->pad_left = window.pad_left;
    conv->pad_bottom = window.pad_bottom;
    conv->pad_right = window.pad_right;
    conv->residual = std::move(residual);
  }

  void add_tensor(const std::string& name, plan::DType dtype, plan::Place place,
                  const std::vector<int64_t>& shape) {
    auto tensor = std::make_unique<plan::TensorT>();
    tensor->name = name;
    tensor->dtype = dtype;
    tensor->place = place;
    tensor->shape = shape;
    tensor->scale = 0.02F;
    tensor->zero_point = static_cast<int32_t>(random_.integer(-128, 127));
    graph_.tensors.push_back(std::move(tensor));
  }

  template <typename Params>
  void add_op(const std::string& name, const Params& params) {
    auto op = std::make_unique<plan::OpT>();
    op->name = name;
    op->params.Set(Params(params));
    graph_.ops.push_back(std::move(op));
  }

  std::unique_ptr<plan::Blob> add_blob(const void* data, size_t size) {
    const size_t offset = align_up(constants_.size());
    constants_.resize(offset + size);
    std::memcpy(constants_.data() + offset, data, size);
    return std::make_unique<plan::Blob>(offset, size);
  }

  Random& random_;
  Isa isa_;
  /// Whether windows reach all rows of what they read.
  bool reaching_;
  Storage storage_ = Storage::kS8;
  plan::PlanT graph_;
  plan::StripsT strips_;
  std::vector<uint8_t> constants_;
};

/// What one session makes of a plan.
struct Answer {
  std::string refusal;
  std::vector<float> output;
  std::vector<std::string> digests;
};

Answer ask(const std::vector<uint8_t>& file, size_t threads) {
  Answer answer;
  const auto plan = Plan::from_memory(file.data(), file.size(), &answer.refusal);
  if (plan == nullptr) return answer;
  Failure failure;
  const auto session = Session::create(plan, {threads, std::vector<uint32_t>(threads)}, &failure);
  answer.refusal = failure.message;
  if (session == nullptr) return answer;
  std::vector<float> x(plan->inputs()[0].size / sizeof(float));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 37 % 251) / 50 - 2.5F;
  answer.output.resize(plan->outputs()[0].size / sizeof(float));
  const void* inputs[] = {x.data()};
  void* outputs[] = {answer.output.data()};
  // What the first run has left must not matter.
  for (int i = 0; i < 2; ++i) session->run(inputs, outputs, 1);
  std::string error;
  EDGEKIT_CHECK(session->digests(inputs, &answer.digests, &error), error);
  std::vector<double> seconds;
  EDGEKIT_CHECK(session->profile(inputs, 1, &seconds, &error), error);
  EDGEKIT_CHECK(seconds.size() == plan->ops().size(), "a time for each op");
  return answer;
}

EDGEKIT_TEST(chains_give_the_same_bytes_in_strips) {
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    const Isa isa = table[i].isa;
    if (!can_run(table[i].name, isa, isa_built(isa))) continue;
    Random random(seed());
    for (int j = 0; j < 150; ++j) {
      const ChainPlan chain(random, isa);
      const Answer whole = ask(chain.pack(false), 1);
      EDGEKIT_CHECK(whole.refusal.empty(), chain.describe() + ": " + whole.refusal);
      for (const size_t threads : {1u, 2u, 3u}) {
        const Answer strips = ask(chain.pack(true), threads);
        const std::string what = chain.describe() + " threads " + std::to_string(threads);
        EDGEKIT_CHECK(strips.refusal.empty(), what + ": " + strips.refusal);
        EDGEKIT_CHECK(strips.output == whole.output, what + ": output");
        EDGEKIT_CHECK(strips.digests == whole.digests, what + ": digests");
        count_case(isa);
      }
    }
  }
}

EDGEKIT_TEST(lies_about_strips_are_refused) {
  struct Lie {
    const char* message;
    void (*tell)(plan::PlanT&);
  };
  const Lie lies[] = {
      {"not runs of ops", [](plan::PlanT& g) { g.strips[0]->rows = 0; }},
      {"not runs of ops", [](plan::PlanT& g) { g.strips[0]->op_count = 1; }},
      {"not runs of ops", [](plan::PlanT& g) { g.strips[0]->op_count = 4000000000; }},
      {"not runs of ops", [](plan::PlanT& g) { g.strips[0]->first_op = 4000000000; }},
      {"not runs of ops",
       [](plan::PlanT& g) { g.strips.push_back(std::make_unique<plan::StripsT>(*g.strips[0])); }},
      {"can't run in these strips", [](plan::PlanT& g) { g.strips[0]->first_op = 0; }},
      {"can't run in these strips", [](plan::PlanT& g) { ++g.strips[0]->op_count; }},
      {"in strips that don't make it", [](plan::PlanT& g) { g.strips.clear(); }},
      {"in strips that don't make it", [](plan::PlanT& g) { --g.strips[0]->op_count; }},
      {"in strips that don't make it", [](plan::PlanT& g) { g.tensors[2]->offset = 64; }},
      {"in strips that don't make it",
       [](plan::PlanT& g) {
         g.tensors[2]->place = plan::Place_Arena;
         g.tensors[2]->offset = align_up(static_cast<size_t>(g.arena_size));
         fit_arena(g);
       }},
      {"reads a tensor that is in the strips of others",
       [](plan::PlanT& g) { g.ops.back()->params.AsDequantize()->input = 2; }},
      {"overwrites a tensor that is still to be read",
       [](plan::PlanT& g) {
         g.tensors[1]->offset = g.tensors[g.tensors.size() - 2]->offset;
         fit_arena(g);
       }},
      {"can't run in these strips", [](plan::PlanT& g) { g.tensors[2]->shape = {64}; }},
  };
  Random random(seed());
  for (int i = 0; i < 30; ++i) {
    // Of three ops at least, so that a chain that is cut short is still one.
    const ChainPlan chain(random, Isa::kGeneric);
    const Answer truth = ask(chain.pack(true), 1);
    EDGEKIT_CHECK(truth.refusal.empty(), truth.refusal);
    if (truth.digests.size() < 5) continue;
    for (const Lie& lie : lies) {
      const Answer answer = ask(chain.pack(true, lie.tell), 1);
      EDGEKIT_CHECK(answer.refusal.find(lie.message) != std::string::npos,
                    std::string("expected '") + lie.message + "', got '" + answer.refusal + "'");
    }
  }
}

EDGEKIT_TEST(chains_that_leave_rows_out_are_refused) {
  Random random(seed());
  size_t refused = 0;
  for (int i = 0; i < 100; ++i) {
    const ChainPlan chain(random, Isa::kGeneric, false);
    const Answer answer = ask(chain.pack(true), 1);
    if (answer.refusal.find("leaves rows of its input out") != std::string::npos) {
      ++refused;
      continue;
    }
    EDGEKIT_CHECK(answer.refusal.empty(), answer.refusal);
    EDGEKIT_CHECK(answer.digests == ask(chain.pack(false), 1).digests, chain.describe());
  }
  EDGEKIT_CHECK(refused > 0 && refused < 100, std::to_string(refused) + " refused");
}

EDGEKIT_TEST(forged_strips_are_refused_or_stay_in_their_memory) {
  Random random(seed());
  size_t ran = 0;
  size_t refused = 0;
  for (int i = 0; i < 40; ++i) {
    const ChainPlan chain(random, Isa::kGeneric);
    const std::vector<uint8_t> file = chain.pack(true);
    const size_t graph_end = 64 + file[32] + 256 * size_t{file[33]} + 65536 * size_t{file[34]};
    for (int j = 0; j < 60; ++j) {
      std::vector<uint8_t> forged = file;
      const size_t at = random.size(64, graph_end - 1);
      forged[at] = random.one_in(2) ? static_cast<uint8_t>(random.next())
                                    : random.pick<uint8_t>({0, 1, 2, 3, 4, 64, 128, 255});
      repair(&forged);
      const bool accepted = ask(forged, 2).refusal.empty();
      ran += accepted;
      refused += !accepted;
    }
  }
  EDGEKIT_CHECK(ran > 0 && refused > 0, std::to_string(ran) + " ran");
}

}  // namespace
}  // namespace edgekit::test
