// Times and numbers that the TCP exchange keeps to.
#pragma once

#include <chrono>
#include <cstddef>

namespace tokenyard {

// How long beyond its deadline a rank waits for rank 0's word on who was missing, and rank 0 for its words to leave.
inline constexpr std::chrono::milliseconds kGrace{2'000};

// From accepting a connection to knowing who it is, proof included.
inline constexpr std::chrono::milliseconds kHelloLimit{2'000};

// Connections beyond the number of ranks that may be open before they said who they are. Several times as many as are accepted
// between two looks at all of them: in a flood, a rank is then more likely heard than put out.
inline constexpr std::size_t kMaxStrangers = 256;
inline constexpr int kAcceptsPerTurn = 64;

// One try to reach one address.
inline constexpr std::chrono::milliseconds kConnectLimit{3'000};

// Between tries to reach rank 0; doubles from the first to the last.
inline constexpr std::chrono::milliseconds kFirstPause{10};
inline constexpr std::chrono::milliseconds kLongestPause{250};

}  // namespace tokenyard
