#pragma once

#include <cstddef>
#include <cstdint>

// The part of the binary interface between qemu and a TCG plugin that count_instructions.cc uses,
// as documented in qemu's docs/devel/tcg-plugins.rst for interface version 1 (qemu 4.2 to 8.2).
// Distributions ship the emulator without a header.

extern "C" {

using qemu_plugin_id_t = uint64_t;

/// A block of instructions that qemu translates at once, and executes from its first instruction
/// on.
struct qemu_plugin_tb;
struct qemu_plugin_insn;
/// Facts of the emulator that a plugin is given; not looked at here.
struct qemu_info_t;

enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

using qemu_plugin_vcpu_tb_trans_cb_t = void (*)(qemu_plugin_id_t id, qemu_plugin_tb* block);
using qemu_plugin_udata_cb_t = void (*)(qemu_plugin_id_t id, void* data);

/// Asks to be called with each block that is translated.
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           qemu_plugin_vcpu_tb_trans_cb_t callback);
/// Adds `amount` to the uint64_t at `counter` whenever the block is executed. Not atomic.
void qemu_plugin_register_vcpu_tb_exec_inline(qemu_plugin_tb* block, qemu_plugin_op op,
                                              void* counter, uint64_t amount);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, qemu_plugin_udata_cb_t callback,
                                    void* data);
size_t qemu_plugin_tb_n_insns(const qemu_plugin_tb* block);
qemu_plugin_insn* qemu_plugin_tb_get_insn(const qemu_plugin_tb* block, size_t index);
/// Returns the function that the instruction belongs to, or null where the program has no symbol.
const char* qemu_plugin_insn_symbol(const qemu_plugin_insn* instruction);

// What a plugin exports.
__attribute__((visibility("default"))) extern int qemu_plugin_version;
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id,
                                                               const qemu_info_t* info, int argc,
                                                               char** argv);
}
