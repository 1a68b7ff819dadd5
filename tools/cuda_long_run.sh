#!/usr/bin/env bash
# usage: cuda_long_run.sh [FOLDER]
#
# The long run of the random tests on GPUs: SHAPES random shapes (10000) and EXCHANGES exchanges whose kernels dawdle (100000),
# with up to eight ranks as threads on each GPU, and a tenth of both with two ranks as processes. Every run of a program has a
# seed of its own, from SEED (1) on, and prints a line. FOLDER holds the test programs, somewhere below it: by default
# build/release. Logs stay in FOLDER/cuda_long_run; exits with 1 if anything failed.
#
# MINUTES=20 begins no more runs after so long, and says how far it came. PER_RUN (250) shapes make a run. WORKERS (2) programs
# use a GPU, or two, at a time: most of a case is work of the host and of the driver.
set -euo pipefail

folder=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/build/release}
shapes=${SHAPES:-10000} exchanges=${EXCHANGES:-100000} per_run=${PER_RUN:-250} workers=${WORKERS:-2} seed=${SEED:-1}
minutes=${MINUTES:-0}

find_program() {
  local path
  path=$(find "$folder" -type f -name "$1" -perm -u+x -print -quit)
  [[ -n $path ]] || {
    echo "cuda_long_run.sh needs $1 below $folder: build it first" >&2
    return 2
  }
  echo "$path"
}
threads=$(find_program cuda_random_shapes_threads_test)
processes=$(find_program cuda_random_shapes_processes_test)

mapfile -t gpus < <(
  if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES"; else
    nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null || true
  fi
)
((${#gpus[@]} > 0)) || {
  echo "cuda_long_run.sh needs a GPU, and nvidia-smi shows none" >&2
  exit 2
}

# Kernels must be there before one waits for a rank that would load the next.
export CUDA_MODULE_LOADING=EAGER CUDA_DEVICE_MAX_CONNECTIONS=32
logs=$folder/cuda_long_run
rm -rf "$logs"
mkdir -p "$logs"

is_over() { ((minutes > 0 && SECONDS > minutes * 60)); }

# Background jobs of a script do not hear of Ctrl-C: whoever ends the script, or a worker, ends what it has started.
started=()
# shellcheck disable=SC2329 # the traps below call it
stop() {
  trap - INT TERM
  for pid in "${started[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  exit 130
}
trap stop INT TERM

# run GPUS NAME PROGRAM SEED EXCHANGES: one run, and its line.
run() {
  local log=$logs/$2.$4.log begin=$SECONDS result=0
  CUDA_VISIBLE_DEVICES=$1 TOKENYARD_TEST_SEED=$4 TOKENYARD_TEST_SHAPES=$per_run TOKENYARD_TEST_EXCHANGES=$5 \
    timeout -k 10 3600 "$3" >"$log" 2>&1 &
  started=("$!")
  wait "$!" || result=$?
  if ((result == 0)) && grep -q '^\[  SKIPPED \]' "$log"; then result=skipped; fi
  if [[ $result == 0 ]]; then result=ok; fi
  echo "$result" >>"$logs/$2.results"
  printf '%-9s GPU %-5s seed %-6d %4d shapes, %5d exchanges %4d s  %s\n' \
    "$2" "$1" "$4" "$per_run" "$5" $((SECONDS - begin)) "$result"
}

num_runs=$(((shapes * 9 / 10 + per_run - 1) / per_run))
num_runs=$((num_runs > 0 ? num_runs : 1))
num_process_runs=$((((shapes + 9) / 10 + per_run - 1) / per_run))
per_run_exchanges=$(((exchanges * 9 / 10 + num_runs - 1) / num_runs))
status=0

# run_all NAME PROGRAM COUNT GPUS...: so many runs, one at a time on each of GPUS.
run_all() {
  local name=$1 program=$2 count=$3 worker pid
  shift 3
  local places=("$@") worker_pids=()
  for ((worker = 0; worker < ${#places[@]}; ++worker)); do
    {
      trap stop INT TERM
      for ((i = worker; i < count; i += ${#places[@]})); do
        if is_over; then
          touch "$logs/left_out"
        else
          run "${places[worker]}" "$name" "$program" $((seed + i)) "$per_run_exchanges"
        fi
      done
    } &
    worker_pids+=("$!")
  done
  started=("${worker_pids[@]}")
  for pid in "${worker_pids[@]}"; do wait "$pid" || status=1; done
}

pairs=("${gpus[0]}${gpus[1]:+,${gpus[1]}}")
for ((i = 2; i + 1 < ${#gpus[@]}; i += 2)); do pairs+=("${gpus[i]},${gpus[i + 1]}"); done
places=() places_of_pairs=()
for ((worker = 0; worker < workers; ++worker)); do places+=("${gpus[@]}") places_of_pairs+=("${pairs[@]}"); done
run_all threads "$threads" "$num_runs" "${places[@]}"
run_all processes "$processes" "$num_process_runs" "${places_of_pairs[@]}"

for name in threads processes; do
  results=$logs/$name.results
  [[ -f $results ]] || touch "$results"
  due=$num_runs
  if [[ $name == processes ]]; then due=$num_process_runs; fi
  num_ok=$(grep -c '^ok$' "$results" || true)
  num_other=$(grep -vc '^ok$' "$results" || true)
  echo "$name: $((num_ok * per_run)) shapes and $((num_ok * per_run_exchanges)) exchanges passed, $num_other runs did not"
  if ((num_other > 0)) || { ((num_ok < due)) && [[ ! -f $logs/left_out ]]; }; then status=1; fi
done
if [[ -f $logs/left_out ]]; then echo "stopped after $minutes minutes: more was due"; fi
((status == 0)) || echo "the logs are in $logs"
exit "$status"
