"""All experiments, by name."""

from fdrl_mpi.published import fedavg_dqn, fedpg, fedtd, importance, own_networks, qavg
from fdrl_mpi.published.experiment import Experiment

MODULES = (qavg, fedtd, importance, fedpg, fedavg_dqn, own_networks)

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for module in MODULES for experiment in module.experiments()
}
