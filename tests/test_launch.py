"""The launcher, with stand-ins for mpirun: what it starts, and which status it returns."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdrl_mpi.batch_system import TOGETHER
from fdrl_mpi.launch import Job, Options, command, main, parse
from fdrl_mpi.launch_flags import FLAGS
from fdrl_mpi.record.checkpoint import CheckpointStore

VERDICT = {"round": 7, "rounds": 9, "reason": "x", "final_evaluation_return": None, "wall_s": 1.0}


def _script(folder: Path, body: str) -> list[str]:
    """Write a stand-in for mpirun: it knows a run directory, and does what `body` says."""
    (folder / "run").mkdir(exist_ok=True)
    text = "import os, pathlib, signal, sys, time\nfrom fdrl_mpi.process import tell_launcher\n"
    text += f"run = pathlib.Path({str(folder / 'run')!r})\n"
    text += f"def verdict(outcome, round=7):\n    import json\n    known = {VERDICT!r}\n"
    text += "    known |= {'outcome': outcome, 'round': round}\n"
    text += "    (run / 'verdict.json').write_text(json.dumps(known))\n"
    text += "def begin():\n    (run / 'verdict.json').unlink(missing_ok=True)\n"
    text += "    tell_launcher(run=run)\n"
    (folder / "mpirun.py").write_text(text + body)
    return [sys.executable, str(folder / "mpirun.py")]


def test_own_options_come_first_and_the_rest_is_for_training():
    assert parse(["--ranks", "5", "--until-done", "--rounds", "3"]) == Options(
        5, until_done=True, training=("--rounds", "3")
    )
    assert parse(["--rounds", "3", "--ranks", "5"]).training == ("--rounds", "3", "--ranks", "5")
    assert parse(["--by", "srun", "--requeue"]) == Options(launcher="srun", requeue=True)
    with pytest.raises(ValueError, match="number"):
        parse(["--ranks", "many"])
    with pytest.raises(ValueError, match="from 1 on"):
        parse(["--ranks", "0"])
    with pytest.raises(ValueError, match="mpirun, srun, flux"):
        parse(["--by", "ssh"])


def test_mpirun_gets_the_flags_that_the_configuration_needs():
    plain = command(Options(2, training=("--rounds", "3")), os.environ)
    assert plain[:3] == ["mpirun", "-n", "2"]
    assert "--with-ft" not in plain
    surviving = command(Options(100_000, training=("--faults.mode", "survive")), os.environ)
    assert " ".join(surviving) == f"mpirun -n 100000 {FLAGS} --oversubscribe --bind-to none"
    assert "--with-ft" not in command(Options(2, training=("--no.such_key", "1")), os.environ)


def test_mpirun_in_a_batch_job_starts_its_tasks_and_counts_those_of_one_host(monkeypatch):
    monkeypatch.setattr("fdrl_mpi.launch.usable_cores", lambda: 16)
    monkeypatch.setattr("fdrl_mpi.launch._threads_per_core", lambda: 1)
    assert command(Options(), {}) == ["mpirun", "-n", "17", "--oversubscribe", "--bind-to", "none"]
    assert command(Options(), {"SLURM_TASKS_PER_NODE": "9,8"}) == ["mpirun", "-n", "17"]
    assert command(Options(), {"SLURM_TASKS_PER_NODE": "16(x3),1"}) == ["mpirun", "-n", "49"]
    assert command(Options(3), {"SLURM_TASKS_PER_NODE": "32"}) == ["mpirun", "-n", "3"]


def test_srun_offers_pmix_unless_the_site_says_otherwise():
    by_srun = Options(launcher="srun")
    assert command(by_srun, {}) == ["srun", "--mpi=pmix", *TOGETHER]
    assert "--mpi=pmix" not in command(by_srun, {"SLURM_MPI_TYPE": "pmi2"})
    assert command(Options(5, "srun"), {})[-2:] == ["-n", "5"]


@pytest.mark.parametrize(
    ("outcome", "mpirun_status", "status"),
    [("finished", 1, 0), ("finished", 0, 0), ("stopped", 0, 85), ("failed", 0, 1), ("minority", 0, 1)],
)
def test_the_verdict_decides_and_not_mpirun(tmp_path, outcome, mpirun_status, status):
    job = Job(_script(tmp_path, f"begin(); verdict({outcome!r}); sys.exit({mpirun_status})"))
    assert job.run() == status
    assert job.round == 7


def test_without_a_run_the_status_is_that_of_mpirun_and_without_a_verdict_it_is_a_failure(tmp_path):
    assert Job(_script(tmp_path, "sys.exit(2)")).run() == 2
    assert Job(_script(tmp_path, "begin(); sys.exit(0)")).run() == 1
    assert Job(_script(tmp_path, "begin(); os.kill(os.getpid(), signal.SIGKILL)")).run() == 137


def test_an_mpirun_that_does_not_start_is_started_again(tmp_path, capfd):
    count = tmp_path / "count"
    body = f"count = pathlib.Path({str(count)!r})\ncount.open('a').write('x')\n"
    late = "if len(count.read_text()) < 3: sys.exit(213)\nbegin(); verdict('finished')"
    assert Job(_script(tmp_path, body + late)).run() == 0
    assert capfd.readouterr().err.count("trying again") == 2
    count.unlink()
    assert Job(_script(tmp_path, body + "sys.exit(213)")).run() == 213
    assert len(count.read_text()) == 3
    count.unlink()
    assert Job(_script(tmp_path, body + "begin(); sys.exit(213)")).run() == 213
    assert len(count.read_text()) == 1


def test_what_an_mpirun_that_is_ended_keeps_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("fdrl_mpi.launch.ORPHAN_S", 0.3)
    kept = tmp_path / "kept"
    body = (
        "import tempfile; kept = pathlib.Path(tempfile.gettempdir(), f'ompi.{os.getpid()}'); kept.mkdir()\n"
        f"(kept / 'file').touch(); pathlib.Path({str(kept)!r}).write_text(str(kept))\n"
        "begin(); verdict('finished'); time.sleep(1000)"
    )
    assert Job(_script(tmp_path, body)).run() == 0
    assert not Path(kept.read_text()).exists()


def test_where_mpirun_stands_still_after_all_ranks_have_ended_the_status_is_that_of_the_root(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("fdrl_mpi.launch.ORPHAN_S", 0.3)
    body = (
        "import subprocess; tell_launcher(status=2)\n"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(2)']); time.sleep(1000)"
    )
    assert Job(_script(tmp_path, body)).run() == 2
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("end", "status"), [("verdict('minority')", 1), ("tell_launcher(status=1)", 1), ("pass", 137)]
)
def test_an_mpirun_that_stands_still_after_a_run_is_ended(tmp_path, monkeypatch, end, status):
    monkeypatch.setattr("fdrl_mpi.launch.ORPHAN_S", 0.3)
    body = (
        f"import subprocess; begin(); {end}\n"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(2)']); time.sleep(1000)"
    )
    assert Job(_script(tmp_path, body)).run() == status


def test_a_surviving_job_that_leaves_nothing_has_failed_whatever_mpirun_says(tmp_path):
    words = [*_script(tmp_path, "sys.exit(0)"), "--with-ft", "ulfm"]
    assert Job(words).run() == 1
    assert Job([*words, "--dry-run"]).run() == 0


def test_ranks_that_go_on_beside_a_minority_are_not_orphans(tmp_path, monkeypatch):
    monkeypatch.setattr("fdrl_mpi.launch.ORPHAN_S", 0.1)
    assert (
        Job(_script(tmp_path, "begin(); verdict('minority'); time.sleep(1.5); verdict('finished')")).run()
        == 0
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("begin(); start(stop=True); verdict('minority'); time.sleep(1000)", 1),
        ("a, b = start(), start(); time.sleep(0.5); a.kill(); a.wait(); time.sleep(1000)", 137),
    ],
    ids=["stopped beside a minority", "waiting for one that died at the start"],
)
def test_ranks_that_would_stay_for_ever_are_ended(tmp_path, monkeypatch, body, status):
    monkeypatch.setattr("fdrl_mpi.launch.ORPHAN_S", 0.5)
    helper = (
        "def start(stop=False):\n    import subprocess\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "    (run.parent / 'pids').open('a').write(f'{child.pid} ')\n"
        "    if stop:\n        child.send_signal(signal.SIGSTOP)\n    return child\n"
    )
    assert Job(_script(tmp_path, helper + body)).run() == status
    deadline = time.monotonic() + 10.0  # what is killed takes a moment to die
    while any(map(_is_alive, (tmp_path / "pids").read_text().split())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_what_starts_ranks_on_other_hosts_may_end_before_the_run_has_begun(tmp_path, monkeypatch):
    monkeypatch.setattr("fdrl_mpi.launch.ORPHAN_S", 0.2)
    body = (
        "import subprocess; subprocess.Popen(['sleep', '0.5']); time.sleep(1.5)\nbegin(); verdict('finished')"
    )
    assert Job(_script(tmp_path, body)).run() == 0


def test_ranks_that_are_stopped_here_beside_a_minority_do_not_end_those_of_other_hosts(tmp_path, monkeypatch):
    monkeypatch.setattr("fdrl_mpi.launch.ORPHAN_S", 0.2)
    body = (
        "import subprocess; begin()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "child.send_signal(signal.SIGSTOP); verdict('minority'); time.sleep(1.5)\n"
        "child.kill(); verdict('finished')"
    )
    assert Job([*_script(tmp_path, body), "-n", "5"]).run() == 0


def test_what_ranks_that_are_ended_share_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("fdrl_mpi.launch.ORPHAN_S", 0.3)
    segment = Path(f"/dev/shm/sm_segment.{tmp_path.name}.0")
    program = (
        "import mmap, time; file = open(PATH, 'w+b'); file.truncate(4096); "
        "kept = mmap.mmap(file.fileno(), 4096); time.sleep(1000)"
    ).replace("PATH", repr(str(segment)))
    body = (
        f"import subprocess; subprocess.Popen([sys.executable, '-c', {program!r}]); time.sleep(0.7)\n"
        "begin(); verdict('finished'); time.sleep(1000)"
    )
    assert Job(_script(tmp_path, body)).run() == 0
    assert not segment.exists()


def test_without_a_verdict_the_newest_checkpoint_tells_how_far_a_run_has_come(tmp_path):
    store = CheckpointStore(tmp_path / "run", keep=3)
    store.prepare(6)
    store.commit(6, store.write(6, {0: {}}), {})
    job = Job(_script(tmp_path, "begin(); os.kill(os.getpid(), signal.SIGKILL)"))
    assert job.run() == 137
    assert job.round == 6


def test_a_verdict_of_an_earlier_start_does_not_count(tmp_path):
    words = _script(tmp_path, "begin(); verdict('finished')")
    assert Job(words).run() == 0
    job = Job(_script(tmp_path, "sys.exit(3)"))
    assert job.run() == 3


def test_it_starts_again_until_the_run_is_done(tmp_path, monkeypatch, capfd):
    body = (
        "starts = run / 'starts'; begin()\n"
        "n = len(starts.read_text()) if starts.exists() else 0\n"
        "starts.write_text('x' * (n + 1))\n"
        "verdict('failed' if n < 2 else 'finished', n)\n"
    )
    monkeypatch.setattr("fdrl_mpi.launch.command", lambda *_: _script(tmp_path, body))
    assert main(["--no-report", "--until-done"]) == 0
    assert (tmp_path / "run/starts").read_text() == "xxx"
    assert capfd.readouterr().out.count("starting again") == 2


def test_it_gives_up_a_run_that_gets_no_further(tmp_path, monkeypatch):
    body = "begin(); verdict('failed', 4); (run / 'starts').open('a').write('x')"
    monkeypatch.setattr("fdrl_mpi.launch.command", lambda *_: _script(tmp_path, body))
    assert main(["--no-report", "--until-done"]) == 1
    assert len((tmp_path / "run/starts").read_text()) == 5


def test_orphans_are_ended_after_the_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr("fdrl_mpi.launch.ORPHAN_S", 0.3)
    assert Job(_script(tmp_path, "begin(); verdict('finished'); time.sleep(1000)")).run() == 0


def test_a_signal_asks_the_ranks_to_stop_and_nothing_is_started_again(tmp_path):
    body = (
        "signal.signal(signal.SIGUSR1, lambda *_: (verdict('stopped'), sys.exit(85)))\n"
        "begin()\n(run / 'ready').touch()\ntime.sleep(1000)\n"
    )
    words = _script(tmp_path, body)
    program = (
        f"import sys, fdrl_mpi.launch as l; l.command = lambda *_: {words!r}; sys.exit(l.main(sys.argv[1:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, "--until-done"])
    deadline = time.monotonic() + 30
    while not (tmp_path / "run/ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 85
    assert json.loads((tmp_path / "run/verdict.json").read_text())["outcome"] == "stopped"
