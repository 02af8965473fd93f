"""All experiments, by name."""

from fdrl_mpi.published import fedtd, importance, qavg
from fdrl_mpi.published.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for module in (qavg, fedtd, importance) for experiment in module.experiments()
}
