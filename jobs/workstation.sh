#!/usr/bin/env bash
# Train on this machine: install what is missing, run, report.
#
#   jobs/workstation.sh --config configs/cartpole.toml --learner.lr 3e-4
#   RANKS=5 jobs/workstation.sh ...             one root and four agents (default 17: one root, sixteen agents)
#   jobs/workstation.sh --until-done ...        start again after a failure, for as long as the run gets further
#   jobs/workstation.sh --faults.mode survive   go on without ranks that die: mpirun gets the flags for it
#
# The exit status is the run's: 0 finished, 2 refused, 85 stopped early with its state saved (start again to go on).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" report,export
exec python -m fdrl_mpi.launch --ranks "${RANKS:-17}" "$@"
