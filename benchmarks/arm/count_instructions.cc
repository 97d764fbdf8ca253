// A TCG plugin that counts the instructions which an emulated program executes, by function:
//
//   qemu-aarch64 -plugin libcount_instructions.so,to=FILE PROGRAM...
//
// FILE gets a line for each function, `COUNT NAME`; what has no symbol is counted as `-`. Programs
// of one thread are counted exactly: two runs agree.

#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "qemu_plugin.h"

namespace {

/// A map, since counters must stay where they are.
std::map<std::string, uint64_t>& counters() {
  static std::map<std::string, uint64_t> counts;
  return counts;
}

std::string& file_name() {
  static std::string name;
  return name;
}

void count_block(qemu_plugin_id_t, qemu_plugin_tb* block) {
  std::map<uint64_t*, uint64_t> shares;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); ++i) {
    const char* symbol = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(block, i));
    ++shares[&counters()[symbol != nullptr ? symbol : "-"]];
  }
  for (const auto& [counter, share] : shares) {
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, counter, share);
  }
}

void write_counts(qemu_plugin_id_t, void*) {
  std::FILE* file = std::fopen(file_name().c_str(), "w");
  if (file == nullptr) {
    std::fprintf(stderr, "count_instructions: %s can't be written\n", file_name().c_str());
    return;
  }
  for (const auto& [name, count] : counters()) {
    if (count > 0) {
      std::fprintf(file, "%llu %s\n", static_cast<unsigned long long>(count), name.c_str());
    }
  }
  std::fclose(file);
}

}  // namespace

int qemu_plugin_version = 1;

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t*, int argc, char** argv) {
  if (argc != 1 || std::strncmp(argv[0], "to=", 3) != 0) {
    std::fprintf(stderr, "count_instructions: takes to=FILE\n");
    return 1;
  }
  file_name() = argv[0] + 3;
  qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
  qemu_plugin_register_atexit_cb(id, write_counts, nullptr);
  return 0;
}
