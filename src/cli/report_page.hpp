// The page of a report: one file, which loads nothing.
#pragma once

#include <string>
#include <string_view>

namespace tokenyard::cli {

// `sentence` stands in the page itself, for readers without scripts; `report` is what report_json() gives.
std::string report_page(std::string_view sentence, std::string_view report);

}  // namespace tokenyard::cli
