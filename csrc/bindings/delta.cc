#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <tuple>
#include <vector>

#include "bindings/bind.h"
#include "bindings/errors.h"
#include "delta/make_recipe.h"
#include "trust/sha256.h"

namespace py = pybind11;

namespace edgekit::bindings {
namespace {

using ChunkTuple = std::tuple<uint64_t, uint32_t, py::bytes>;

// A recipe, its base and its result in memory.
class MemoryStreams : public RecipeStreams {
 public:
  MemoryStreams(std::string_view recipe, std::string_view base) : recipe_(recipe), base_(base) {}

  size_t read_recipe(char* data, size_t size) override {
    const size_t count = std::min(size, recipe_.size());
    std::memcpy(data, recipe_.data(), count);
    recipe_.remove_prefix(count);
    return count;
  }
  bool read_base(uint64_t offset, char* data, size_t size) override {
    std::memcpy(data, base_.data() + offset, size);
    return true;
  }
  bool write(const char* data, size_t size) override {
    result_.append(data, size);
    return true;
  }

  const std::string& result() const { return result_; }

 private:
  std::string_view recipe_;
  std::string_view base_;
  std::string result_;
};

BaseFacts describe_base(std::string_view base) {
  BaseFacts facts;
  facts.size = base.size();
  Sha256 hash;
  hash.update(base.data(), base.size());
  hash.finish(facts.sha256);
  return facts;
}

}  // namespace

void bind_delta(py::module_& module) {
  module.def(
      "cut_chunks",
      [](const py::bytes& data) {
        const std::string_view view = data;
        std::vector<Chunk> chunks;
        Chunker chunker;
        chunker.add(view.data(), view.size(), &chunks);
        chunker.finish(&chunks);
        std::vector<ChunkTuple> rows;
        for (const Chunk& chunk : chunks) {
          rows.emplace_back(
              chunk.offset, chunk.size,
              py::bytes(reinterpret_cast<const char*>(chunk.digest), sizeof chunk.digest));
        }
        return rows;
      },
      py::arg("data"));
  module.def(
      "make_recipe",
      [](const py::bytes& base, const py::bytes& result) {
        std::string recipe;
        {
          const std::string_view from = base, to = result;
          const py::gil_scoped_release release;
          recipe = make_recipe(from, to);
        }
        return py::bytes(recipe);
      },
      py::arg("base"), py::arg("result"));
  module.def(
      "make_recipe_of_chunks",
      [](uint64_t base_size, const py::bytes& base_sha256, const std::vector<ChunkTuple>& rows,
         const py::bytes& result) {
        BaseFacts base;
        base.size = base_size;
        const std::string_view digest = base_sha256;
        if (digest.size() != sizeof base.sha256) throw EdgekitError("a SHA-256 has 32 bytes");
        std::memcpy(base.sha256, digest.data(), sizeof base.sha256);
        std::vector<Chunk> chunks;
        for (const auto& [offset, size, bytes] : rows) {
          const std::string_view view = bytes;
          Chunk chunk;
          chunk.offset = offset;
          chunk.size = size;
          if (view.size() != sizeof chunk.digest) {
            throw EdgekitError("a chunk's digest has 16 bytes");
          }
          if (offset > base_size || size > base_size - offset) {
            throw EdgekitError("a chunk lies outside of its file");
          }
          std::memcpy(chunk.digest, view.data(), sizeof chunk.digest);
          chunks.push_back(chunk);
        }
        return py::bytes(make_recipe(base, chunks, result));
      },
      py::arg("base_size"), py::arg("base_sha256"), py::arg("chunks"), py::arg("result"));
  module.def(
      "follow_recipe",
      [](const py::bytes& recipe, const py::bytes& base, uint64_t size) {
        const std::string_view from = base;
        MemoryStreams streams(recipe, from);
        std::string error;
        if (!follow_recipe(&streams, describe_base(from), size, &error)) throw PlanError(error);
        return py::bytes(streams.result());
      },
      py::arg("recipe"), py::arg("base"), py::arg("size"));
}

}  // namespace edgekit::bindings
