# 64 bit RISC-V Linux (RV64GC) with the distribution's compiler: Debian and Ubuntu call the package g++-riscv64-linux-gnu.
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(EDGEKIT_TRIPLE riscv64-linux-gnu)
set(EDGEKIT_EMULATORS qemu-riscv64-static qemu-riscv64)
include(${CMAKE_CURRENT_LIST_DIR}/shared/gnu.cmake)
