"""States as files: exact, whole, and found out when damaged."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fdrl_mpi
from fdrl_mpi.record.state_file import DamagedCheckpoint, read_state, write_state

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
)
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4))
)
LEAVES = st.one_of(
    ARRAYS,
    DTYPES.flatmap(hnp.from_dtype),
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(),
    st.text(st.characters()),
    st.binary(),
)
KEYS = st.one_of(
    st.sampled_from(["", ".", "..", "/", "a/b", "%", "%2E", "%252F", "0.weight", "\0"]), st.text(max_size=5)
)
STATES = st.dictionaries(
    KEYS,
    st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6),
    max_size=5,
)


def exact(value: Any) -> Any:
    """Turn a state into something that is equal only for the same types, shapes and bits."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return type(value), value.dtype, value.shape, value.tobytes()
    return type(value), np.float64(value).tobytes() if isinstance(value, float) else value


@given(STATES)
@settings(max_examples=100, deadline=None)
def test_a_state_is_read_as_it_was_written(state: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.h5"
        digest = write_state(path, state)
        assert exact(read_state(path, digest)) == exact(state)


@pytest.mark.parametrize("name", ["PCG64", "MT19937", "SFC64", "Philox"])
def test_a_random_generator_goes_on_where_it_was(tmp_path: Path, name: str) -> None:
    bits = getattr(np.random, name)(3)
    np.random.Generator(bits).normal(size=5)
    write_state(tmp_path / "state.h5", {"rng": bits.state})
    expected = np.random.Generator(bits).normal(size=5)

    restored = getattr(np.random, name)(0)
    restored.state = read_state(tmp_path / "state.h5")["rng"]

    np.testing.assert_array_equal(np.random.Generator(restored).normal(size=5), expected)


def test_equal_states_give_equal_files(tmp_path: Path) -> None:
    first = write_state(tmp_path / "first.h5", {"a": 1, "b": {"c": np.arange(5)}})
    second = write_state(tmp_path / "second.h5", {"b": {"c": np.arange(5)}, "a": 1})
    assert first == second


def test_a_view_is_written_as_what_it_shows(tmp_path: Path) -> None:
    matrix = np.arange(12.0).reshape(3, 4)
    write_state(tmp_path / "state.h5", {"transposed": matrix.T, "every_other": matrix[:, ::2]})
    state = read_state(tmp_path / "state.h5")
    np.testing.assert_array_equal(state["transposed"], matrix.T)
    np.testing.assert_array_equal(state["every_other"], matrix[:, ::2])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"replay": {"items": [1, 2]}}, "replay/items.*list"),
        ({"names": np.array(["a"])}, "names.*<U1"),
        ({"things": np.array([None])}, "things.*object"),
        ({1: 2.0}, "key 1 is a int"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_the_old_file_stays(
    tmp_path: Path, state: dict[Any, Any], message: str
) -> None:
    path = tmp_path / "state.h5"
    digest = write_state(path, {"round": 1})
    with pytest.raises(TypeError, match=message):
        write_state(path, state)
    assert read_state(path, digest) == {"round": 1}


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.h5"
    digest = write_state(path, {"params": np.arange(20, dtype=np.float32)})
    whole = path.read_bytes()
    for position in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpoint, match="SHA-256"):
            read_state(path, digest)


@pytest.mark.parametrize("length", [0, 50, 1000, -1])
def test_a_file_cut_short_is_refused_even_without_its_digest(tmp_path: Path, length: int) -> None:
    path = tmp_path / "state.h5"
    write_state(path, {"params": np.arange(2000, dtype=np.float32)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        read_state(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match="No such file"):
        read_state(tmp_path / "state.h5")


FILL_THE_DISK = """
import resource, sys, numpy as np
from fdrl_mpi.record.state_file import read_state, write_state
path = sys.argv[1]
digest = write_state(path, {"round": 1})
for limit in (500, 5000, 50_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_state(path, {"params": np.zeros(100_000)})
    except OSError:
        assert read_state(path, digest) == {"round": 1}
    else:
        sys.exit("written in spite of the limit")
"""


def test_a_full_disk_raises_and_leaves_the_old_file_and_a_sane_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path / "state.h5")],
        cwd=Path(fdrl_mpi.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["state.h5"]
