#pragma once

namespace edgekit::test {

/// Executes the AMX instructions of a CPU that has none, as long as it lives: a handler of SIGILL
/// decodes and executes LDTILECFG, STTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILELOADDT1,
/// TILESTORED, TDPBSSD, TDPBSUD, TDPBUSD and TDPBUUD on tiles in memory (Intel SDM volume 2). What
/// the processor would refuse (a tile without a configuration, sizes that do not fit, a damaged
/// configuration) goes to the handler that was there before, and so does any other instruction. On
/// a CPU with AMX the instructions never get here. For one thread.
class AmxEmulator {
 public:
  AmxEmulator();
  ~AmxEmulator();
  AmxEmulator(const AmxEmulator&) = delete;
  AmxEmulator& operator=(const AmxEmulator&) = delete;

  /// Returns how many instructions were executed in place of the CPU.
  unsigned long executed() const;

  /// Returns whether tiles are configured.
  bool configured() const;
};

}  // namespace edgekit::test
