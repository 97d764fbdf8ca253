#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit {

/// How the codes of an activation lie in memory.
///
/// A code q in [-128, 127] is stored as the byte `q` (kS8) or `q + 128` (kU8), which is what the
/// x86 multiply instructions take. A plan uses one storage throughout; files never show it.
enum class Storage : uint8_t { kS8, kU8 };

/// Returns what has to be added to a code to get its stored value: 0 or 128.
constexpr int32_t storage_offset(Storage storage) { return storage == Storage::kU8 ? 128 : 0; }

/// An instruction set, as listed in isa.inc.
enum class Isa : uint8_t {
#define EDGEKIT_ISA_ROW(enumerator, token, parent, storage, have) enumerator,
#include "isa/isa.inc"
#undef EDGEKIT_ISA_ROW
};

/// Static facts of an instruction set.
struct IsaInfo {
  Isa isa;
  const char* name;
  Isa parent;
  Storage storage;
};

/// Returns every known instruction set, in the order of isa.inc.
const IsaInfo* isa_table(size_t* count);

/// Returns the facts of `isa`.
const IsaInfo& isa_info(Isa isa);

/// Looks `name` up. Returns false and leaves `isa` alone when no set has that name.
bool parse_isa(const char* name, Isa* isa);

/// Returns whether kernels for `isa` were compiled into this binary.
bool isa_built(Isa isa);

/// Returns whether this CPU and its operating system can execute `isa`. Probed once; where the CPU
/// has tile registers, that asks Linux to let this process use them.
bool isa_supported(Isa isa);

/// Returns whether a plan made for `isa` can use kernels of `part`: the same set or an ancestor of
/// it.
bool isa_contains(Isa isa, Isa part);

/// Returns the strongest set that is built and supported, or the one that EDGEKIT_ISA names.
///
/// An EDGEKIT_ISA that is unknown, not built or not supported leaves `error` pointing to a message
/// with static lifetime; the return value is then kGeneric.
Isa best_isa(const char** error);

}  // namespace edgekit
