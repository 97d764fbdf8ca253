#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "plan_generated.h"
#include "random.h"
#include "runtime/aligned_bytes.h"
#include "runtime/crc32c.h"
#include "runtime/plan_file.h"

namespace edgekit::test {

/// Writes `value` little-endian.
template <typename T>
void put(std::vector<uint8_t>* file, size_t offset, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) (*file)[offset + i] = static_cast<uint8_t>(value >> 8 * i);
}

/// Makes the checksum right again.
inline void repair(std::vector<uint8_t>* file) {
  put<uint32_t>(file, 12, crc32c(file->data() + 16, file->size() - 16));
}

/// Puts header and constants around a graph.
inline std::vector<uint8_t> pack_plan(const plan::PlanT& graph,
                                      const std::vector<uint8_t>& constants) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(plan::Plan::Pack(builder, &graph), plan::PlanIdentifier());
  const size_t graph_size = builder.GetSize();
  const size_t constants_offset = align_up(64 + graph_size);
  std::vector<uint8_t> file(constants_offset + constants.size());
  std::memcpy(file.data(), "EDGEKIT\n", 8);
  put<uint32_t>(&file, 8, PlanFile::kFormatVersion);
  put<uint64_t>(&file, 16, file.size());
  put<uint64_t>(&file, 24, 64);
  put<uint64_t>(&file, 32, graph_size);
  put<uint64_t>(&file, 40, constants_offset);
  put<uint64_t>(&file, 48, constants.size());
  std::memcpy(file.data() + 64, builder.GetBufferPointer(), graph_size);
  std::copy(constants.begin(), constants.end(),
            file.begin() + static_cast<ptrdiff_t>(constants_offset));
  repair(&file);
  return file;
}

/// A network of most kinds of memory use: float32 [1, 2, 4, 4] to codes [1, 4, 4, 2], a 3x3
/// convolution to eight channels, a table in place, a sum with the convolution, a reshape that
/// leaves its bytes, and back to float32 [128].
struct TinyPlan {
  plan::PlanT graph;
  std::vector<uint8_t> constants;

  TinyPlan() {
    constexpr size_t kChannels = 8;
    graph.isa = "generic";
    graph.target = "host";
    graph.source_digest = "00";
    graph.producer = "test";
    add_tensor("x", plan::DType_Float32, plan::Place_Input, {1, 2, 4, 4}, 0);
    add_tensor("q", plan::DType_Code, plan::Place_Arena, {1, 4, 4, 2}, 0);
    add_tensor("conv", plan::DType_Code, plan::Place_Arena, {1, 4, 4, kChannels}, 64);
    add_tensor("table", plan::DType_Code, plan::Place_Arena, {1, 4, 4, kChannels}, 192);
    add_tensor("sum", plan::DType_Code, plan::Place_Arena, {1, 4, 4, kChannels}, 192);
    add_tensor("flat", plan::DType_Code, plan::Place_Arena, {128}, 192);
    add_tensor("y", plan::DType_Float32, plan::Place_Output, {128}, 0);
    graph.tensors[1]->channels_last = true;
    graph.arena_size = 320;
    graph.arena_lower_bound = 256;
    graph.inputs = {0};
    graph.outputs = {6};

    plan::QuantizeT quantize;
    quantize.input = 0;
    quantize.output = 1;
    add_op("quantize", quantize);

    plan::ConvT conv;
    conv.input = 1;
    conv.output = 2;
    const GemmKernel& kernel = select_gemm(Isa::kGeneric, Storage::kS8, 16, kChannels, 2, 9, true);
    conv.kernel = kernel.name;
    conv.kernel_h = conv.kernel_w = 3;
    conv.pad_top = conv.pad_left = conv.pad_bottom = conv.pad_right = 1;
    std::vector<int8_t> weights(kChannels * 9 * 2);
    Random random(1);
    for (int8_t& w : weights) w = static_cast<int8_t>(random.integer(-127, 127));
    std::vector<int8_t> packed(packed_gemm_size(kernel, kChannels, 2, 9));
    pack_gemm(kernel, weights.data(), kChannels, 2, 9, packed.data());
    conv.weights = add_blob(packed.data(), packed.size());
    const std::vector<int32_t> bias(kChannels, 100);
    const std::vector<float> multiplier(kChannels, 0.01F);
    conv.bias = add_blob(bias.data(), 4 * kChannels);
    conv.multiplier = add_blob(multiplier.data(), 4 * kChannels);
    add_op("conv", conv);

    plan::LookupT lookup;
    lookup.input = 2;
    lookup.output = 3;
    std::vector<int8_t> table(256);
    for (size_t i = 0; i < 256; ++i) table[i] = static_cast<int8_t>(127 - static_cast<int>(i));
    lookup.table = add_blob(table.data(), table.size());
    add_op("lookup", lookup);

    plan::BinaryT sum;
    sum.a = 3;
    sum.b = 2;
    sum.output = 4;
    add_op("sum", sum);

    plan::ReshapeT reshape;
    reshape.input = 4;
    reshape.output = 5;
    add_op("reshape", reshape);

    plan::DequantizeT dequantize;
    dequantize.input = 5;
    dequantize.output = 6;
    add_op("dequantize", dequantize);
  }

  std::vector<uint8_t> pack() const { return pack_plan(graph, constants); }

 private:
  void add_tensor(const char* name, plan::DType dtype, plan::Place place,
                  const std::vector<int64_t>& shape, uint64_t offset) {
    auto tensor = std::make_unique<plan::TensorT>();
    tensor->name = name;
    tensor->dtype = dtype;
    tensor->place = place;
    tensor->shape = shape;
    tensor->offset = offset;
    tensor->scale = 0.02F;
    graph.tensors.push_back(std::move(tensor));
  }

  template <typename Params>
  void add_op(const char* name, const Params& params) {
    auto op = std::make_unique<plan::OpT>();
    op->name = name;
    op->params.Set(Params(params));
    graph.ops.push_back(std::move(op));
  }

  std::unique_ptr<plan::Blob> add_blob(const void* data, size_t size) {
    const size_t offset = align_up(constants.size());
    constants.resize(offset + size);
    std::memcpy(constants.data() + offset, data, size);
    return std::make_unique<plan::Blob>(offset, size);
  }
};

}  // namespace edgekit::test
