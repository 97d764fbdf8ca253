#include "isa/isa.h"

#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <string>

#include "test.h"

namespace edgekit {
namespace {

/// Sets EDGEKIT_ISA (nullptr: unsets it) and puts the old value back at the end.
class ForcedIsa {
 public:
  explicit ForcedIsa(const char* name) {
    const char* old = std::getenv("EDGEKIT_ISA");
    was_set_ = old != nullptr;
    if (was_set_) old_ = old;
    set(name);
  }
  ~ForcedIsa() { set(was_set_ ? old_.c_str() : nullptr); }
  ForcedIsa(const ForcedIsa&) = delete;
  ForcedIsa& operator=(const ForcedIsa&) = delete;

 private:
  static void set(const char* name) {
    if (name == nullptr) {
      unsetenv("EDGEKIT_ISA");
    } else {
      setenv("EDGEKIT_ISA", name, 1);
    }
  }

  bool was_set_ = false;
  std::string old_;
};

EDGEKIT_TEST(names_parse_to_themselves) {
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    Isa isa = Isa::kGeneric;
    EDGEKIT_CHECK(parse_isa(table[i].name, &isa) && isa == table[i].isa, table[i].name);
    EDGEKIT_CHECK(&isa_info(table[i].isa) == &table[i], table[i].name);
  }
  Isa isa = Isa::kX86Avx2;
  EDGEKIT_CHECK(!parse_isa("x86_avx9", &isa) && isa == Isa::kX86Avx2,
                "unknown names change nothing");
}

EDGEKIT_TEST(a_set_contains_its_ancestors) {
  EDGEKIT_CHECK(isa_contains(Isa::kX86Avx512Vnni, Isa::kX86Avx2), "parent");
  EDGEKIT_CHECK(isa_contains(Isa::kX86Amx, Isa::kX86Avx512Vnni), "AMX comes with AVX512-VNNI");
  EDGEKIT_CHECK(isa_contains(Isa::kArmNeonDot, Isa::kGeneric), "root");
  EDGEKIT_CHECK(isa_contains(Isa::kArmI8mm, Isa::kArmNeonDot), "i8mm comes with dot products");
  EDGEKIT_CHECK(!isa_contains(Isa::kX86Avx512Vnni, Isa::kX86AvxVnni),
                "Cascade Lake lacks AVX-VNNI");
  EDGEKIT_CHECK(!isa_contains(Isa::kX86Avx2, Isa::kX86Avx512Vnni), "child");
  EDGEKIT_CHECK(!isa_contains(Isa::kX86Avx512Vnni, Isa::kArmNeon), "other family");
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    const bool parent_supported = isa_supported(table[i].parent);
    EDGEKIT_CHECK(!isa_supported(table[i].isa) || parent_supported, table[i].name);
  }
}

#if defined(__x86_64__) || defined(__aarch64__)
/// Returns the words of the first line of /proc/cpuinfo that starts with `key`, with a space at
/// each end; empty where there is none.
std::string cpu_words(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind(key, 0) == 0) return line.substr(line.find(':') + 1) + " ";
  }
  return "";
}

/// Another source than CPUID and the auxiliary vector: a set that the probe overlooks would be
/// skipped by every test in silence.
EDGEKIT_TEST(the_probe_agrees_with_the_operating_system) {
  const auto agrees = [](Isa isa, const std::string& words,
                         std::initializer_list<const char*> needed) {
    bool expected = true;
    for (const char* word : needed) {
      expected &= words.find(std::string(" ") + word + " ") != std::string::npos;
    }
    EDGEKIT_CHECK(isa_supported(isa) == expected,
                  std::string(isa_info(isa).name) + " from" + words);
  };
#if defined(__x86_64__)
  const std::string words = cpu_words("flags");
  if (words.empty()) return;
  agrees(Isa::kX86Avx2, words, {"avx2"});
  agrees(Isa::kX86AvxVnni, words, {"avx2", "avx_vnni"});
  agrees(Isa::kX86Avx512Vnni, words,
         {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"});
  agrees(Isa::kX86Amx, words, {"avx512_vnni", "amx_tile", "amx_int8"});
#elif defined(__aarch64__)
  const std::string words = cpu_words("Features");
  if (words.empty()) return;
  agrees(Isa::kArmNeon, words, {"asimd"});
  agrees(Isa::kArmNeonDot, words, {"asimddp"});
  agrees(Isa::kArmI8mm, words, {"asimddp", "i8mm"});
#endif
}
#endif

EDGEKIT_TEST(the_best_set_runs_here) {
  const ForcedIsa forced(nullptr);
  const char* error = nullptr;
  const Isa best = best_isa(&error);
  EDGEKIT_CHECK(error == nullptr, error);
  EDGEKIT_CHECK(isa_built(best) && isa_supported(best), isa_info(best).name);
  for (const Isa stronger :
       {Isa::kX86Amx, Isa::kX86Avx512Vnni, Isa::kX86AvxVnni, Isa::kArmI8mm, Isa::kArmNeonDot}) {
    if (!isa_built(stronger) || !isa_supported(stronger)) continue;
    EDGEKIT_CHECK(best == stronger, isa_info(best).name);
    break;
  }
}

EDGEKIT_TEST(the_environment_forces_a_set) {
  const char* error = nullptr;
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    const ForcedIsa forced(table[i].name);
    const bool usable = isa_built(table[i].isa) && isa_supported(table[i].isa);
    const Isa best = best_isa(&error);
    EDGEKIT_CHECK(best == (usable ? table[i].isa : Isa::kGeneric), table[i].name);
    EDGEKIT_CHECK((error == nullptr) == usable, table[i].name);
  }
  const ForcedIsa forced("x86_avx9");
  EDGEKIT_CHECK(best_isa(&error) == Isa::kGeneric && error != nullptr, "unknown");
}

}  // namespace
}  // namespace edgekit
