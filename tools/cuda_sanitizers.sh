#!/usr/bin/env bash
# usage: cuda_sanitizers.sh [FOLDER]
#
# Runs a short selection of the tests on GPUs under the tools of compute-sanitizer: memcheck, initcheck, synccheck and racecheck,
# which sees shared memory alone. Prints a line per tool and test program, `ok` or what was found, and exits with 1 if anything was.
# FOLDER holds the test programs, somewhere below it: by default build/release. Logs stay in FOLDER/cuda_sanitizers.
#
# Needs a GPU, two for captured graphs, and compute-sanitizer, which comes with CUDA's toolkit: from PATH, or named by
# COMPUTE_SANITIZER. SANITIZER_TOOLS="memcheck synccheck" runs some of the tools only; SANITIZER_LIMIT (1200) seconds are what a
# program may take under one.
set -euo pipefail

folder=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/build/release}
sanitizer=${COMPUTE_SANITIZER:-$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)}
read -r -a tools <<<"${SANITIZER_TOOLS:-memcheck initcheck synccheck racecheck}"

[[ -x $sanitizer ]] || {
  echo "cuda_sanitizers.sh needs compute-sanitizer, and there is none at $sanitizer: set COMPUTE_SANITIZER" >&2
  exit 2
}

# Per test program: what is run of it. Ranks of the engine are processes: while one waits for its stream, a tool keeps the others
# of the process from launching what that stream waits for.
declare -A selections=(
  [cuda_kernels_test]='*'
  [cuda_engine_processes_test]='cuda_process_failures*:*CudaGraphsOfProcesses*:cuda_graphs_of_processes*'
  [cuda_random_shapes_processes_test]='*'
)
order=(cuda_kernels_test cuda_engine_processes_test cuda_random_shapes_processes_test)

# Kernels are tens of times slower here, and what goes right must not miss its deadline.
export TOKENYARD_TEST_TIMEOUT=600 TOKENYARD_TEST_RANKS=${TOKENYARD_TEST_RANKS:-3}
export TOKENYARD_TEST_SHAPES=${TOKENYARD_TEST_SHAPES:-12} TOKENYARD_TEST_EXCHANGES=${TOKENYARD_TEST_EXCHANGES:-100}
export CUDA_MODULE_LOADING=EAGER CUDA_DEVICE_MAX_CONNECTIONS=32

logs=$folder/cuda_sanitizers
mkdir -p "$logs"
status=0
for tool in "${tools[@]}"; do
  for program in "${order[@]}"; do
    options=(--tool "$tool" --target-processes all --error-exitcode 99 --print-limit 20)
    selection=${selections[$program]}
    replays=20
    case $tool.$program in
      # With each launch it takes memory for as many barriers as it shall track, more of them than by itself. Where hundreds of
      # launches are under way it runs out of that, and holds launches back that others wait for.
      synccheck.cuda_kernels_test)
        options+=(--num-cuda-barriers 65536)
        selection+='-*turns_follow_each_other*:*reach_more_ranks*'
        ;;
      synccheck.*)
        options+=(--num-cuda-barriers 8192)
        replays=4
        ;;
      # It waits for a graph that it has launched, and ranks launch those of two plans in different orders.
      initcheck.cuda_engine_processes_test) selection+='-*two_plans*' ;;
    esac
    path=$(find "$folder" -type f -name "$program" -perm -u+x -print -quit)
    if [[ -z $path ]]; then
      printf '%-10s %-32s missing: build it first\n' "$tool" "$program"
      status=1
      continue
    fi
    log=$logs/$tool.$program.log
    begin=$SECONDS
    result=0
    TOKENYARD_TEST_REPLAYS=$replays timeout -k 10 "${SANITIZER_LIMIT:-1200}" \
      "$sanitizer" "${options[@]}" "$path" --gtest_filter="$selection" >"$log" 2>&1 || result=$?
    num_passed=$(grep -c '^\[       OK \]' "$log" || true)
    num_skipped=$(grep -c '^\[  SKIPPED \].* ms)$' "$log" || true)
    summary=$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" | tail -n 1 | sed 's/^=* *//' || true)
    if ((result == 0 && num_passed > 0)) && [[ $summary == *'SUMMARY: 0 '* ]]; then
      verdict="ok: $num_passed tests"
      if ((num_skipped > 0)); then verdict+=", and $num_skipped skipped"; fi
    elif ((result == 0 && num_passed == 0)); then
      verdict='no test ran: no GPU is visible'
      result=1
    elif ((result == 124 || result == 137)); then
      verdict="not finished within ${SANITIZER_LIMIT:-1200} s"
    else
      verdict="exit status $result; ${summary:-no summary}"
      result=1
    fi
    printf '%-10s %-32s %4d s  %s\n' "$tool" "$program" $((SECONDS - begin)) "$verdict"
    if ((result != 0)); then status=1; fi
  done
done
((status == 0)) || echo "the logs are in $logs"
exit "$status"
