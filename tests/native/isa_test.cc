#include "isa/isa.h"

#include <cstdlib>
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
  EDGEKIT_CHECK(isa_contains(Isa::kArmNeonDot, Isa::kGeneric), "root");
  EDGEKIT_CHECK(!isa_contains(Isa::kX86Avx2, Isa::kX86Avx512Vnni), "child");
  EDGEKIT_CHECK(!isa_contains(Isa::kX86Avx512Vnni, Isa::kArmNeon), "other family");
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    const bool parent_supported = isa_supported(table[i].parent);
    EDGEKIT_CHECK(!isa_supported(table[i].isa) || parent_supported, table[i].name);
  }
}

EDGEKIT_TEST(the_best_set_runs_here) {
  const ForcedIsa forced(nullptr);
  const char* error = nullptr;
  const Isa best = best_isa(&error);
  EDGEKIT_CHECK(error == nullptr, error);
  EDGEKIT_CHECK(isa_built(best) && isa_supported(best), isa_info(best).name);
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
