// Who may join: what a process at rank 0's door must say, and prove where there is a secret.
//
// A process that speaks Tokenyard but does not fit the job ends the rendezvous: the job was started wrongly, and waiting would
// only hide it. Where there is a secret, only who has proved that it knows it can do that; all others are told what is wrong
// and turned away.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "exchange/connection.hpp"
#include "exchange/crypto.hpp"
#include "exchange/tcp_wire.hpp"
#include "exchange/verdict.hpp"

namespace tokenyard {

class Admission {
 public:
  struct Candidate {
    Connection connection;
    std::optional<Hello> hello;  // said, and answered with the challenge
    Nonce challenge{};
  };

  struct Judgement {
    enum class Kind : std::uint8_t {
      kWaits,    // its next message decides
      kJoins,    // it is the rank of its hello, and has been told so
      kGoes,     // it is no rank of this job
      kEndsAll,  // the rendezvous cannot go on; the candidate has not been told yet
    };
    Kind kind;
    Verdict verdict;  // of kEndsAll; of kGoes, if it was told one
  };

  Admission(int num_ranks, std::optional<Key> secret, std::string rank_zero);

  Judgement hear(Candidate& candidate, const Frame& frame);

 private:
  Judgement hear_hello(Candidate& candidate, const Frame& frame);
  Judgement hear_answer(Candidate& candidate, const Frame& frame);
  Judgement join(const Candidate& candidate);
  Judgement refuse_unproved(Candidate& candidate, Verdict verdict) const;

  std::optional<std::string> misfit_of_kind(const Frame& frame, const Hello& hello, const std::string& peer) const;
  std::optional<std::string> misfit_of_place(const Hello& hello, const std::string& peer) const;

  std::optional<Key> secret_;
  std::vector<std::string> joined_;  // by rank: from where, or empty
};

}  // namespace tokenyard
