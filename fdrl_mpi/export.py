"""Write a run for other programs: a policy, the global one or an agent's own, or with --to its numbers."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdrl_mpi import __version__
from fdrl_mpi.config_file import ConfigError
from fdrl_mpi.process import LEFT, REFUSED, positive_seconds, prepare_process

if TYPE_CHECKING:
    from fdrl_mpi.arrays import FloatMatrix, FloatVector
    from fdrl_mpi.envs.vector import VectorEnv
    from fdrl_mpi.reporting.runs import Run
    from fdrl_mpi.rl.hyperparameters import LearnerConfig
    from fdrl_mpi.rl.model import Model
    from fdrl_mpi.steps import ActionSpec
    from fdrl_mpi.trained_run import TrainedRun

SCHEMA = "fdrl_mpi-policy-1"
FORMAT = "safetensors"
TRACKERS = {
    "csv": ("", ""),
    "tensorboard": ("tensorboard", "tensorboard --logdir {folder}"),
    "wandb": ("wandb", "nothing has been sent; to do so: wandb sync {paths[0]}"),
    "mlflow": ("mlflow", "mlflow ui --backend-store-uri sqlite:///{paths[0]}"),
}
"""What numbers can be written for: the library that it takes, and how to see them."""


@dataclass(frozen=True)
class Policy:
    """What is written.

    Attributes
    ----------
    tensors : dict of float32 arrays
        Under the names of torch modules; see `mlp_state_dict`.
    facts : dict of JSON values
        What it takes to rebuild the network and to act with it.
    """

    tensors: "dict[str, FloatMatrix]"
    facts: dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Export what the command line asks for; return the exit status."""
    options = _parse(argv)
    prepare_process()
    return _export_policy(options) if options.to is None else _export_numbers(options)


def _export_policy(options: argparse.Namespace) -> int:
    from fdrl_mpi.trained_run import load_trained_run

    try:
        formats = chosen_formats(options.format)
        run = load_trained_run(options.run, options.round)
        policy = trained_policy(run, options.agent)
        paths = write_policy(policy, options.out or run.directory.exported, formats)
    except (ConfigError, OSError, ValueError) as error:
        return _refuse(str(error))
    for damage in run.damage:
        print(f"{damage}\n    round {run.round} is used", file=sys.stderr)
    print("\n".join(map(str, paths)))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fdrl_mpi.export", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run directory; the run may still be going on")
    parser.add_argument(
        "--agent",
        type=int,
        metavar="K",
        help="own policy of agent K, as policy_agent_K (default: the global one, as policy)",
    )
    parser.add_argument(
        "--round", type=int, metavar="R", help="checkpoint to use (default: the newest whole one)"
    )
    parser.add_argument(
        "--format",
        choices=[*WRITERS, "both"],
        default=FORMAT,
        help="of the tensors (default: safetensors); a description in JSON is always written",
    )
    parser.add_argument(
        "--to",
        choices=list(TRACKERS),
        help="write the numbers of all rounds instead, as tables or for a tracker, on this disk; trackers "
        "get curves of single agents where there are 64 at most",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="with --to tensorboard: write what a run records until it ends, and end with its exit status",
    )
    parser.add_argument(
        "--every",
        type=positive_seconds,
        default=5.0,
        metavar="SECONDS",
        help="time between two looks at a run that is followed (default: 5)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write to (default: RUN/exported, of numbers a folder in it)",
    )
    options = parser.parse_args(argv)
    if options.to and (options.agent, options.round, options.format) != (None, None, FORMAT):
        parser.error("--agent, --round and --format are for a policy, --to is for the numbers of all rounds")
    if options.follow and options.to != "tensorboard":
        parser.error("--follow needs --to tensorboard, the only one that shows a run while it grows")
    return options


def _export_numbers(options: argparse.Namespace) -> int:
    """Write the record of a run as `options.to` wants it; return the exit status."""
    from fdrl_mpi.reporting.runs import load_run

    library, remark = TRACKERS[options.to]
    if library and find_spec(library) is None:
        return _refuse(f"the library {library} is not installed\n    pip install {library}")
    folder = options.out or Path(options.run) / "exported" / options.to
    try:
        if options.follow:
            return _follow(options, folder)
        run = load_run(options.run)
        paths = _writer(options.to)(run, folder)
    except (OSError, ValueError) as error:
        return _refuse(str(error))
    print("\n".join(map(str, paths)))
    if remark:
        print(remark.format(folder=folder, paths=paths), file=sys.stderr)
    return 0


def _writer(name: str) -> "Callable[[Run, Path], list[Path]]":
    """Load what writes numbers, and the library that it takes."""
    if name == "csv":
        from fdrl_mpi.trackers.csv_tables import write_tables

        return write_tables
    if name == "tensorboard":
        from fdrl_mpi.trackers.tensorboard_events import write_events

        return write_events
    if name == "wandb":
        from fdrl_mpi.trackers.wandb_offline import write_offline_run

        return write_offline_run
    from fdrl_mpi.trackers.mlflow_store import write_store

    return write_store


def _follow(options: argparse.Namespace, folder: Path) -> int:
    """Keep event files up to date while a run goes on."""
    from fdrl_mpi.trackers.tensorboard_events import follow_events

    print(TRACKERS[options.to][1].format(folder=folder), file=sys.stderr)
    try:
        return follow_events(Path(options.run), folder, options.every)
    except KeyboardInterrupt:
        return LEFT


def _refuse(reason: str) -> int:
    print(f"fdrl_mpi.export: {reason}", file=sys.stderr)
    return REFUSED


def chosen_formats(name: str) -> list[str]:
    """List the formats behind one choice.

    Raises
    ------
    ValueError
        If a library is missing.
    """
    formats = list(WRITERS) if name == "both" else [name]
    if "safetensors" in formats and find_spec("safetensors") is None:
        raise ValueError(
            "the library safetensors is not installed\n"
            '    pip install "fdrl-mpi[export]", or choose --format torch'
        )
    return formats


def trained_policy(run: "TrainedRun", agent: int | None) -> Policy:
    """Take a policy out of a run.

    Parameters
    ----------
    agent : int or None
        Agent id whose own policy is wanted; None for the global one.

    Raises
    ------
    ValueError
        If there is no such policy, or configuration and checkpoint do not fit together.
    """
    from fdrl_mpi.build_agent import draw_worlds, make_environment

    params = _model(run, agent)
    world = draw_worlds(run.config, run.policies.num_agents)[(agent or 1) - 1]
    environment = make_environment(run.config.environment, [world])
    model = run.model(environment)
    model.params[:] = params
    tensors = model.state_dict()
    facts = {
        "schema": SCHEMA,
        "program": f"fdrl_mpi {__version__}",
        "run": str(run.directory.path.resolve()),
        "round": run.round,
        "agent": agent,
        "environment": run.config.environment.id,
        "context": None if agent is None else world,
        "federated": _federated(run),
        **_space_facts(environment, run.config.environment.id),
        **_network_facts(model, run.config.learner),
        "log_std": tensors["log_std"].tolist() if "log_std" in tensors else None,
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
    }
    return Policy(tensors, facts)


def _model(run: "TrainedRun", agent: int | None) -> "FloatVector":
    policies, path = run.policies, run.directory.path
    if agent is None:
        if policies.shared is None:
            raise ValueError(
                f"{path}: every agent has a model of its own, there is no global policy\n"
                f"    choose --agent 1 to {policies.num_agents}"
            )
        return policies.shared
    if not policies.own:
        raise ValueError(f"{path}: a centralised run has one policy\n    leave out --agent")
    if not 1 <= agent <= policies.num_agents:
        raise ValueError(f"{path}: there is no agent {agent}\n    choose --agent 1 to {policies.num_agents}")
    return policies.own[agent - 1]


def _federated(run: "TrainedRun") -> Any:
    """Name what agents have in common; in a global policy, the rest is as the run began."""
    share = {"model": "all", "part": getattr(run.config.learner, "share", "all"), "nothing": None}
    return share[run.policies.common]


def _space_facts(environment: "VectorEnv", environment_id: str) -> dict[str, Any]:
    """Say what the policy reads and how its outputs become an action."""
    from fdrl_mpi.build_agent import ENVIRONMENTS

    spec = environment.action_spec
    is_known = environment_id in ENVIRONMENTS or environment_id.startswith("gym:")
    gymnasium_order = f"that of gymnasium's {environment_id.removeprefix('gym:')}, flattened"
    order = getattr(environment, "observation_order", gymnasium_order if is_known else None)
    return {
        "observation_size": environment.observation_size,
        "observation_shape": list(environment.observation_shape),
        "observation_divisor": environment.observation_divisor,
        "observation_order": order,
        "action_kind": spec.kind,
        "action_size": spec.size,
        **_action_facts(spec),
    }


def _action_facts(spec: "ActionSpec") -> dict[str, Any]:
    if spec.kind == "discrete":
        greedy = "action_low plus the index of the actor's largest output, counted from 0"
        return {"action_low": int(spec.low[0]), "action_high": int(spec.high[0]), "greedy_action": greedy}
    if spec.kind == "multi_discrete":
        greedy = (
            "for each number of action_sizes so many of the actor's outputs, one after the other: action_low "
            "plus the index of the largest, counted from 0"
        )
        bounds = {
            "action_low": [int(first) for first in spec.low],
            "action_high": [int(last) for last in spec.high],
        }
        return {"action_sizes": list(spec.sizes), **bounds, "greedy_action": greedy}
    greedy = "the actor's outputs, clipped to action_low and action_high (null: no bound)"
    return {"action_low": _bounds(spec.low), "action_high": _bounds(spec.high), "greedy_action": greedy}


def _bounds(values: Sequence[float]) -> list[float | None]:
    return [value if isfinite(value) else None for value in values]


def _network_facts(model: "Model", learner: "LearnerConfig") -> dict[str, Any]:
    """Say how the tensors form a network; of a user's own module only its class is known."""
    network = getattr(learner, "network", None)
    if network is not None and network.module:
        return {"module": network.module, "layers": None, "activation": None, "convolutions": None}
    return {"module": None, **model.describe()}


def write_policy(policy: Policy, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write ``policy.*``, of an agent's own policy ``policy_agent_K.*``, each atomically; return the paths.

    The description, with suffix ``.json``, comes last and names the files that belong to it.
    """
    from fdrl_mpi.record.atomic_file import replacing, write_json

    folder.mkdir(parents=True, exist_ok=True)
    agent = policy.facts["agent"]
    stem = "policy" if agent is None else f"policy_agent_{agent}"
    paths = []
    for name in formats:
        suffix, write = WRITERS[name]
        paths.append(folder / f"{stem}{suffix}")
        with replacing(paths[-1]) as temporary:
            write(policy, temporary)
    description = folder / f"{stem}.json"
    write_json(description, {**policy.facts, "files": [path.name for path in paths]})
    return [*paths, description]


def _write_safetensors(policy: Policy, path: Path) -> None:
    """Write the tensors, with the facts as text in the metadata: text as it stands, the rest as JSON."""
    from safetensors.numpy import save

    texts = {
        name: fact if isinstance(fact, str) else json.dumps(fact, allow_nan=False)
        for name, fact in policy.facts.items()
    }
    path.write_bytes(save(policy.tensors, texts))  # its save_file makes a file that only the owner may read


def _write_torch(policy: Policy, path: Path) -> None:
    """Write a plain dictionary of tensors, for `load_state_dict`."""
    import torch

    torch.save({name: torch.from_numpy(tensor) for name, tensor in policy.tensors.items()}, path)


WRITERS: dict[str, tuple[str, Callable[[Policy, Path], None]]] = {
    "safetensors": (".safetensors", _write_safetensors),
    "torch": (".pt", _write_torch),
}


if __name__ == "__main__":
    sys.exit(main())
