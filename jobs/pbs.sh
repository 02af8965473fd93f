#!/bin/bash
# Train in a PBS job (OpenPBS, PBS Pro): mpirun starts the ranks on the hosts of the job. From the repository's folder:
#
#   qsub -v ARGUMENTS="--config configs/cartpole.toml" jobs/pbs.sh          (without commas: they separate variables)
#
# NOT RUN: PBS was not available. What mpirun does with the job's host file is; between hosts it starts its
# daemons by ssh, so ssh between the nodes of a job must work without a password.
# After status 85 submit again, and the run goes on; the site's kill_delay is the time it has to save.
#
#PBS -N fdrl
#PBS -l select=2:ncpus=9:mpiprocs=9
#PBS -l walltime=04:00:00
#PBS -j oe
#PBS -r y
# A site may want: #PBS -A ... -q ...

set -euo pipefail
cd "$PBS_O_WORKDIR"
# A site's own software: module load python openmpi; export FDRL_MPI=system.
source jobs/setup.sh report,export
# shellcheck disable=SC2086
exec python -m fdrl_mpi.launch ${ARGUMENTS:-} # SIGTERM at the end of the walltime: the run saves its state
