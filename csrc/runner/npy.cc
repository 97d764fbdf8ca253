#include "runner/npy.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace edgekit::runner {
namespace {

constexpr char kMagic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

// The most bytes that one array may have: more than any board holds.
constexpr uint64_t kMaxBytes = uint64_t{1} << 40;

struct Type {
  const char* descr;
  DType dtype;
};

constexpr Type kTypes[] = {{"<f4", DType::kFloat32}, {"|i1", DType::kCode},  {"<i4", DType::kInt32},
                           {"<i8", DType::kInt64},   {"|u1", DType::kUInt8}, {"|b1", DType::kBool}};

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

/// Reads the Python dictionary of a header: the keys descr, fortran_order and shape.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  // Returns "" when the header was understood, otherwise what is wrong.
  std::string parse(DType* dtype, Shape* shape) {
    bool seen[3] = {};
    if (!take('{')) return "its header is not a dictionary";
    while (!take('}')) {
      std::string_view key;
      if (!take_string(&key) || !take(':')) return "its header is not a dictionary";
      std::string wrong;
      const size_t index = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : 3;
      if (index < 3 && std::exchange(seen[index], true)) return "its header has a key twice";
      if (key == "descr") {
        wrong = parse_type(dtype);
      } else if (key == "fortran_order") {
        if (!take_word("False")) wrong = "it is in Fortran order; save it in C order";
      } else if (key == "shape") {
        wrong = parse_shape(shape);
      } else {
        wrong = "its header has an unknown key";
      }
      if (!wrong.empty()) return wrong;
      if (!take(',') && !at('}')) return "its header is not a dictionary";
    }
    return seen[0] && seen[1] && seen[2] ? "" : "its header is not complete";
  }

 private:
  void skip_space() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n')) text_.remove_prefix(1);
  }

  bool at(char c) {
    skip_space();
    return !text_.empty() && text_[0] == c;
  }

  bool take(char c) {
    if (!at(c)) return false;
    text_.remove_prefix(1);
    return true;
  }

  bool take_word(std::string_view word) {
    skip_space();
    if (text_.substr(0, word.size()) != word) return false;
    text_.remove_prefix(word.size());
    return true;
  }

  bool take_string(std::string_view* value) {
    for (const char quote : {'\'', '"'}) {
      if (!take(quote)) continue;
      const size_t end = text_.find(quote);
      if (end == std::string_view::npos) return false;
      *value = text_.substr(0, end);
      text_.remove_prefix(end + 1);
      return true;
    }
    return false;
  }

  std::string parse_type(DType* dtype) {
    std::string_view descr;
    if (take_string(&descr)) {
      for (const Type& type : kTypes) {
        if (descr != type.descr) continue;
        *dtype = type.dtype;
        return "";
      }
    }
    return "its elements are '" + std::string(descr) +
           "'; known are float32, int8, int32, int64, uint8 and bool in little-endian";
  }

  std::string parse_shape(Shape* shape) {
    if (!take('(')) return "its shape is not a tuple";
    while (!take(')')) {
      uint64_t dim = 0;
      size_t digits = 0;
      for (skip_space(); !text_.empty() && text_[0] >= '0' && text_[0] <= '9'; ++digits) {
        dim = dim * 10 + static_cast<uint64_t>(text_[0] - '0');
        if (dim > kMaxBytes) return "its shape is too large";
        text_.remove_prefix(1);
      }
      if (digits == 0) return "its shape is not a tuple of numbers";
      if (shape->rank == kMaxRank) return "it has too many dimensions";
      shape->dims[shape->rank++] = static_cast<int64_t>(dim);
      if (!take(',') && !at(')')) return "its shape is not a tuple of numbers";
    }
    return "";
  }

  std::string_view text_;
};

// Reads the part before the elements; returns "" or what is wrong.
std::string read_header(FILE* file, Array* array) {
  uint8_t start[12];
  if (std::fread(start, 1, 10, file) != 10 || std::memcmp(start, kMagic, sizeof kMagic) != 0) {
    return "it is not a .npy file";
  }
  const unsigned version = start[6];
  if (version < 1 || version > 3) return "its .npy format is " + std::to_string(version);
  uint32_t length = start[8] | uint32_t{start[9]} << 8;
  if (version > 1) {
    if (std::fread(start + 10, 1, 2, file) != 2) return "it is truncated";
    length |= uint32_t{start[10]} << 16 | uint32_t{start[11]} << 24;
  }
  constexpr uint32_t kMaxHeader = 1 << 20;
  if (length > kMaxHeader) return "its header is too large";
  std::string text(length, '\0');
  if (std::fread(text.data(), 1, length, file) != length) return "it is truncated";
  return HeaderParser(text).parse(&array->dtype, &array->shape);
}

}  // namespace

bool read_npy(const char* path, Array* array, std::string* error) {
  const auto fail = [&](const std::string& what) {
    *error = std::string(path) + ": " + what;
    return false;
  };
  const File file(std::fopen(path, "rb"));
  if (file == nullptr) return fail(std::strerror(errno));
  if (const std::string wrong = read_header(file.get(), array); !wrong.empty()) return fail(wrong);
  uint64_t size = dtype_size(array->dtype);
  for (size_t i = 0; i < array->shape.rank; ++i) {
    const auto dim = static_cast<uint64_t>(array->shape.dims[i]);
    if (dim != 0 && size > kMaxBytes / dim) return fail("its shape is too large");
    size *= dim;
  }
  // The file's own length comes before an allocation of that size.
  const long begin = std::ftell(file.get());
  if (begin < 0 || std::fseek(file.get(), 0, SEEK_END) != 0) return fail("it can't be read");
  const long end = std::ftell(file.get());
  if (end < begin || static_cast<uint64_t>(end - begin) != size) {
    return fail("it should hold " + std::to_string(size) + " bytes of elements and holds " +
                std::to_string(end - begin));
  }
  array->size = static_cast<size_t>(size);
  array->data = make_aligned_bytes(array->size);
  if (array->data == nullptr) return fail("no memory for it");
  if (std::fseek(file.get(), begin, SEEK_SET) != 0 ||
      std::fread(array->data.get(), 1, array->size, file.get()) != array->size) {
    return fail("it can't be read");
  }
  return true;
}

bool write_npy(const char* path, DType dtype, const Shape& shape, const void* data, size_t size,
               std::string* error) {
  std::string descr;
  for (const Type& type : kTypes) {
    if (type.dtype == dtype) descr = type.descr;
  }
  std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (";
  for (size_t i = 0; i < shape.rank; ++i) {
    header += std::to_string(shape.dims[i]) + (i + 1 < shape.rank ? ", " : "");
  }
  header += shape.rank == 1 ? ",), }" : "), }";
  constexpr size_t kPrefix = 10;
  constexpr size_t kAlign = 64;
  header.append(kAlign - 1 - (kPrefix + header.size()) % kAlign, ' ');
  header += '\n';
  std::string start(kMagic, sizeof kMagic);
  start += {'\x01', '\x00', static_cast<char>(header.size() & 0xFF),
            static_cast<char>(header.size() >> 8)};
  FILE* const file = std::fopen(path, "wb");
  bool written = file != nullptr;
  if (written) {
    written = std::fwrite(start.data(), 1, start.size(), file) == start.size() &&
              std::fwrite(header.data(), 1, header.size(), file) == header.size() &&
              std::fwrite(data, 1, size, file) == size;
    written = std::fclose(file) == 0 && written;
  }
  if (!written) *error = std::string(path) + ": cannot be written: " + std::strerror(errno);
  return written;
}

}  // namespace edgekit::runner
