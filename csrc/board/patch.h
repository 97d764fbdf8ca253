#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "board/descriptor.h"
#include "delta/chunks.h"
#include "delta/recipe.h"

namespace edgekit::board {

/// Makes the empty file `to` of the file `base` by the recipe that comes from a descriptor; `size`
/// is what the result must have. What is written is on the disk when this returns true; else `to`
/// may hold a part.
bool patch_file(const std::string& base, const Descriptor& to, uint64_t size,
                const Descriptor& recipe, std::string* error);

/// Cuts a file into chunks, for whoever makes a recipe without having it.
bool cut_file(const std::string& path, BaseFacts* facts, std::vector<Chunk>* chunks,
              std::string* error);

}  // namespace edgekit::board
