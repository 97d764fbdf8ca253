#include "board/golden.h"

#include <cstdlib>
#include <vector>

#include "board/files.h"
#include "board/run_program.h"
#include "json/json_reader.h"

namespace edgekit::board {
namespace {

// A network that takes longer for its eleven runs is of no use on a device; emulated ones need some
// time.
constexpr unsigned kMostSeconds = 300;
constexpr char kRepeat[] = "10";
constexpr size_t kMostAnswer = 64 << 20;

bool fail(std::string* error, const std::string& what) {
  *error = what;
  return false;
}

bool read_answer(const std::string& path, JsonValue* answer, std::string* error) {
  std::string text;
  return read_file(path, kMostAnswer, &text, error) && read_json(text, answer, error);
}

bool same_text(const JsonValue& a, const JsonValue& b, const char* key) {
  const std::string* const left = a.find_text(key);
  const std::string* const right = b.find_text(key);
  return left != nullptr && right != nullptr && *left == *right;
}

bool compare_layers(const JsonValue& golden, const JsonValue* answer, size_t* layers,
                    std::string* error) {
  if (golden.kind != JsonValue::Kind::kArray || answer == nullptr || golden.values.empty() ||
      golden.values.size() != answer->values.size()) {
    return fail(error, std::string(kDigests) + " is not of the layers that run");
  }
  for (size_t i = 0; i < golden.values.size(); ++i) {
    const JsonValue& expected = golden.values[i];
    const JsonValue& actual = answer->values[i];
    if (!same_text(expected, actual, "op") || !same_text(expected, actual, "tensor")) {
      return fail(error, std::string(kDigests) + " is not of the layers that run");
    }
    if (!same_text(expected, actual, "sha256")) {
      return fail(error, "layer " + *actual.find_text("op") +
                             " computes other bytes here than where the bundle was made");
    }
  }
  *layers = golden.values.size();
  return true;
}

bool compare_outputs(const Manifest& manifest, const JsonValue* answer, const std::string& scratch,
                     std::string* error) {
  if (answer == nullptr || answer->values.size() != manifest.outputs.size()) {
    return fail(error, "the program wrote other outputs than the golden ones");
  }
  for (size_t i = 0; i < manifest.outputs.size(); ++i) {
    const GoldenArray& golden = manifest.outputs[i];
    const std::string* const name = answer->values[i].find_text("name");
    const std::string* const file = answer->values[i].find_text("file");
    if (name == nullptr || *name != golden.name || file == nullptr || !is_plain_path(*file)) {
      return fail(error, "the program wrote other outputs than the golden ones");
    }
    std::string digest;
    if (!digest_file(scratch + "/" + *file, &digest, error)) return false;
    if (digest != manifest.find(golden.file)->sha256) {
      return fail(error, "output " + golden.name + " has other bytes than the golden one");
    }
  }
  return true;
}

bool check_limits(const Manifest& manifest, const JsonValue& answer, Health* health,
                  std::string* error) {
  const JsonValue* const median = answer.find("median_ms");
  if (median == nullptr || median->kind != JsonValue::Kind::kNumber ||
      !answer.find_count("peak_resident_bytes", &health->memory)) {
    return fail(error, "the program did not say how long it took and what it held");
  }
  constexpr double kMicrosecondsInMillisecond = 1000;
  const double latency = kMicrosecondsInMillisecond * std::strtod(median->text.c_str(), nullptr);
  if (!(latency >= 0 && latency < 1e15)) return fail(error, "the program took an impossible time");
  health->latency_us = static_cast<uint64_t>(latency);
  if (manifest.most_latency_us != 0 && health->latency_us > manifest.most_latency_us) {
    return fail(error, "a run takes " + std::to_string(health->latency_us) + " us, and at most " +
                           std::to_string(manifest.most_latency_us) + " are allowed");
  }
  if (manifest.most_memory != 0 && health->memory > manifest.most_memory) {
    return fail(error, "the program holds " + std::to_string(health->memory) +
                           " bytes, and at most " + std::to_string(manifest.most_memory) +
                           " are allowed");
  }
  return true;
}

}  // namespace

bool check_golden(const std::string& folder, const Manifest& manifest, const std::string& plan,
                  const std::string& scratch, Health* health, std::string* error) {
  if (!remove_all(scratch, error) || !make_folders(scratch + "/outputs", error)) return false;
  const std::string answer_file = scratch + "/answer.json";
  std::vector<std::string> words = {folder + "/" + kRunner, plan};
  for (const GoldenArray& input : manifest.inputs) {
    words.insert(words.end(), {"--input", input.name + "=" + folder + "/" + input.file});
  }
  words.insert(words.end(),
               {"--output-dir", scratch + "/outputs", "--digests", "--json", "--repeat", kRepeat});
  JsonValue golden, answer;
  std::string ignored;
  const bool good =
      run_program(words, answer_file, kMostSeconds, error) &&
      read_answer(folder + "/" + kDigests, &golden, error) &&
      read_answer(answer_file, &answer, error) &&
      compare_layers(golden, answer.find("digests"), &health->layers, error) &&
      compare_outputs(manifest, answer.find("outputs"), scratch + "/outputs", error) &&
      check_limits(manifest, answer, health, error);
  return remove_all(scratch, good ? error : &ignored) && good;
}

}  // namespace edgekit::board
