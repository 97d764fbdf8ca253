#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "delta/chunks.h"
#include "delta/recipe.h"

namespace edgekit {

/// Returns a recipe that makes `result` of `base`, both as whole files in memory.
std::string make_recipe(std::string_view base, std::string_view result);

/// Returns a recipe that makes `result` of a base of which only the chunks are known, as a device
/// tells them: ranges that it has are copied, the others are new.
std::string make_recipe(const BaseFacts& base, const std::vector<Chunk>& chunks,
                        std::string_view result);

}  // namespace edgekit
