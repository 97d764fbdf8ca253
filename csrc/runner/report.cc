#include "runner/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "isa/isa.h"
#include "json/json_writer.h"

namespace edgekit::runner {
namespace {

constexpr double kMilli = 1e3;
constexpr double kMicro = 1e6;

template <typename... Values>
std::string print(const char* format, Values... values) {
  const int length = std::snprintf(nullptr, 0, format, values...);
  std::string text(static_cast<size_t>(length) + 1, '\0');
  std::snprintf(text.data(), text.size(), format, values...);
  text.pop_back();
  return text;
}

void write_plan(const Plan& plan, JsonWriter* json) {
  json->key("plan").begin_object();
  json->key("isa").text(isa_info(plan.isa()).name);
  json->key("target").text(plan.target());
  json->key("producer").text(plan.producer());
  json->key("source_digest").text(plan.source_digest());
  json->key("arena_bytes").number(uint64_t{plan.arena_size()});
  json->end_object();
}

}  // namespace

double percentile(const std::vector<double>& values, double percent) {
  const double rank = std::ceil(percent / 100 * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

std::string format_json(const Report& report) {
  const Plan& plan = *report.plan;
  JsonWriter json;
  json.begin_object();
  json.key("version").text(EDGEKIT_VERSION);
  write_plan(plan, &json);
  json.key("threads").number(uint64_t{report.threads});
  json.key("running_threads").number(uint64_t{report.running_threads});
  json.key("batches").number(uint64_t{report.batches});
  json.key("zero_inputs").boolean(report.zeros);
  json.key("load_ms").number(kMilli * report.load);
  json.key("first_ms").number(kMilli * report.first);
  json.key("runs").number(uint64_t{report.runs.size()});
  json.key("median_ms").number(kMilli * percentile(report.runs, 50));
  json.key("min_ms").number(kMilli * report.runs.front());
  json.key("p90_ms").number(kMilli * percentile(report.runs, 90));
  json.key("peak_resident_bytes").number(uint64_t{report.peak});
  json.key("outputs").begin_array();
  for (size_t i = 0; i < report.files.size(); ++i) {
    json.begin_object();
    json.key("name").text(plan.outputs()[i].name);
    json.key("file").text(report.files[i]);
    json.end_object();
  }
  json.end_array();
  json.key("profile").begin_array();
  for (size_t i = 0; i < report.profile.size(); ++i) {
    const OpInfo& op = plan.ops()[i];
    json.begin_object();
    json.key("op").text(op.name);
    json.key("kind").text(op.kind);
    json.key("kernel").text(op.kernel);
    json.key("median_us").number(kMicro * report.profile[i]);
    json.end_object();
  }
  json.end_array();
  json.key("digests").begin_array();
  for (size_t i = 0; i < report.digests.size(); ++i) {
    const OpInfo& op = plan.ops()[i];
    json.begin_object();
    json.key("op").text(op.name);
    json.key("tensor").text(op.output.name);
    json.key("sha256").text(report.digests[i]);
    json.end_object();
  }
  json.end_array();
  json.end_object();
  return json.finish();
}

std::string format_text(const Report& report) {
  const Plan& plan = *report.plan;
  std::string text = print("%s plan for %s, %zu thread%s%s\n", isa_info(plan.isa()).name,
                           plan.target(), report.threads, report.threads == 1 ? "" : "s",
                           report.zeros ? ", inputs of zeros" : "");
  if (report.running_threads < report.threads) {
    text += print("%zu of them run: there are no more cores for them\n", report.running_threads);
  }
  text += print("load %.2f ms, first run %.2f ms\n", kMilli * report.load, kMilli * report.first);
  text += print("%zu run%s: median %.3f ms, min %.3f ms, 90 %% within %.3f ms", report.runs.size(),
                report.runs.size() == 1 ? "" : "s", kMilli * percentile(report.runs, 50),
                kMilli * report.runs.front(), kMilli * percentile(report.runs, 90));
  if (report.batches > 1) text += print(", for %zu batches", report.batches);
  text += '\n';
  if (report.peak > 0)
    text += print("peak memory %.2f MB\n", 1e-6 * static_cast<double>(report.peak));
  for (size_t i = 0; i < report.files.size(); ++i) {
    text += print("output %s: %s\n", plan.outputs()[i].name, report.files[i].c_str());
  }
  for (size_t i = 0; i < report.profile.size(); ++i) {
    const OpInfo& op = plan.ops()[i];
    text +=
        print("%10.1f us  %-14s %s %s\n", kMicro * report.profile[i], op.kind, op.name, op.kernel);
  }
  for (size_t i = 0; i < report.digests.size(); ++i) {
    const OpInfo& op = plan.ops()[i];
    text += print("%s  %s %s\n", report.digests[i].c_str(), op.name, op.output.name);
  }
  return text;
}

}  // namespace edgekit::runner
