#!/usr/bin/env bash
# Train on this machine: install what is missing, run, report.
#
#   jobs/workstation.sh --config configs/cartpole.toml --learner.lr 3e-4
#   RANKS=5 jobs/workstation.sh ...        one root and four agents (default 17: one root, sixteen agents)
#
# The exit status is the run's: 0 finished, 2 refused, 85 stopped early with its state saved (start again to go on).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" report,export

for argument in "$@"; do
    case $argument in
        -h | --help | --print-config) exec python -m fdrl_mpi.train "$@" ;;
    esac
done

ranks=${RANKS:-17}
threads_per_core=$((1 + $(cat /sys/devices/system/cpu/smt/active 2>/dev/null || echo 0)))
cores=$(($(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) / threads_per_core)) # mpirun counts cores, not threads
placement=()
if [ "$ranks" -gt "$cores" ]; then placement=(--oversubscribe --bind-to none); fi

FDRL_RUN_FILE=$(mktemp)
export FDRL_RUN_FILE # the root writes the path of its run directory here
trap 'rm -f "$FDRL_RUN_FILE"' EXIT

# mpirun gives its ranks 0.2 s to end after SIGINT or SIGTERM: too little to save. In a process group of its own
# (set -m) it does not see them; it gets SIGUSR1 instead, which it passes on. A second signal ends the run at once.
set -m
mpirun -n "$ranks" "${placement[@]}" python -m fdrl_mpi.train "$@" </dev/null &
set +m
mpirun=$!
trap 'kill -USR1 "$mpirun"; trap "kill -TERM $mpirun" INT TERM' INT TERM USR1
while kill -0 "$mpirun" 2>/dev/null; do wait "$mpirun" || true; done
wait "$mpirun"

run=$(<"$FDRL_RUN_FILE")
[ -n "$run" ] || exit 0 # a dry run
python -m fdrl_mpi.report "$run"
printf 'result: %s\nreport: %s\n' "$run" "$run/report.html"
