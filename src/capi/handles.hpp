// What the handles of the C interface hold: one reference to an object of the C++ interface, which shares what it needs.
#pragma once

#include <memory>
#include <utility>
#include <variant>

#include "tokenyard.h"
#include "tokenyard/exchange.hpp"
#include "tokenyard/group.hpp"
#include "tokenyard/plan.hpp"
#include "tokenyard/router.hpp"
#include "tokenyard/routing.hpp"
#include "tokenyard/window.hpp"

struct ty_exchange {
  std::shared_ptr<tokenyard::Exchange> exchange;
};

struct ty_group {
  tokenyard::Group group;
};

struct ty_window {
  tokenyard::Window window;
};

struct ty_plan {
  tokenyard::Plan plan;
};

struct ty_pending {
  std::variant<tokenyard::PendingDispatch, tokenyard::PendingCombine> call;

  const tokenyard::Pending& half() const {
    return std::visit([](const tokenyard::Pending& pending) -> const tokenyard::Pending& { return pending; }, call);
  }
};

struct ty_received {
  explicit ty_received(tokenyard::Received made) : received(std::move(made)) {}

  tokenyard::Received received;
};

struct ty_routing {
  tokenyard::Routing routing;
};

struct ty_router {
  tokenyard::Router router;
};
