#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "isa/isa.h"
#include "peak.h"
#include "sampler.h"

// What the benchmarks of kernel lists share: kernels by a part of their name, memory aligned as in
// a session, and peaks that take their turns among the kernels.

namespace edgekit::benchmark {

/// The alignment of arenas and of a plan's constants.
constexpr size_t kAlignment = 64;

/// Returns the first aligned element of bytes that hold kAlignment more than are needed.
template <class T>
T* aligned(std::vector<T>& bytes) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(bytes.data());
  return bytes.data() + (kAlignment - address % kAlignment) % kAlignment;
}

/// Returns the kernels of a list that run here and whose names hold one of the parts; all but the
/// generic ones for no parts.
template <class Kernel>
std::vector<const Kernel*> find_kernels(const Kernel* (*list)(size_t* count),
                                        const std::vector<const char*>& parts) {
  std::vector<const Kernel*> found;
  size_t count;
  const Kernel* table = list(&count);
  for (size_t i = 0; i < count; ++i) {
    bool wanted = parts.empty() && table[i].isa != Isa::kGeneric;
    for (const char* part : parts) wanted |= std::strstr(table[i].name, part) != nullptr;
    if (wanted && table[i].run != nullptr && isa_supported(table[i].isa)) {
      found.push_back(&table[i]);
    }
  }
  return found;
}

/// The peaks of the instruction sets in a contest, each once.
class TimedPeaks {
 public:
  /// Takes the peak of `isa` into the turns, if there is one.
  void add(Isa isa) {
    const Peak* peak = find_peak(isa);
    bool known = peak == nullptr;
    for (const Timed& timed : timed_) known |= timed.peak == peak;
    if (!known) timed_.push_back({peak, Sampler(peak->run)});
  }

  void sample() {
    for (Timed& timed : timed_) timed.sampler.sample(timed.peak->run);
  }

  /// Prints what share of its instruction set's peak `gops` is; nothing where there is no peak.
  void print_share(Isa isa, double gops) const {
    const Peak* peak = find_peak(isa);
    for (const Timed& timed : timed_) {
      if (timed.peak != peak) continue;
      const double most = peak->operations / timed.sampler.median() * 1e-9;
      std::printf("  %5.1f %% of %.0f (%s)", 100 * gops / most, most, peak->instructions);
    }
  }

 private:
  struct Timed {
    const Peak* peak;
    Sampler sampler;
  };

  std::vector<Timed> timed_;
};

}  // namespace edgekit::benchmark
