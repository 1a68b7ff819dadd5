#include "cli/doctor/finding.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "base/fail.hpp"
#include "cli/json.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::array kVerdicts{Verdict::kOk, Verdict::kNotApplicable, Verdict::kWarning, Verdict::kFailure};
constexpr std::array kSections{Section::kSoftware, Section::kProcessor,  Section::kMemory, Section::kSharing, Section::kGpus,
                               Section::kNetwork,  Section::kRendezvous, Section::kRanks,  Section::kSelfTest};

template <class Word, std::size_t kNumWords>
Word parse(const std::array<Word, kNumWords>& words, const std::string& text) {
  const auto word = std::find_if(words.begin(), words.end(), [&](Word candidate) { return text == to_string(candidate); });
  if (word == words.end()) fail_argument("\"{}\" is no word of a finding", text);
  return *word;
}

}  // namespace

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk: return "ok";
    case Verdict::kNotApplicable: return "not applicable";
    case Verdict::kWarning: return "warning";
    case Verdict::kFailure: return "failure";
  }
  return "";
}

const char* to_string(Section section) {
  switch (section) {
    case Section::kSoftware: return "software";
    case Section::kProcessor: return "processor";
    case Section::kMemory: return "memory";
    case Section::kSharing: return "shared memory";
    case Section::kGpus: return "GPUs";
    case Section::kNetwork: return "network";
    case Section::kRendezvous: return "rendezvous";
    case Section::kRanks: return "ranks";
    case Section::kSelfTest: return "self-test";
  }
  return "";
}

void SectionFindings::ok(std::string name, std::string value, std::string why) {
  add(std::move(name), std::move(value), Verdict::kOk, std::move(why), {});
}

void SectionFindings::not_applicable(std::string name, std::string why) {
  add(std::move(name), {}, Verdict::kNotApplicable, std::move(why), {});
}

void SectionFindings::warning(std::string name, std::string value, std::string why, std::string cure) {
  add(std::move(name), std::move(value), Verdict::kWarning, std::move(why), std::move(cure));
}

void SectionFindings::failure(std::string name, std::string value, std::string why, std::string cure) {
  add(std::move(name), std::move(value), Verdict::kFailure, std::move(why), std::move(cure));
}

void SectionFindings::add(std::string name, std::string value, Verdict verdict, std::string why, std::string cure) {
  findings_.push_back({.section = section_,
                       .name = std::move(name),
                       .value = std::move(value),
                       .verdict = verdict,
                       .why = std::move(why),
                       .cure = std::move(cure),
                       .ranks = {}});
}

std::vector<Record> to_records(const Findings& findings) {
  std::vector<Record> records;
  for (const Finding& finding : findings) {
    records.push_back({{"section", to_string(finding.section)},
                       {"name", finding.name},
                       {"value", finding.value},
                       {"verdict", to_string(finding.verdict)},
                       {"why", finding.why},
                       {"cure", finding.cure},
                       {"ranks", finding.ranks}});
  }
  return records;
}

Findings to_findings(const std::vector<Record>& records) {
  Findings findings;
  for (const Record& record : records) {
    findings.push_back({.section = parse(kSections, find(record, "section").text),
                        .name = find(record, "name").text,
                        .value = find(record, "value").text,
                        .verdict = parse(kVerdicts, find(record, "verdict").text),
                        .why = find(record, "why").text,
                        .cure = find(record, "cure").text,
                        .ranks = find(record, "ranks").text});
  }
  return findings;
}

std::string to_text(const Findings& findings) { return to_json({}, "findings", to_records(findings)); }

Findings from_text(const std::string& text) { return to_findings(parse_json_list(text, "findings")); }

void append(Findings& findings, Findings more) {
  findings.insert(findings.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

int count(const Findings& findings, Verdict verdict) {
  return static_cast<int>(
      std::count_if(findings.begin(), findings.end(), [&](const Finding& finding) { return finding.verdict == verdict; }));
}

}  // namespace tokenyard::cli
