#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "board/descriptor.h"
#include "board/health.h"
#include "board/manifest.h"
#include "board/plan_file.h"
#include "board/state.h"
#include "delta/chunks.h"
#include "delta/recipe.h"
#include "trust/minisign.h"

namespace edgekit::board {

/// A file that a bundle on its way still lacks.
struct Wanted {
  std::string path;
  /// How many of its bytes are there already.
  uint64_t offset;
  uint64_t size;
};

/// Which bundle a slot holds, or is taking.
struct Occupant {
  uint64_t release;
  /// SHA-256 of its manifest in hexadecimal.
  std::string manifest;
};

/// What comes of a file: all from an offset on.
struct Part {
  std::string path;
  uint64_t offset;
};

/// Called with how many bytes came since the last time.
using Tell = std::function<void(uint64_t)>;

/// A device's root folder: two slots, of which one may run, and one file that says which.
///
///   board            the profile's name
///   keys/*.pub       who may sign
///   state            state.h
///   identity         the device's secret key, where it was asked for one
///   slots/a, b       a bundle each
///   current          a link to the slot that runs, for whoever looks; nothing here follows it
///   log, log.1       a line for each thing that happened
///   lock             held while the state is read or changes: never for long
///   installing       held while the slot that is not active changes or is checked
///   bin/edgekit-board  this program, where a flash put it; confirm() renews it
///
/// What a slot holds may be torn at any time while the slot is not active; a slot runs only after
/// everything in it was checked and is on the disk. Of two who install, the one who began last
/// wins, and the other is told. Each function that returns false set `error`.
class Device {
 public:
  /// Starts that a bundle gets on trial before it is taken back.
  static constexpr uint64_t kTrialStarts = 3;

  /// What a device is opened for.
  enum class Use {
    /// To read or change the state: waits for those who do so as well.
    kState,
    /// To change or check what a slot holds: waits for those who do so as well. A start does not
    /// wait for this one.
    kSlots,
  };

  /// Makes the root folder of a board named `board`, for bundles that one of `keys` signed: each
  /// the content of a public key's file. A root that exists is left as it is, which is an error.
  static bool create(const std::string& root, const std::string& board,
                     const std::vector<std::string>& keys, std::string* error);

  /// Does the same for the board that a bundle was made for, which one of `keys` must have signed.
  static bool create_for(const std::string& root, std::string_view manifest,
                         std::string_view signature, const std::vector<std::string>& keys,
                         std::string* error);

  /// Opens a root folder. A state that cannot be read is made anew from what the slots hold.
  bool open(const std::string& root, Use use, std::string* error);

  const State& state() const { return state_; }
  const std::string& board() const { return board_; }
  std::string slot_path(Slot slot) const { return root_ + "/slots/" + slot_name(slot); }

  /// Returns whether a slot has the signed manifest of a bundle, and sets `occupant`. The files
  /// beside it are not looked at.
  bool read_occupant(Slot slot, Occupant* occupant) const;

  /// Returns what happened, oldest first: a line each of time, number of the change, and what.
  std::string read_log() const;

  /// Names the bundle that put(), patch() and switch_over() are for, by the SHA-256 of its manifest
  /// in hexadecimal: where another one was begun meanwhile they touch nothing of it.
  void expect(const std::string& manifest) { expected_ = manifest; }

  /// Takes the manifest of a bundle and its signature into the slot that is not active, keeps what
  /// that has of the bundle already, copies what the active slot has, and says what is missing.
  /// Where the slot that runs holds this very bundle, whole, `present` is set to it and nothing is
  /// missing; else to kNone.
  ///
  /// Refused: what no key here signed, another board's, an older release than the floor, more bytes
  /// than there is room for, and anything else while a trial runs.
  bool begin(std::string_view manifest, std::string_view signature, Slot* present,
             std::vector<Wanted>* wanted, std::string* error);

  /// Takes the bytes of files that begin() wanted, one after the other, from a descriptor until it
  /// ends. While this waits for them, others may begin anew or go on with a file: it then ends.
  /// What is there behind an offset is replaced.
  bool put(const std::vector<Part>& parts, const Descriptor& source, const Tell& tell,
           std::string* error);

  /// Makes a file that begin() wanted of the active slot's file of the same path, by a recipe
  /// (delta/recipe.h).
  bool patch(const std::string& path, const Descriptor& recipe, std::string* error);

  /// Tells the size, digest and chunks of the active slot's file of this path.
  bool list_chunks(const std::string& path, BaseFacts* facts, std::vector<Chunk>* chunks,
                   std::string* error) const;

  /// Checks the bundle of a slot: signature, board, release, every digest, nothing besides, and
  /// runs it on its golden inputs: the same bytes in each layer and output, within the time and
  /// memory that the manifest allows.
  bool check(Slot slot, Health* health, std::string* error);

  /// Checks the slot that is not active and puts it on trial.
  bool switch_over(Health* health, std::string* error);

  /// Returns the slot to start, or kNone. Counts a start of a trial; one without starts left is
  /// taken back first.
  bool start(Slot* slot, std::string* error);

  /// Makes the device's secret key unless it has one; sets `recipient` to the public one, for which
  /// plans are locked.
  bool make_key(std::string* recipient, std::string* error) const;

  /// Writes the plan of a slot, unlocked, to a file: plan_file.h.
  bool unlock(Slot slot, const std::string& to, std::string* error) const;

  /// Ends a trial: what is on trial stays, and no older release will be taken. Puts the program
  /// that the bundle brings into `bin` where one is there that is not newer.
  bool confirm(std::string* error);

  /// Takes a trial back, or goes from the active slot to the other one where that holds a bundle
  /// that is whole and still computes what it must. It may be older than the floor: it was taken
  /// here once, and whoever may call this may do more.
  bool go_back(const std::string& why, std::string* error);

 private:
  struct Incoming;

  bool run_golden(Slot slot, const Manifest& manifest, Health* health, std::string* error) const;
  bool lock_slots(std::string* error);
  bool lock_state(std::string* error);
  bool check_files(Slot slot, Manifest* manifest, std::string* error) const;
  bool check_signed(std::string_view manifest, std::string_view signature, Manifest* read,
                    std::string* error) const;
  bool check_origin(std::string_view manifest, std::string_view signature, Manifest* read,
                    std::string* error) const;
  bool read_slot(Slot slot, std::string* text, Manifest* manifest, std::string* error) const;
  bool check_room(const std::string& folder, const Manifest& coming, std::string* error) const;
  bool want_file(const BundleFile& file, const std::string& folder, const Manifest& active,
                 std::vector<Wanted>* wanted, std::string* error) const;
  bool is_expected(std::string_view manifest, std::string* error) const;
  bool find_begun(const std::string& path, BundleFile* file, std::string* error) const;
  bool finish_file(const BundleFile& file, std::string* error) const;
  bool open_partial(const std::string& path, uint64_t offset, Incoming* incoming,
                    std::string* error) const;
  bool put_one(const Part& part, bool last, const Descriptor& source, const Tell& tell,
               std::string* error);
  bool renew_program(const Manifest& manifest, std::string* error) const;
  bool recover(std::string* error);
  bool change(const State& next, const std::string& what, std::string* error);
  void note(const std::string& what) const;

  std::string root_;
  std::string board_;
  std::vector<PublicKey> keys_;
  State state_;
  std::string expected_;
  Descriptor lock_{-1};
  Descriptor installing_{-1};
};

}  // namespace edgekit::board
