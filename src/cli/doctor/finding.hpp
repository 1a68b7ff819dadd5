// One line of what `tokenyard doctor` says.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cli/record.hpp"

namespace tokenyard::cli {

enum class Verdict : std::uint8_t {
  kOk,
  kNotApplicable,  // nothing of this kind is here, and nothing is missed
  kWarning,        // works, but worse than it could
  kFailure,        // ranks will not work
};

// In the order of the page.
enum class Section : std::uint8_t { kSoftware, kProcessor, kMemory, kSharing, kGpus, kNetwork, kRendezvous, kRanks, kSelfTest };

struct Finding {
  Section section;
  std::string name;
  std::string value;  // what was found; empty where there is nothing of the kind
  Verdict verdict = Verdict::kOk;
  std::string why;    // what the verdict rests on; may be empty for kOk
  std::string cure;   // what to do; not empty for kWarning and kFailure
  std::string ranks;  // that it is about, as in "0-3, 7"; empty: all
};

using Findings = std::vector<Finding>;

// Findings of one section.
class SectionFindings {
 public:
  explicit SectionFindings(Section section) : section_(section) {}

  void ok(std::string name, std::string value, std::string why = {});
  void not_applicable(std::string name, std::string why);
  void warning(std::string name, std::string value, std::string why, std::string cure);
  void failure(std::string name, std::string value, std::string why, std::string cure);

  Findings take() { return std::move(findings_); }

 private:
  void add(std::string name, std::string value, Verdict verdict, std::string why, std::string cure);

  Section section_;
  Findings findings_;
};

const char* to_string(Verdict verdict);  // "ok", "not applicable", "warning", "failure"
const char* to_string(Section section);  // "shared memory" and the like

// The keys: section, name, value, verdict, why, cure, ranks.
std::vector<Record> to_records(const Findings& findings);
Findings to_findings(const std::vector<Record>& records);

// A text that another process understands. from_text throws Error(kInvalidArgument) for what to_text has not written.
std::string to_text(const Findings& findings);
Findings from_text(const std::string& text);

void append(Findings& findings, Findings more);
int count(const Findings& findings, Verdict verdict);

}  // namespace tokenyard::cli
