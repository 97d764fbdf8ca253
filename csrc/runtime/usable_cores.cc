#include "runtime/usable_cores.h"

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace edgekit {
namespace {

/// Returns the first 4 KiB of a file, or "" where it can't be read.
std::string read_file(const std::string& path) {
  FILE* const file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return "";
  char text[4096];
  const size_t size = std::fread(text, 1, sizeof text, file);
  std::fclose(file);
  return {text, size};
}

/// Returns the path of this process's control group, such as "/system.slice", or "" where it has
/// none of version 2. cgroups(7): its line is "0::<path>".
std::string find_group() {
  const std::string text = "\n" + read_file("/proc/self/cgroup");
  const size_t line = text.find("\n0::/");
  if (line == std::string::npos) return "";
  const size_t begin = line + 4;
  return text.substr(begin, text.find('\n', begin) - begin);
}

/// Returns the whole cores that the group and those around it leave, or 0 where none has a quota.
size_t count_cores_in_groups(std::string group) {
  size_t least = 0;
  for (; !group.empty(); group.erase(group.find_last_of('/'))) {
    const std::string folder = "/sys/fs/cgroup" + (group == "/" ? "" : group);
    const size_t cores = count_cores_in_quota(read_file(folder + "/cpu.max"));
    if (cores != 0) least = least == 0 ? cores : std::min(least, cores);
  }
  return least;
}

/// Reads decimal digits at `*at` and leaves it behind them. Returns 0 where there are none, or too
/// many.
uint64_t read_number(const std::string& text, size_t* at) {
  uint64_t number = 0;
  for (; *at < text.size() && text[*at] >= '0' && text[*at] <= '9'; ++*at) {
    if (number > UINT64_MAX / 10 - 1) return 0;
    number = 10 * number + static_cast<uint64_t>(text[*at] - '0');
  }
  return number;
}

}  // namespace

size_t count_cores_in_quota(const std::string& cpu_max) {
  size_t at = 0;
  const uint64_t quota = read_number(cpu_max, &at);
  if (quota == 0 || at >= cpu_max.size() || cpu_max[at] != ' ') return 0;
  ++at;
  const uint64_t period = read_number(cpu_max, &at);
  if (period == 0) return 0;
  return static_cast<size_t>(std::max<uint64_t>(quota / period, 1));
}

size_t count_usable_cores(size_t otherwise) {
  cpu_set_t mask;
  size_t cores = std::max<size_t>(otherwise, 1);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) cores = static_cast<size_t>(CPU_COUNT(&mask));
  const size_t quota = count_cores_in_groups(find_group());
  return quota == 0 ? cores : std::min(cores, quota);
}

}  // namespace edgekit
