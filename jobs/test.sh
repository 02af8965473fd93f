#!/usr/bin/env bash
# Everything a change must pass, in order; stops at the first failure. Needs nothing but Python >= 3.11.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source jobs/setup.sh report,export,envs,test

TMPDIR=$(mktemp -d) # what a killed mpirun leaves there keeps a later one of its process number from starting
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

export OMP_NUM_THREADS=1 # threads of a BLAS that wait for each other on a busy machine make tests 40 times slower

headline() { printf '\n== %s\n' "$*"; }

check() {
    headline "$@"
    "$@"
}

# Run the tests in $2... on $1 ranks. Rank 0 speaks; the others write to files, shown where they report a failure.
check_on_ranks() {
    local command=(python -m pytest -q --color=no --with-mpi -p no:cacheprovider "${@:2}") logs status=0
    logs=$(mktemp -d)
    headline mpirun -n "$1" "${command[@]}"
    timeout --verbose -k 10 900 mpirun --oversubscribe --bind-to none -n 1 "${command[@]}" : \
        -n $(($1 - 1)) bash -c 'exec "${@:2}" >"$1/rank_${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" 2>&1' - "$logs" "${command[@]}" |
        tr -d '\0' || status=$? # Open MPI ends its version with a NUL: grep would take the log for binary
    if [ "$status" -ne 0 ]; then
        grep -L -E '^[0-9]+ (passed|skipped)' "$logs"/* | xargs -r tail -n 100 -v | tr -d '\0' || true
    fi
    rm -r "$logs"
    return "$status"
}

check ruff format --check .
check ruff check .
check mypy --strict fdrl_mpi
check python -m pytest -q tests --ignore tests/mpi
for ranks in 2 3 5; do check_on_ranks "$ranks" tests/mpi; done
# How models move, for more agents: a full tree, and a prime number of ranks.
for ranks in 8 13; do check_on_ranks "$ranks" tests/mpi/test_{collectives,secure_ring,gossip,world,last_words}.py; done
