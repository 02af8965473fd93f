#!/bin/bash
# Train in a Flux job: flux run starts the ranks. From the repository's folder:
#
#   flux batch --nodes=2 --nslots=17 jobs/flux.sh --config configs/cartpole.toml
#
# NOT RUN: Flux was not available. It needs the plugin flux-pmix (flux run -o pmi=pmix) for Open MPI.
# What a time limit costs is what came after the last checkpoint (checkpoint.every); submit again to go on.
#
#FLUX: --job-name=fdrl
#FLUX: --time-limit=4h
# A site may want: #FLUX: --bank=... --queue=...

set -euo pipefail
# A site's own software: module load python openmpi; export FDRL_MPI=system.
source jobs/setup.sh report,export
exec python -m fdrl_mpi.launch --by flux --ranks "${RANKS:-17}" "$@"
