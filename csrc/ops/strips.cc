#include "ops/strips.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "ops/check.h"
#include "ops/round_up.h"

namespace edgekit {
namespace {

/// What kernels may read behind a tensor.
constexpr size_t kReadBehind = 64;

/// Returns how many of `in_h` input rows lie under `out_rows` output rows, at most.
size_t reached_rows(const Window& window, size_t out_rows, size_t in_h) {
  const uint64_t extent = uint64_t{window.kernel_h - 1} * window.dilation_h + 1;
  if (extent >= in_h || out_rows - 1 > in_h / window.stride_h) return in_h;
  return static_cast<size_t>(
      std::min<uint64_t>(in_h, uint64_t{out_rows - 1} * window.stride_h + extent));
}

}  // namespace

std::unique_ptr<Strips> Strips::make(const std::vector<Member>& members, size_t rows,
                                     std::vector<std::unique_ptr<Chain>> chains,
                                     std::string* error) {
  std::unique_ptr<Strips> op(new Strips);
  op->chains_ = std::move(chains);
  op->rows_ = rows;
  if (members.size() < 2 || members.size() > kMaxOps || rows == 0 || op->chains_.empty()) {
    fail(error, {"strips take 2 to ", std::to_string(kMaxOps), " ops and at least one row"});
    return nullptr;
  }
  if (!op->measure(members, error)) return nullptr;
  return op;
}

bool Strips::measure(const std::vector<Member>& members, std::string* error) {
  const Chain& chain = *chains_[0];
  images_ = static_cast<size_t>(members.back().output.dims[0]);
  for (size_t i = 0; i < members.size(); ++i) {
    const Member& member = members[i];
    const Op& op = *chain.ops[i];
    Level level = {};
    level.window = member.window;
    level.in_h = static_cast<size_t>(member.in_h);
    level.out_h = static_cast<size_t>(member.output.dims[1]);
    level.row_size = element_count(member.output, 2, 4) * dtype_size(member.dtype);
    level.row_units = op.units() / (images_ * level.out_h);
    if (!op.in_rows() || level.row_units * images_ * level.out_h != op.units()) {
      return fail(error, {"op ", std::to_string(i), " of the strips can't compute single rows"});
    }
    op_scratch_size_ = std::max(op_scratch_size_, round_up(op.scratch_size(), kLineSize));
    levels_.push_back(level);
  }
  for (size_t i = 1; i < levels_.size(); ++i) {
    if (!reaches_all_rows(levels_[i])) {
      return fail(error, {"op ", std::to_string(i), " of the strips leaves rows of its input out"});
    }
  }
  levels_.back().capacity = std::min(rows_, levels_.back().out_h);
  strips_ = (levels_.back().out_h + rows_ - 1) / rows_;
  for (size_t i = levels_.size() - 1; i-- > 0;) {
    Level& level = levels_[i];
    level.capacity =
        reached_rows(levels_[i + 1].window, levels_[i + 1].capacity, levels_[i + 1].in_h);
    level.buffer = buffers_size_;
    buffers_size_ += round_up(level.capacity * level.row_size + kReadBehind, kLineSize);
  }
  return true;
}

size_t Strips::cost() const {
  size_t sum = 0;
  for (const auto& op : chains_[0]->ops) sum += op->cost();
  return sum;
}

void Strips::run(size_t begin, size_t end, uint8_t* scratch) const {
  // There are as many chains as threads, so one is free; which one makes no difference.
  for (size_t i = 0;; i = (i + 1) % chains_.size()) {
    Chain& chain = *chains_[i];
    if (chain.busy.test_and_set(std::memory_order_acquire)) continue;
    run_strips(chain, begin, end, scratch, nullptr);
    chain.busy.clear(std::memory_order_release);
    return;
  }
}

void Strips::run_observed(uint8_t* scratch, StripsObserver* observer) const {
  run_strips(*chains_[0], 0, units(), scratch, observer);
}

void Strips::run_strips(Chain& chain, size_t begin, size_t end, uint8_t* scratch,
                        StripsObserver* observer) const {
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t first = unit % strips_ * rows_;
    // Nothing is left from another image or an earlier call.
    if (unit == begin || first == 0) chain.kept.fill({});
    const Rows out = {first, std::min(first + rows_, levels_.back().out_h)};
    run_strip(chain, unit / strips_, out, scratch, observer);
  }
}

void Strips::run_strip(Chain& chain, size_t image, Rows out, uint8_t* scratch,
                       StripsObserver* observer) const {
  std::array<Rows, kMaxOps> fresh;
  fresh[levels_.size() - 1] = out;
  for (size_t i = levels_.size() - 1; i-- > 0;) {
    const Level& level = levels_[i];
    const Rows needed = reach(levels_[i + 1], fresh[i + 1]);
    Rows& kept = chain.kept[i];
    uint8_t* const buffer = scratch + level.buffer;
    fresh[i] = needed;
    if (needed.begin == needed.end) continue;
    if (needed.begin < kept.end) {
      std::memmove(buffer, buffer + (needed.begin - kept.begin) * level.row_size,
                   (kept.end - needed.begin) * level.row_size);
      fresh[i].begin = std::min(kept.end, needed.end);
    }
    kept = {needed.begin, std::max(kept.end, needed.end)};
    // Where row 0 of the first image would lie, had the tensor all of its rows.
    const size_t before = (image * level.out_h + kept.begin) * level.row_size;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): no pointer may stand before its buffer.
    chain.inner[i] = reinterpret_cast<uint8_t*>(reinterpret_cast<uintptr_t>(buffer) - before);
  }
  for (size_t i = 0; i < levels_.size(); ++i) {
    const Level& level = levels_[i];
    if (fresh[i].begin == fresh[i].end) continue;
    const size_t begin = image * level.out_h + fresh[i].begin;
    const size_t end = image * level.out_h + fresh[i].end;
    chain.ops[i]->run(begin * level.row_units, end * level.row_units, scratch + buffers_size_);
    if (observer == nullptr) continue;
    const size_t row = fresh[i].begin - chain.kept[i].begin;
    const bool last = i + 1 == levels_.size();
    const uint8_t* rows = last ? nullptr : scratch + level.buffer + row * level.row_size;
    observer->see(i, begin, end, rows);
  }
}

/// Returns whether the windows, in a column, cover every row of the input.
bool Strips::reaches_all_rows(const Level& level) {
  const Window& window = level.window;
  const uint64_t extent = uint64_t{window.kernel_h - 1} * window.dilation_h + 1;
  const uint64_t last = uint64_t{level.out_h - 1} * window.stride_h;
  return (window.stride_h <= extent || level.out_h == 1) &&
         last + extent >= uint64_t{level.in_h} + window.pad_top;
}

/// Returns the rows of the input that the windows of some output rows cover.
Strips::Rows Strips::reach(const Level& level, const Rows& out) {
  if (out.begin == out.end) return out;
  const Window& window = level.window;
  const uint64_t top = uint64_t{out.begin} * window.stride_h;
  const uint64_t bottom = uint64_t{out.end - 1} * window.stride_h +
                          uint64_t{window.kernel_h - 1} * window.dilation_h + 1;
  Rows rows;
  rows.begin = static_cast<size_t>(
      std::min<uint64_t>(top > window.pad_top ? top - window.pad_top : 0, level.in_h));
  rows.end = static_cast<size_t>(
      std::min<uint64_t>(bottom > window.pad_top ? bottom - window.pad_top : 0, level.in_h));
  if (rows.end < rows.begin) rows.end = rows.begin;
  return rows;
}

}  // namespace edgekit
