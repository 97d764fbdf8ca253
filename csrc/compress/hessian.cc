#include "compress/hessian.h"

#include <algorithm>

namespace edgekit::compress {
namespace {

// Panels are gathered together until they have so many tiles, so that threads seldom wait.
constexpr size_t kTogether = 512;

size_t count_panels(size_t tiles) { return std::max<size_t>(1, kTogether / tiles); }

}  // namespace

Hessian::Hessian(size_t groups, size_t depth, Isa isa, Crew& crew)
    : groups_(groups),
      depth_(depth),
      tiles_(count_tiles(depth)),
      update_(select_update(isa)),
      crew_(crew),
      sums_(groups * tiles_ * tiles_ * kTile * kTile),
      panels_((groups == 1 ? count_panels(tiles_) : crew.size()) * tiles_ * kPatches * kTile) {}

template <typename T>
void Hessian::add(const Window& window, const T* image, const Grid& grid, const uint32_t* positions,
                  size_t count) {
  const size_t panel_size = tiles_ * kPatches * kTile;
  if (groups_ > 1) {
    crew_.run(groups_, [&](size_t group, size_t thread) {
      double* panel = panels_.data() + thread * panel_size;
      for (size_t first = 0; first < count; first += kPatches) {
        const size_t rows = std::min(kPatches, count - first);
        for (size_t tile = 0; tile < tiles_; ++tile) {
          gather_tile(window, image, grid, group, positions + first, rows, tile,
                      panel + tile * kPatches * kTile);
        }
        for (size_t tile = 0; tile < tiles_; ++tile) update_row(group, panel, tile);
      }
    });
    return;
  }
  const size_t most = panels_.size() / panel_size * kPatches;
  for (size_t begin = 0; begin < count; begin += most) {
    const size_t here = std::min(most, count - begin);
    const size_t panels = (here + kPatches - 1) / kPatches;
    crew_.run(panels * tiles_, [&](size_t unit, size_t) {
      const size_t panel = unit / tiles_, tile = unit % tiles_;
      gather_tile(window, image, grid, 0, positions + begin + panel * kPatches,
                  std::min(kPatches, here - panel * kPatches), tile,
                  panels_.data() + panel * panel_size + tile * kPatches * kTile);
    });
    // The longest rows first, so that none is left over at the end.
    crew_.run(tiles_, [&](size_t unit, size_t) {
      for (size_t panel = 0; panel < panels; ++panel) {
        update_row(0, panels_.data() + panel * panel_size, tiles_ - 1 - unit);
      }
    });
  }
}

void Hessian::update_row(size_t group, const double* panel, size_t tile) {
  const size_t step = tiles_ * kTile;
  UpdateArgs args;
  args.c = sums_.data() + group * step * step + tile * kTile * step;
  args.c_step = step;
  args.x = panel + tile * kPatches * kTile;
  args.y = panel;
  args.y_step = kPatches * kTile;
  args.tiles = tile + 1;
  args.depth = kPatches;
  update_(args);
}

void Hessian::copy_to(size_t group, double* matrix) const {
  const size_t step = tiles_ * kTile;
  const double* sums = sums_.data() + group * step * step;
  for (size_t i = 0; i < depth_; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      matrix[i * depth_ + j] = matrix[j * depth_ + i] = sums[i * step + j];
    }
  }
}

template void Hessian::add<float>(const Window&, const float*, const Grid&, const uint32_t*,
                                  size_t);
template void Hessian::add<int8_t>(const Window&, const int8_t*, const Grid&, const uint32_t*,
                                   size_t);

}  // namespace edgekit::compress
