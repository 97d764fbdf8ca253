#include "runner/frame.h"

#include <algorithm>
#include <cstring>

#include "isa/isa.h"
#include "json/json_writer.h"

namespace edgekit::runner {
namespace {

constexpr uint8_t kMagic[4] = {'E', 'K', 'S', 'V'};
constexpr uint8_t kVersion = 1;
// In hexadecimal.
constexpr size_t kDigestSize = 64;

uint32_t read_u32(const uint8_t* bytes) {
  return bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
}

void write_tensors(const char* key, const std::vector<TensorInfo>& tensors, JsonWriter* json) {
  json->key(key).begin_array();
  for (const TensorInfo& tensor : tensors) {
    json->begin_object();
    json->key("name").text(tensor.name);
    json->key("dtype").text(dtype_name(tensor.dtype));
    json->key("shape").begin_array();
    for (size_t axis = 0; axis < tensor.shape.rank; ++axis) {
      json->number(static_cast<uint64_t>(tensor.shape.dims[axis]));
    }
    json->end_array();
    if (tensor.dtype == DType::kCode) {
      json->key("scale").number(tensor.scale);
      json->key("zero_point").number(int64_t{tensor.zero_point});
    }
    json->end_object();
  }
  json->end_array();
}

}  // namespace

void write_u32(uint32_t value, uint8_t* bytes) {
  for (size_t i = 0; i < 4; ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
}

void write_frame_header(const FrameHeader& header, uint8_t* bytes) {
  std::memcpy(bytes, kMagic, sizeof kMagic);
  bytes[4] = kVersion;
  bytes[5] = static_cast<uint8_t>(header.kind);
  bytes[6] = static_cast<uint8_t>(header.size);
  bytes[7] = static_cast<uint8_t>(header.size >> 8);
  write_u32(header.request, bytes + 8);
  write_u32(header.length, bytes + 12);
}

bool read_frame_header(const uint8_t* bytes, FrameHeader* header) {
  if (std::memcmp(bytes, kMagic, sizeof kMagic) != 0 || bytes[4] != kVersion) return false;
  header->kind = static_cast<FrameKind>(bytes[5]);
  header->size = static_cast<uint16_t>(bytes[6] | bytes[7] << 8);
  header->request = read_u32(bytes + 8);
  header->length = read_u32(bytes + 12);
  return true;
}

size_t payload_size(const std::vector<TensorInfo>& tensors) {
  size_t size = 0;
  for (const TensorInfo& tensor : tensors) size = align_in_frame(size + tensor.size);
  return size;
}

HelloPrefix read_hello_prefix(const uint8_t* bytes) {
  return {std::string(bytes, bytes + kDigestSize), read_u32(bytes + kDigestSize),
          read_u32(bytes + kDigestSize + 4)};
}

std::vector<uint8_t> make_hello(const Plan& plan, const HelloPrefix& prefix,
                                const std::vector<uint8_t>& others) {
  JsonWriter json;
  json.begin_object();
  json.key("version").text(EDGEKIT_VERSION);
  json.key("isa").text(isa_info(plan.isa()).name);
  json.key("target").text(plan.target());
  json.key("sizes").begin_array();
  for (size_t i = 0; i < plan.size_count(); ++i) {
    const Plan& size = plan.size(i);
    json.begin_object();
    write_tensors("inputs", size.inputs(), &json);
    write_tensors("outputs", size.outputs(), &json);
    json.end_object();
  }
  json.end_array();
  json.key("states").begin_object();
  for (size_t i = 0; i < plan.inputs().size(); ++i) {
    const int output = plan.state_outputs()[i];
    if (output >= 0) {
      json.key(plan.inputs()[i].name).text(plan.outputs()[static_cast<size_t>(output)].name);
    }
  }
  json.end_object();
  json.end_object();
  const std::string text = json.finish();
  std::vector<uint8_t> frame(kFrameHeaderSize + kHelloPrefix + text.size() + others.size());
  FrameHeader header = {FrameKind::kHello, 0, 0, static_cast<uint32_t>(kHelloPrefix + text.size())};
  FrameHeader next;
  if (!others.empty() && read_frame_header(others.data(), &next)) {
    header.size = static_cast<uint16_t>(next.size + 1);
  }
  write_frame_header(header, frame.data());
  uint8_t* const bytes = frame.data() + kFrameHeaderSize;
  std::memcpy(bytes, prefix.digest.data(), kDigestSize);
  write_u32(prefix.request_size, bytes + kDigestSize);
  write_u32(prefix.result_size, bytes + kDigestSize + 4);
  std::copy(others.begin(), others.end(),
            std::copy(text.begin(), text.end(), bytes + kHelloPrefix));
  return frame;
}

}  // namespace edgekit::runner
