#include "amx_emulator.h"

#if defined(__x86_64__) && defined(__linux__)

#include <signal.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace edgekit::test {
namespace {

constexpr size_t kTiles = 8;
constexpr size_t kMostRows = 16;
constexpr size_t kMostBytes = 64;

struct Tile {
  /// 0 without a configuration.
  size_t rows;
  size_t row_bytes;
  uint8_t bytes[kMostRows][kMostBytes];
};

struct State {
  uint8_t config[64];
  bool configured;
  Tile tiles[kTiles];
  unsigned long executed;
};

State state;
struct sigaction previous;

/// The parts of an instruction `C4 RXBmmmmm WvvvvLpp opcode modrm [sib [disp]]`.
struct Instruction {
  uint8_t opcode;
  /// 0 none, 1 66, 2 F3, 3 F2.
  unsigned prefix;
  unsigned reg;
  unsigned vvvv;
  /// The register that modrm names; where it names memory, its address.
  bool in_memory;
  unsigned rm;
  uint8_t* address;
  /// Register of the index in a sib byte; a tile load's stride.
  int64_t index;
  bool has_sib;
  size_t size;
};

int64_t read_register(const ucontext_t& context, unsigned number) {
  constexpr int kRegisters[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};
  return context.uc_mcontext.gregs[kRegisters[number]];
}

/// Decodes what lies at the instruction pointer (Intel SDM volume 2, 2.1 and 2.3). Returns false
/// when it is no VEX instruction of the 0F38 map with W and L of 0.
bool decode(const ucontext_t& context, Instruction* instruction) {
  const auto* const begin = reinterpret_cast<const uint8_t*>(context.uc_mcontext.gregs[REG_RIP]);
  const uint8_t* code = begin;
  constexpr unsigned kMap0F38 = 2;
  if (code[0] != 0xC4 || (code[1] & 31) != kMap0F38 || (code[2] & 0x84) != 0) return false;
  const unsigned r = (code[1] & 0x80) != 0 ? 0 : 8;
  const unsigned x = (code[1] & 0x40) != 0 ? 0 : 8;
  const unsigned b = (code[1] & 0x20) != 0 ? 0 : 8;
  instruction->prefix = code[2] & 3;
  instruction->vvvv = ~(static_cast<unsigned>(code[2]) >> 3) & 15;
  instruction->opcode = code[3];
  const unsigned modrm = code[4];
  code += 5;
  const unsigned mode = modrm >> 6;
  instruction->reg = ((modrm >> 3) & 7) + r;
  instruction->rm = (modrm & 7) + b;
  instruction->in_memory = mode != 3;
  instruction->has_sib = false;
  instruction->index = 0;
  if (instruction->in_memory) {
    int64_t address = 0;
    const auto read_displacement = [&](size_t bytes) {
      int32_t value = 0;
      std::memcpy(&value, code, bytes);
      code += bytes;
      return bytes == 1 ? static_cast<int64_t>(static_cast<int8_t>(value)) : int64_t{value};
    };
    bool no_base = false;
    bool relative = false;
    if ((modrm & 7) == 4) {
      const unsigned sib = *code++;
      const unsigned index = ((sib >> 3) & 7) + x;
      const unsigned base = (sib & 7) + b;
      instruction->has_sib = true;
      if (index != 4) {
        instruction->index = read_register(context, index) * (int64_t{1} << (sib >> 6));
      }
      no_base = (sib & 7) == 5 && mode == 0;
      if (!no_base) address = read_register(context, base);
    } else if ((modrm & 7) == 5 && mode == 0) {
      no_base = true;
      relative = true;
    } else {
      address = read_register(context, instruction->rm);
    }
    if (mode == 1) address += read_displacement(1);
    if (mode == 2 || no_base) address += read_displacement(4);
    if (relative) address += reinterpret_cast<int64_t>(code);
    instruction->address = reinterpret_cast<uint8_t*>(address);
  }
  instruction->size = static_cast<size_t>(code - begin);
  return true;
}

bool load_config(const uint8_t* config) {
  State next{};
  std::memcpy(next.config, config, sizeof(next.config));
  next.executed = state.executed;
  const uint8_t palette = config[0];
  if (palette > 1) return false;
  if (palette == 1) {
    if (config[1] != 0) return false;
    for (size_t i = 2; i < 16; ++i) {
      if (config[i] != 0) return false;
    }
    for (size_t i = 0; i < 16; ++i) {
      uint16_t row_bytes;
      std::memcpy(&row_bytes, config + 16 + 2 * i, sizeof(row_bytes));
      const size_t rows = config[48 + i];
      if (row_bytes > kMostBytes || rows > kMostRows || (rows == 0) != (row_bytes == 0)) {
        return false;
      }
      if (i >= kTiles && rows != 0) return false;
      if (i < kTiles) {
        next.tiles[i].rows = rows;
        next.tiles[i].row_bytes = row_bytes;
      }
    }
    next.configured = true;
  }
  state = next;
  return true;
}

bool usable(unsigned tile) { return tile < kTiles && state.tiles[tile].rows != 0; }

bool load_tile(unsigned number, const uint8_t* address, int64_t stride) {
  if (!usable(number)) return false;
  Tile& tile = state.tiles[number];
  std::memset(tile.bytes, 0, sizeof(tile.bytes));
  for (size_t row = 0; row < tile.rows; ++row) {
    std::memcpy(tile.bytes[row], address + static_cast<int64_t>(row) * stride, tile.row_bytes);
  }
  return true;
}

bool store_tile(unsigned number, uint8_t* address, int64_t stride) {
  if (!usable(number)) return false;
  const Tile& tile = state.tiles[number];
  for (size_t row = 0; row < tile.rows; ++row) {
    std::memcpy(address + static_cast<int64_t>(row) * stride, tile.bytes[row], tile.row_bytes);
  }
  return true;
}

/// acc[m][n] += sum over k and i of a[m][4 * k + i] * b[k][4 * n + i].
bool multiply(unsigned acc_number, unsigned a_number, unsigned b_number, bool a_signed,
              bool b_signed) {
  if (!usable(acc_number) || !usable(a_number) || !usable(b_number)) return false;
  if (acc_number == a_number || acc_number == b_number || a_number == b_number) return false;
  Tile& acc = state.tiles[acc_number];
  const Tile& a = state.tiles[a_number];
  const Tile& b = state.tiles[b_number];
  if (acc.row_bytes % 4 != 0 || a.row_bytes % 4 != 0 || acc.rows != a.rows ||
      a.row_bytes != 4 * b.rows || acc.row_bytes != b.row_bytes) {
    return false;
  }
  const auto value = [](uint8_t byte, bool is_signed) {
    return is_signed ? static_cast<int32_t>(static_cast<int8_t>(byte)) : int32_t{byte};
  };
  for (size_t m = 0; m < acc.rows; ++m) {
    for (size_t n = 0; n < acc.row_bytes / 4; ++n) {
      uint32_t sum;
      std::memcpy(&sum, &acc.bytes[m][4 * n], sizeof(sum));
      for (size_t k = 0; k < b.rows; ++k) {
        for (size_t i = 0; i < 4; ++i) {
          sum += static_cast<uint32_t>(value(a.bytes[m][4 * k + i], a_signed) *
                                       value(b.bytes[k][4 * n + i], b_signed));
        }
      }
      std::memcpy(&acc.bytes[m][4 * n], &sum, sizeof(sum));
    }
  }
  return true;
}

/// Executes an instruction. Returns false for one that is none of AMX or that a CPU would refuse.
bool execute(const Instruction& it) {
  constexpr uint8_t kConfigure = 0x49;
  constexpr uint8_t kMove = 0x4B;
  constexpr uint8_t kMultiply = 0x5E;
  if (it.opcode == kMultiply && !it.in_memory) {
    // Unsigned both, unsigned a, signed a, signed both.
    return multiply(it.reg, it.rm, it.vvvv, it.prefix >= 2, it.prefix == 1 || it.prefix == 3);
  }
  if (it.vvvv != 0) return false;
  if (it.opcode == kConfigure && it.in_memory && it.reg == 0) {
    if (it.prefix == 0) return load_config(it.address);
    if (it.prefix == 1) std::memcpy(it.address, state.config, sizeof(state.config));
    return it.prefix == 1;
  }
  if (it.opcode == kConfigure && !it.in_memory) {
    if (it.prefix == 0 && it.reg == 0 && it.rm == 0) {
      const uint8_t none[sizeof(state.config)] = {};
      return load_config(none);
    }
    if (it.prefix != 3 || it.rm != 0 || !usable(it.reg)) return false;
    std::memset(state.tiles[it.reg].bytes, 0, sizeof(state.tiles[it.reg].bytes));
    return true;
  }
  if (it.opcode == kMove && it.in_memory && it.has_sib) {
    if (it.prefix == 2) return store_tile(it.reg, it.address, it.index);
    return it.prefix != 0 && load_tile(it.reg, it.address, it.index);
  }
  return false;
}

void handle(int signal_number, siginfo_t* info, void* context_pointer) {
  auto& context = *static_cast<ucontext_t*>(context_pointer);
  Instruction instruction{};
  if (decode(context, &instruction) && execute(instruction)) {
    ++state.executed;
    context.uc_mcontext.gregs[REG_RIP] += static_cast<greg_t>(instruction.size);
    return;
  }
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal_number, info, context_pointer);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal_number);
  } else {
    signal(signal_number, SIG_DFL);
  }
}

}  // namespace

AmxEmulator::AmxEmulator() {
  state = State{};
  struct sigaction action{};
  action.sa_sigaction = handle;
  // A fault of the emulated access is a signal of its own.
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, &previous);
}

AmxEmulator::~AmxEmulator() { sigaction(SIGILL, &previous, nullptr); }

unsigned long AmxEmulator::executed() const { return state.executed; }

bool AmxEmulator::configured() const { return state.configured; }

}  // namespace edgekit::test

#endif
