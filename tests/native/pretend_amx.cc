// Makes a program believe that the CPU has AMX, and executes its instructions by emulation: linked
// into a runner of its own, edgekit_run_amx, by which whole networks run on x86_amx where the CPU
// lacks it. On one thread.

#include "amx_emulator.h"
#include "isa/isa.h"

namespace edgekit {

// The linker gives calls of isa_supported() to the first and that function to the second (--wrap).
bool supported_by_pretence(Isa isa) asm("__wrap__ZN7edgekit13isa_supportedENS_3IsaE");
bool supported_in_truth(Isa isa) asm("__real__ZN7edgekit13isa_supportedENS_3IsaE");

bool supported_by_pretence(Isa isa) {
  return supported_in_truth(isa == Isa::kX86Amx ? isa_info(isa).parent : isa);
}

namespace {

const test::AmxEmulator emulator;

}  // namespace
}  // namespace edgekit
