"""What an offline run of Weights & Biases is given."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fdrl_mpi.reporting.runs import load_run

MakeRun = Callable[..., Path]
WithLibrary = Callable[..., Any]


def test_each_round_is_told_once_in_order_and_nothing_is_sent(
    make_run: MakeRun, tmp_path: Path, with_library: WithLibrary
) -> None:
    asked: dict[str, Any] = {}
    told: dict[int, dict[str, float]] = {}
    summary: dict[str, str] = {}

    def init(**options: Any) -> SimpleNamespace:
        asked.update(options)
        return SimpleNamespace(
            log=lambda values, step: told.update({step: values}),
            summary=summary,
            dir=str(tmp_path / "wandb" / "offline-run-1" / "files"),
            finish=lambda: None,
        )

    tracker = with_library("wandb_offline", {"wandb": {"init": init, "Settings": dict}})
    written = tracker.write_offline_run(load_run(make_run()), tmp_path)
    assert written == [tmp_path / "wandb" / "offline-run-1"]
    assert (asked["mode"], asked["dir"], asked["name"]) == ("offline", str(tmp_path), "one")
    assert asked["config"] == {"mode": "federated", "rounds": 5}
    assert list(told) == [1, 2, 3, 4, 5]
    assert told[3]["performance/evaluation_return"] == 58.0
    assert told[3]["agent_2/performance/train_return"] == 32.0
    assert "performance/evaluation_return" not in told[2]
    assert summary == {"outcome": "finished", "reason": "all rounds are done"}
