// Everything.
#pragma once

#include "tokenyard/error.hpp"
#include "tokenyard/exchange.hpp"
#include "tokenyard/execution.hpp"
#include "tokenyard/group.hpp"
#include "tokenyard/log.hpp"
#include "tokenyard/plan.hpp"
#include "tokenyard/quantize.hpp"
#include "tokenyard/router.hpp"
#include "tokenyard/routing.hpp"
#include "tokenyard/shape.hpp"
#include "tokenyard/tensor_view.hpp"
#include "tokenyard/trace.hpp"
#include "tokenyard/version.hpp"
#include "tokenyard/window.hpp"
