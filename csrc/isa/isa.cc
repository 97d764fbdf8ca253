#include "isa/isa.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace edgekit {
namespace {

const IsaInfo kTable[] = {
#define EDGEKIT_ISA_ROW(enumerator, token, parent, storage, have) \
  {Isa::enumerator, token, Isa::parent, Storage::storage},
#include "isa/isa.inc"
#undef EDGEKIT_ISA_ROW
};

const bool kBuilt[] = {
#define EDGEKIT_ISA_ROW(enumerator, token, parent, storage, have) (have) != 0,
#include "isa/isa.inc"
#undef EDGEKIT_ISA_ROW
};

constexpr size_t kCount = sizeof(kTable) / sizeof(kTable[0]);

/// What this CPU and its operating system can execute.
struct Machine {
  bool avx2 = false;
  bool avxvnni = false;
  bool avx512vnni = false;
  bool amx = false;
  bool neon = false;
  bool neondot = false;
  bool i8mm = false;
};

#if defined(__x86_64__)
constexpr uint32_t bit(unsigned index) { return uint32_t{1} << index; }

constexpr bool all_of(uint32_t value, uint32_t mask) { return (value & mask) == mask; }

/// Reads which registers the operating system saves (XCR0, Intel SDM volume 1, 13.3).
uint32_t saved_registers() {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

/// Asks the operating system for the use of tile registers, which it grants once for the whole
/// process (Linux, Documentation/arch/x86/xstate.rst). It refuses where the memory of a signal
/// handler is too small for them.
bool permit_tiles() {
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

/// Reads the CPUID leaves 1 and 7 (Intel SDM volume 2, table 3-8).
Machine probe_machine() {
  Machine machine;
  uint32_t a = 0;
  uint32_t b = 0;
  uint32_t c = 0;
  uint32_t d = 0;
  constexpr uint32_t kOsXsave = bit(27);
  constexpr uint32_t kAvx = bit(28);
  // x86_avx2 includes FMA, which every such CPU but a few from VIA has.
  constexpr uint32_t kFma = bit(12);
  if (!__get_cpuid(1, &a, &b, &c, &d) || !all_of(c, kOsXsave | kAvx | kFma)) return machine;
  const uint32_t saved = saved_registers();
  constexpr uint32_t kYmmState = bit(1) | bit(2);
  constexpr uint32_t kZmmState = kYmmState | bit(5) | bit(6) | bit(7);
  if (!all_of(saved, kYmmState) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return machine;
  constexpr uint32_t kAvx2 = bit(5);
  constexpr uint32_t kAvx512FDqBwVl = bit(16) | bit(17) | bit(30) | bit(31);
  constexpr uint32_t kAvx512Vnni = bit(11);
  machine.avx2 = all_of(b, kAvx2);
  machine.avx512vnni = machine.avx2 && all_of(saved, kZmmState) && all_of(b, kAvx512FDqBwVl) &&
                       all_of(c, kAvx512Vnni);
  constexpr uint32_t kTileState = bit(17) | bit(18);
  constexpr uint32_t kAmxTileInt8 = bit(24) | bit(25);
  machine.amx =
      machine.avx512vnni && all_of(saved, kTileState) && all_of(d, kAmxTileInt8) && permit_tiles();
  constexpr uint32_t kAvxVnni = bit(4);
  const uint32_t last_subleaf = a;
  if (last_subleaf >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
    machine.avxvnni = machine.avx2 && all_of(a, kAvxVnni);
  }
  return machine;
}
#elif defined(__aarch64__) && defined(__linux__)
/// Reads AT_HWCAP and AT_HWCAP2, whose bits are those of the kernel's asm/hwcap.h.
Machine probe_machine() {
  const unsigned long capabilities = getauxval(AT_HWCAP);
  constexpr unsigned long kAsimd = 1UL << 1;
  constexpr unsigned long kAsimdDp = 1UL << 20;
  constexpr unsigned long kI8mm = 1UL << 13;
  Machine machine;
  machine.neon = (capabilities & kAsimd) != 0;
  machine.neondot = machine.neon && (capabilities & kAsimdDp) != 0;
  machine.i8mm = machine.neondot && (getauxval(AT_HWCAP2) & kI8mm) != 0;
  return machine;
}
#else
Machine probe_machine() { return {}; }
#endif

}  // namespace

const IsaInfo* isa_table(size_t* count) {
  *count = kCount;
  return kTable;
}

const IsaInfo& isa_info(Isa isa) { return kTable[static_cast<size_t>(isa)]; }

bool parse_isa(const char* name, Isa* isa) {
  for (const IsaInfo& info : kTable) {
    if (std::strcmp(info.name, name) == 0) {
      *isa = info.isa;
      return true;
    }
  }
  return false;
}

bool isa_built(Isa isa) { return kBuilt[static_cast<size_t>(isa)]; }

bool isa_supported(Isa isa) {
  static const Machine machine = probe_machine();
  switch (isa) {
    case Isa::kGeneric:
      return true;
    case Isa::kX86Avx2:
      return machine.avx2;
    case Isa::kX86AvxVnni:
      return machine.avxvnni;
    case Isa::kX86Avx512Vnni:
      return machine.avx512vnni;
    case Isa::kX86Amx:
      return machine.amx;
    case Isa::kArmNeon:
      return machine.neon;
    case Isa::kArmNeonDot:
      return machine.neondot;
    case Isa::kArmI8mm:
      return machine.i8mm;
  }
  return false;
}

bool isa_contains(Isa isa, Isa part) {
  while (isa != part) {
    const Isa parent = isa_info(isa).parent;
    if (parent == isa) return false;
    isa = parent;
  }
  return true;
}

Isa best_isa(const char** error) {
  *error = nullptr;
  const char* forced = std::getenv("EDGEKIT_ISA");
  if (forced != nullptr && *forced != '\0') {
    Isa isa = Isa::kGeneric;
    if (!parse_isa(forced, &isa)) {
      *error =
          "EDGEKIT_ISA names no instruction set that edgekit knows; unset it, or take one of those "
          "that `edgekit-run --isas` lists";
    } else if (!isa_built(isa)) {
      *error =
          "EDGEKIT_ISA names an instruction set that this build leaves out, since it is of another "
          "processor family or the compiler did not know it; unset it, or take one that "
          "`edgekit-run --isas` lists as built";
    } else if (!isa_supported(isa)) {
      *error =
          "EDGEKIT_ISA names an instruction set that this CPU or its operating system lacks; "
          "unset it, or take one that `edgekit-run --isas` lists as supported";
    }
    return *error == nullptr ? isa : Isa::kGeneric;
  }
  Isa best = Isa::kGeneric;
  for (const IsaInfo& info : kTable) {
    if (isa_built(info.isa) && isa_supported(info.isa)) best = info.isa;
  }
  return best;
}

}  // namespace edgekit
