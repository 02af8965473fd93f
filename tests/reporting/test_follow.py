"""Following a run: from before it begins to its end, whatever its files do meanwhile."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fdrl_mpi.record.run_directory import RunDirectory
from fdrl_mpi.record.verdict import Verdict
from fdrl_mpi.report import main
from fdrl_mpi.reporting import follow as following
from fdrl_mpi.reporting.follow import Ascii, Lines, Page, follow, make_display
from fdrl_mpi.reporting.news import LAST_WORD_S, News, Watch
from fdrl_mpi.reporting.runs import load_run

MakeRun = Callable[..., Path]


def age(path: Path, seconds: float) -> None:
    """Make a file look as if it had been written so long ago."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def script(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Let the run do its next step whenever the view sleeps."""
    left = iter(steps)
    monkeypatch.setattr(following.time, "sleep", lambda _: next(left)())


def test_a_run_is_followed_from_before_it_begins_to_its_end(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {rounds: make_run(f"part{rounds}", num_rounds=rounds, has_verdict=False) for rounds in (1, 3)}
    run, out = tmp_path / "one", io.StringIO()
    verdict = Verdict("stopped", 3, 3, "signal 10", None, 0.3)
    script(
        monkeypatch,
        run.mkdir,
        lambda: (run / "config.toml").touch(),
        lambda: (run / "metrics.h5").write_bytes(b"\x89HDF half of it"),
        lambda: (parts[1] / "metrics.h5").replace(run / "metrics.h5"),
        lambda: None,
        lambda: (parts[3] / "metrics.h5").replace(run / "metrics.h5"),
        lambda: RunDirectory(run).write_verdict(verdict),
    )
    assert follow(run, 1.0, out) == 85
    lines = out.getvalue().splitlines()
    assert lines[:3] == [
        f"waiting: {run} is not there",
        f"waiting: no run in {run}",
        "waiting: no round has ended",
    ]
    assert "not a readable record" in lines[3]
    assert [text.split("  ")[:2] for text in lines[4:6]] == [
        ["round 1/1", "return mean 18, worst 17 (agent 3)"],
        ["round 3/3", "return mean 58, worst 57 (agent 3)"],
    ]
    assert lines[6:] == ["stopped after round 3 of 3: signal 10"]


def test_last_record_counts_while_the_next_one_cannot_be_read(make_run: MakeRun) -> None:
    path = make_run(has_verdict=False)
    watch, record = Watch(path), path / "metrics.h5"
    whole = watch.look()
    assert (whole.state, whole.trouble) == ("running", "")
    content = record.read_bytes()
    record.write_bytes(content[:2000])
    damaged = watch.look()
    assert damaged.run is whole.run
    assert "not a readable record" in damaged.trouble
    record.unlink()
    assert watch.look().run is whole.run
    record.write_bytes(content)
    assert watch.look().trouble == ""


def test_looking_changes_nothing_in_the_run(make_run: MakeRun) -> None:
    path = make_run()
    before = {entry: (entry.read_bytes(), entry.stat().st_mtime_ns) for entry in path.iterdir()}
    assert follow(path, 1.0, io.StringIO()) == 0
    assert {entry: (entry.read_bytes(), entry.stat().st_mtime_ns) for entry in path.iterdir()} == before


def test_a_record_that_has_not_changed_is_not_read_again(make_run: MakeRun) -> None:
    watch = Watch(make_run(has_verdict=False))
    assert watch.look().run is watch.look().run


def test_a_minority_ends_the_view_only_where_nobody_goes_on(make_run: MakeRun) -> None:
    path = make_run(has_verdict=False)
    RunDirectory(path).write_verdict(Verdict("minority", 2, 5, "2 of 5 ranks", None, 0.0))
    watch = Watch(path)
    assert watch.look().state == "running"
    age(path / "verdict.json", LAST_WORD_S + 1.0)
    assert watch.look().state == "running"  # the record is newer
    age(path / "metrics.h5", LAST_WORD_S + 2.0)
    assert watch.look().state == "minority"


def test_newest_warnings_of_all_ranks_are_found(make_run: MakeRun) -> None:
    path = make_run(has_verdict=False)
    (path / "logs").mkdir()
    form = "2026-01-02 03:04:0{},000 rank {} node{} {} fdrl_mpi.x: {}\n"
    first = [form.format(1, 0, 1, "INFO", "x" * 20000), form.format(2, 0, 1, "WARNING", "a: b")]
    (path / "logs" / "rank_000.log").write_text("".join([*first, form.format(5, 0, 1, "ERROR", "e"), "cut "]))
    (path / "logs" / "rank_003.log").write_text(form.format(4, 3, 1, "WARNING", "d") + "Traceback\n")
    assert Watch(path).look().warnings == [
        "03:04:02 rank 0: a: b",
        "03:04:04 rank 3: d",
        "03:04:05 rank 0: e",
    ]


def test_page_takes_the_place_of_the_last_one_in_any_size(make_run: MakeRun) -> None:
    run = load_run(make_run("name" * 9))
    news, size, out = News(run.path, run), [80, 24], io.StringIO()
    page = Page(out, lambda: (size[0], size[1]))
    page.show(news)
    first = out.getvalue().splitlines()
    assert not out.getvalue().startswith("\033")
    size[:] = 40, 10  # lines of more than 40 characters are broken, and 10 lines are all there are
    page.show(news)
    again = out.getvalue().splitlines()[len(first) :]
    assert again[0].startswith("\033[9F\033[J")
    assert len(again) == 9
    assert max(map(len, [*again[1:]])) < 40
    size[:] = 80, 24
    page.show(news)
    third = out.getvalue().splitlines()[len(first) + len(again) :]
    assert third[0].startswith("\033[9F\033[J")
    assert [third[0].removeprefix("\033[9F\033[J"), *third[1:]] == first


def test_a_line_for_each_new_evaluation_and_after_a_long_silence(make_run: MakeRun) -> None:
    now, out = [0.0], io.StringIO()
    lines = Lines(out, lambda: now[0])
    early, late, never = (
        load_run(make_run(name, num_rounds=rounds, is_evaluated=name != "never"))
        for name, rounds in (("early", 2), ("late", 6), ("never", 7))
    )
    for run in (early, early, late, late, never):
        lines.show(News(run.path, run))
    now[0] = 11.0
    lines.show(News(never.path, never))
    lines.show(News(never.path, never, silent_s=100.0))
    lines.show(News(never.path, never, silent_s=200.0))
    told = [text.split("  ")[0] for text in out.getvalue().splitlines()]
    assert told == ["round 2/2", "round 4/6", "round 6/6", "round 7/7", "no news for 1 min 40 s"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "ascii"

    def isatty(self) -> bool:
        return True


def test_a_page_is_only_for_a_terminal_of_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(make_display(Terminal()), Page)
    assert isinstance(make_display(io.StringIO()), Lines)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # as under mpirun
    assert isinstance(make_display(Terminal()), Lines)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_display(Terminal()), Lines)


def test_terminals_without_block_characters_get_others() -> None:
    out = io.StringIO()
    Ascii(out).write("▁█░ 9.8 m/s² ü")
    assert out.getvalue() == "_#. 9.8 m/s2 ?"


def test_the_command_ends_with_the_status_of_the_run_and_needs_no_matplotlib(make_run: MakeRun) -> None:
    path = make_run()
    (path / "verdict.json").unlink()
    RunDirectory(path).write_verdict(Verdict("failed", 5, 5, "rank 3: boom", None, 0.0))
    program = (
        "import sys; sys.modules['matplotlib'] = None; from fdrl_mpi.report import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "--follow", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("failed after round 5 of 5: rank 3: boom\n")


def test_leaving_the_view_is_not_the_end_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following.time, "sleep", leave)
    assert main(["--follow", str(tmp_path)]) == 130


@pytest.mark.parametrize("words", [["a", "b"], ["a", "--out", "x.html"], ["a", "--every", "0"]])
def test_what_cannot_be_followed_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--follow", *words])
    assert "error" in capsys.readouterr().err
