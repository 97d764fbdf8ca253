#include "board/manifest.h"

#include <algorithm>
#include <limits>
#include <set>

#include "json/json_reader.h"

namespace edgekit::board {
namespace {

constexpr uint64_t kSchema = 1;
constexpr size_t kLongestPath = 1024;
// Folders below the bundle's own.
constexpr size_t kMostParts = 16;
constexpr size_t kLongestPart = 255;

bool is_digest(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool fail(std::string* error, const std::string& what) {
  *error = std::string(kManifest) + ": " + what;
  return false;
}

bool read_files(const JsonValue& table, Manifest* manifest, std::string* error) {
  uint64_t left = std::numeric_limits<int64_t>::max();
  for (size_t i = 0; i < table.keys.size(); ++i) {
    BundleFile file;
    file.path = table.keys[i];
    if (!is_plain_path(file.path) || file.path == kManifest || file.path == kSignature) {
      return fail(error, "'" + file.path + "' is not a plain path inside the bundle");
    }
    const std::string* const digest = table.values[i].find_text("sha256");
    if (digest == nullptr || !is_digest(*digest) ||
        !table.values[i].find_count("size", &file.size) || file.size > left) {
      return fail(error, "'files." + file.path + "' must have 'sha256' and 'size'");
    }
    left -= file.size;
    file.sha256 = *digest;
    manifest->files.push_back(std::move(file));
  }
  // No path is a folder of another one.
  std::set<std::string_view> paths;
  for (const BundleFile& file : manifest->files) paths.insert(file.path);
  for (const BundleFile& file : manifest->files) {
    for (size_t at = file.path.find('/'); at != std::string::npos;
         at = file.path.find('/', at + 1)) {
      if (paths.count(std::string_view(file.path).substr(0, at)) != 0) {
        return fail(error, "'" + file.path + "' lies in a file");
      }
    }
  }
  const bool locked = manifest->find(kLockedPlan) != nullptr;
  if (locked && manifest->find(kPlan) != nullptr) {
    return fail(error, std::string(kPlan) + " beside " + kLockedPlan);
  }
  if (!locked && manifest->find(kPlan) == nullptr) return fail(error, std::string("no ") + kPlan);
  for (const char* const needed : {kRunner, kDigests}) {
    if (manifest->find(needed) == nullptr) return fail(error, std::string("no ") + needed);
  }
  return true;
}

bool read_golden(const JsonValue* golden, const char* kind, const Manifest& manifest,
                 std::vector<GoldenArray>* arrays, std::string* error) {
  const JsonValue* const rows = golden == nullptr ? nullptr : golden->find(kind);
  if (rows == nullptr || rows->kind != JsonValue::Kind::kArray || rows->values.empty()) {
    return fail(error, std::string("no 'golden.") + kind + "'");
  }
  for (const JsonValue& row : rows->values) {
    const std::string* const name = row.find_text("name");
    const std::string* const file = row.find_text("file");
    if (name == nullptr || file == nullptr || manifest.find(*file) == nullptr) {
      return fail(error, std::string("'golden.") + kind + "' names no file of the bundle");
    }
    arrays->push_back({*name, *file});
  }
  return true;
}

bool read_optional(const JsonValue& table, const char* key, uint64_t* value, std::string* error) {
  return table.find(key) == nullptr || table.find_count(key, value) ||
         fail(error, std::string("'") + key + "' is no count");
}

}  // namespace

const BundleFile* Manifest::find(std::string_view path) const {
  const auto place = std::find_if(files.begin(), files.end(),
                                  [path](const BundleFile& file) { return file.path == path; });
  return place == files.end() ? nullptr : &*place;
}

uint64_t Manifest::total() const {
  uint64_t sum = 0;
  for (const BundleFile& file : files) sum += file.size;
  return sum;
}

bool is_plain_path(std::string_view path) {
  if (path.size() > kLongestPath) return false;
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\') return false;
  }
  for (size_t part = 0; part < kMostParts; ++part) {
    const size_t end = std::min(path.find('/'), path.size());
    const std::string_view name = path.substr(0, end);
    if (name.empty() || name == "." || name == ".." || name.size() > kLongestPart) return false;
    if (end == path.size()) return true;
    path.remove_prefix(end + 1);
  }
  return false;
}

bool read_manifest(std::string_view text, Manifest* manifest, std::string* error) {
  *manifest = Manifest();
  JsonValue json;
  std::string problem;
  if (text.size() > kMostManifest) return fail(error, "too long");
  if (!read_json(text, &json, &problem)) return fail(error, problem);
  uint64_t schema;
  if (!json.find_count("schema", &schema) || schema != kSchema) {
    return fail(error, "its schema is not " + std::to_string(kSchema) +
                           ", which is what this program reads");
  }
  const JsonValue* const target = json.find("target");
  const std::string* const name = target == nullptr ? nullptr : target->find_text("name");
  if (name == nullptr) return fail(error, "no 'target.name'");
  manifest->target = *name;
  const JsonValue* const files = json.find("files");
  if (files == nullptr || files->kind != JsonValue::Kind::kObject) return fail(error, "no 'files'");
  const JsonValue* const golden = json.find("golden");
  if (!read_files(*files, manifest, error) ||
      !read_golden(golden, "inputs", *manifest, &manifest->inputs, error) ||
      !read_golden(golden, "outputs", *manifest, &manifest->outputs, error) ||
      !read_optional(json, "release", &manifest->release, error)) {
    return false;
  }
  const JsonValue* const limits = json.find("limits");
  return limits == nullptr ||
         (read_optional(*limits, "latency_us", &manifest->most_latency_us, error) &&
          read_optional(*limits, "memory_bytes", &manifest->most_memory, error));
}

}  // namespace edgekit::board
