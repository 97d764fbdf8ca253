#include "runner/options.h"

#include <sched.h>

#include <algorithm>
#include <cstring>

namespace edgekit::runner {
namespace {

// Returns false unless `text` is a number from 1 to a billion.
bool parse_count(const char* text, size_t* value) {
  constexpr size_t kMax = 1'000'000'000;
  size_t number = 0;
  for (const char* c = text; *c != 0; ++c) {
    if (*c < '0' || *c > '9') return false;
    number = number * 10 + static_cast<size_t>(*c - '0');
    if (number > kMax) return false;
  }
  *value = number;
  return number >= 1;
}

// Reads "4,5,6", or "any", which is no core in particular. Returns false for anything else.
bool parse_cores(const std::string& text, std::vector<uint32_t>* cores) {
  cores->clear();
  if (text == "any") return true;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    size_t core = 0;
    if (part != "0" && (!parse_count(part.c_str(), &core) || core >= CPU_SETSIZE)) return false;
    cores->push_back(static_cast<uint32_t>(core));
    begin = end + 1;
  }
  return true;
}

}  // namespace

const char kUsage[] =
    "usage: edgekit-run PLAN [options]\n"
    "       edgekit-run --version | --isas | --help\n"
    "\n"
    "Runs a plan and prints how long it took, or serves it.\n"
    "\n"
    "  --input NAME=FILE.npy  an input; without any, all are zeros; a multiple of the plan's\n"
    "                         leading dimension runs it as often\n"
    "  --output-dir DIR       writes each output there as .npy; DIR is made if need be\n"
    "  --threads N            threads, the main one included (1)\n"
    "  --cores A,B,... | any  pins the main thread to core A, the next to B, and so on; any: none "
    "(what\n"
    "                         the plan says)\n"
    "  --repeat N             timed runs after the first (1)\n"
    "  --profile              the median time of each op\n"
    "  --digests              the SHA-256 of each op's output\n"
    "  --json                 prints JSON\n"
    "\n"
    "  --serve ADDRESS        serves the plan at unix:/path or tcp:host:port until SIGTERM\n"
    "  --next ADDRESS         sends outputs on to a server there, whose results are the answers\n"
    "  --timeout S            seconds for a client to send a request or to take a result (10)\n"
    "  --clients N            clients at a time (8)\n"
    "\n"
    "exit status: 0 done, 1 no memory, threads or place for the outputs, 2 wrong command line,\n"
    "3 damaged plan or one for another CPU, 4 inputs that do not fit the plan\n";

bool parse_options(int argc, char** argv, Options* options, std::string* error) {
  const auto fail = [error](const std::string& what) {
    *error = what;
    return false;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const char* const value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (word == "--version") {
      options->action = Options::Action::kShowVersion;
      return true;
    }
    if (word == "--isas") {
      options->action = Options::Action::kShowIsas;
      return true;
    }
    if (word == "--help" || word == "-h") {
      options->action = Options::Action::kShowHelp;
      return true;
    }
    if (word == "--profile") {
      options->profile = true;
    } else if (word == "--digests") {
      options->digests = true;
    } else if (word == "--json") {
      options->json = true;
    } else if (word == "--input" || word == "--output-dir" || word == "--threads" ||
               word == "--cores" || word == "--repeat" || word == "--serve" || word == "--next" ||
               word == "--timeout" || word == "--clients") {
      if (value == nullptr) return fail(word + " needs a value");
      ++i;
      if (word == "--input") {
        // The last one, since names may hold '=' and paths hardly do.
        const char* const sign = std::strrchr(value, '=');
        if (sign == nullptr || sign == value || sign[1] == 0) {
          return fail("--input takes NAME=FILE.npy, not '" + std::string(value) + "'");
        }
        const std::string name(value, sign);
        for (const Options::Input& input : options->inputs) {
          if (input.name == name) return fail("--input gives '" + name + "' twice");
        }
        options->inputs.push_back({name, sign + 1});
      } else if (word == "--output-dir") {
        options->output_dir = value;
      } else if (word == "--cores") {
        options->cores.emplace();
        if (!parse_cores(value, &*options->cores)) {
          return fail("--cores takes numbers of cores, as in 4,5, or any; not '" +
                      std::string(value) + "'");
        }
      } else if (word == "--serve") {
        options->serve = value;
      } else if (word == "--next") {
        options->next = value;
      } else if (!parse_count(value, word == "--threads"   ? &options->threads
                                     : word == "--timeout" ? &options->timeout
                                     : word == "--clients" ? &options->clients
                                                           : &options->repeat)) {
        return fail(word + " takes a number from 1, not '" + value + "'");
      }
    } else if (word.size() > 1 && word[0] == '-') {
      return fail("there is no option " + word);
    } else if (options->plan.empty()) {
      options->plan = word;
    } else {
      return fail("one plan at a time, not also '" + word + "'");
    }
  }
  if (!options->serve.empty() && (!options->inputs.empty() || !options->output_dir.empty() ||
                                  options->profile || options->digests || options->json)) {
    return fail("--serve runs what its clients send, and takes no option of one's own run");
  }
  return !options->plan.empty() || fail("which plan?");
}

}  // namespace edgekit::runner
