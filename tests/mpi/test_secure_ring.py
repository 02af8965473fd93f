"""The secure sum: the right sum, nothing but the sum, and no wrong model whatever is tampered with."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.comm import secure_ring
from fdrl_mpi.comm.secure_ring import MOST_ATTEMPTS, SecureRing, SecureSettings, State
from fdrl_mpi.comm.world import World
from fdrl_mpi.federation.wire import Wire
from fdrl_mpi.privacy.channel import Kind, nonce
from fdrl_mpi.privacy.keys import write_identity
from fdrl_mpi.streams import stream

pytestmark = pytest.mark.mpi(min_size=2)


@pytest.fixture(scope="module", params=["MPI", "watched"])
def world(request, world):
    return world if request.param == "MPI" else request.getfixturevalue("watched_world")


SETTINGS = SecureSettings(ring_degree=4, colluders=0, dropouts=0, largest_change=4.0, largest_weight=100.0)


@pytest.fixture(autouse=True)
def _enough_parties(world):
    if world.size < 3:
        pytest.skip("a sum of one is no secret: 3 ranks or more")


def _update(agent: int, d: int, round: int = 0) -> np.ndarray:
    return stream(3, "update", agent, round).uniform(-1.0, 1.0, d).astype(np.float32)


def _weight(agent: int) -> float:
    return float(10 * (1 + agent % 7))


def _round(collective, world, models, round=0, weight=_weight, flags=None):
    """Make one exchange; every agent's model moves by its update. `flags`: who is known to contribute."""
    d = collective.rows.shape[1]
    for row, agent in zip(collective.rows, world.agents, strict=True):
        row[:] = models[0] + _update(agent, d, round)
    own = np.array([weight(agent) for agent in world.agents])
    collective.encode(models, own, np.ones(world.num_agents) if flags is None else flags)
    received, params = collective.exchange(), models[0]
    if received is not None:
        params = Mean().aggregate(received)
    return collective.publish(params)


def _start(world, d):
    return [np.linspace(-2.0, 2.0, d, dtype=np.float32)] * max(len(world.agents), 1)


def _mean(world, d, round=0, weight=_weight):
    agents = range(1, world.num_agents + 1)
    weights = [weight(agent) for agent in agents]
    return np.average([_update(agent, d, round) for agent in agents], axis=0, weights=weights)


@pytest.mark.parametrize("agents_per_rank", [1, 3])
@pytest.mark.parametrize("d", [1, 2, 1000, 131_067, 131_071, 200_003])
@pytest.mark.parametrize("ring_degree", [1, 2, 4])
def test_published_model_is_the_weighted_mean_to_fixed_point(
    world, on_all_ranks, agents_per_rank, d, ring_degree
):
    some = World(world.comm, agents_per_rank)
    collective = SecureRing(some, d, dataclasses.replace(SETTINGS, ring_degree=ring_degree))
    models = expected = _start(some, d)
    for round in range(3):
        models = _round(collective, some, models, round)
        expected = [expected[0] + _mean(some, d, round)]
        error = np.abs(models[0] - expected[0]).max()
        on_all_ranks(error < 2e-6, f"round {round}: off by {error}")
        on_all_ranks(len(set(world.gather_objects(models[0].tobytes()))) == 1)
        on_all_ranks(collective.state is State.COMMIT)


def test_absent_agents_and_all_absent_but_one(world, on_all_ranks):
    d, last = 50, world.num_agents
    for weight in (lambda agent: 0.0 if agent == last else 5.0, lambda agent: 5.0 if agent == last else 0.0):
        models = _round(SecureRing(world, d, SETTINGS), world, _start(world, d), weight=weight)
        expected = _start(world, d)[0] + _mean(world, d, weight=weight)
        on_all_ranks(np.allclose(models[0], expected, atol=2e-5))


@pytest.mark.parametrize("kind", ["difference", "gradient"])
def test_changes_are_not_counted_from_the_model(world, on_all_ranks, kind):
    """Parameters of 8 with a range of 4: what travels is small; behind it a control variate, from 8 on."""
    wire = Wire((slice(0, 3),), 3, kind, "controls")
    collective = SecureRing(world, wire.length, SETTINGS, wire.num_changes)
    for row in collective.rows:
        row[:] = [0.01, -0.02, 3.0, 8.01, 7.98, 11.0]
    models = [np.full(wire.length, 8.0, np.float32)] * max(len(world.agents), 1)
    collective.encode(models, np.array([_weight(a) for a in world.agents]), np.ones(world.num_agents))
    received = collective.exchange()
    found = np.zeros(6) if received is None else Mean().aggregate(received)
    on_all_ranks(received is None or np.allclose(found, [0.01, -0.02, 3.0, 8.01, 7.98, 11.0], atol=2e-6))
    on_all_ranks(np.array_equal(collective.publish(models[0])[0], models[0]))


def test_sum_of_one_contributor_is_never_formed(world, on_all_ranks, caplog, monkeypatch):
    collective, models = SecureRing(world, 20, SETTINGS), _start(world, 20)
    uploads = _spied_uploads(monkeypatch, collective)
    only = lambda agent: 5.0 if agent == 1 else 0.0  # noqa: E731
    flags = np.array([only(agent) > 0.0 for agent in range(1, world.num_agents + 1)], float)
    after = _round(collective, world, models, weight=only, flags=flags)
    on_all_ranks(after is models and not uploads)
    on_all_ranks(not world.is_root or "fewer than 2 parties" in caplog.text)
    after = _round(collective, world, after)
    on_all_ranks(np.allclose(after[0], models[0] + _mean(world, 20), atol=2e-6), "the next round is right")


def test_weights_that_vanish_in_fixed_point_leave_the_model(world, on_all_ranks):
    models = _start(world, 9)
    after = _round(SecureRing(world, 9, SETTINGS), world, models, weight=lambda agent: 1e-30)
    on_all_ranks(np.array_equal(after[0], models[0]))


def _spied_uploads(monkeypatch, collective):
    """Keep what this rank uploads before anything is added to it."""
    seen = []
    add_up = collective._up.add_up
    monkeypatch.setattr(
        collective._up, "add_up", lambda wire: (seen.append(collective._upload.copy()), add_up(wire))
    )
    return seen


def _dependence(words: np.ndarray, update: np.ndarray) -> tuple[float, float]:
    """Measure correlation with the update, and the worst chi-square of bits given the update's sign."""
    centred = words.astype(np.float64) - 2.0**31
    correlation = abs(np.corrcoef(centred, update)[0, 1]) * np.sqrt(len(words))
    worst = 0.0
    for bit in range(32):
        ones = (words >> np.uint32(bit)) & 1
        table = np.array(
            [np.bincount(ones[update > 0.0], minlength=2), np.bincount(ones[update <= 0.0], minlength=2)]
        )
        expected = table.sum(axis=1, keepdims=True) * 0.5
        worst = max(worst, float((np.square(table - expected) / expected).sum()))
    return float(correlation), worst


CORRELATION_LIMIT, CHI_SQUARE_LIMIT = 6.0, 45.0
"""Six standard deviations; for the chi-square with 2 degrees of freedom of 32 bits, odds of 1 in 10^8."""


def test_upload_is_statistically_independent_of_the_update(world, on_all_ranks, monkeypatch):
    d = 100_000
    collective = SecureRing(world, d, SETTINGS)
    uploads = _spied_uploads(monkeypatch, collective)
    _round(collective, world, _start(world, d))
    if world.is_root:
        on_all_ranks(not uploads[0].any(), "the root contributes nothing")
        return
    correlation, chi_square = _dependence(uploads[0][:-1], _update(world.rank, d))
    on_all_ranks(
        correlation < CORRELATION_LIMIT and chi_square < CHI_SQUARE_LIMIT, f"{correlation}, {chi_square}"
    )


def test_shares_of_floats_fail_the_same_test():
    """The textbook's toy: a random float share in [-1, 1] subtracted from the update."""
    update = _update(1, 100_000)
    share = np.random.default_rng(0).uniform(-1.0, 1.0, len(update))
    words = ((update - share) * 2**20).astype(np.int64).astype(np.uint32)
    _, chi_square = _dependence(words, update)
    assert chi_square > CHI_SQUARE_LIMIT
    assert abs(np.corrcoef(update - share, update)[0, 1]) * np.sqrt(len(update)) > CORRELATION_LIMIT


def test_masks_are_fresh_in_every_round(world, on_all_ranks, monkeypatch):
    d = 1000
    collective = SecureRing(world, d, SETTINGS)
    uploads = _spied_uploads(monkeypatch, collective)
    for _ in range(2):
        _round(collective, world, _start(world, d))
    difference = uploads[0] - uploads[1]  # 0 if the same mask hid the same update twice
    on_all_ranks(world.is_root or np.count_nonzero(difference) > 0.99 * d)


def test_upload_costs_hardly_more_bytes_than_the_model(world, on_all_ranks):
    d = 100_000
    collective = SecureRing(world, d, SETTINGS)
    _round(collective, world, _start(world, d))
    counted = collective.traffic.take()
    shape = collective._up
    plain = 4 * d * (len(shape._children) + int(not world.is_root))
    allowed = 1.02 * plain + 200 * SETTINGS.ring_degree
    on_all_ranks(world.is_root or counted.sent_bytes <= allowed, f"{counted.sent_bytes} of {allowed}")
    on_all_ranks(world.is_root or counted.received_bytes <= allowed, f"{counted.received_bytes} of {allowed}")


def test_change_outside_the_range_is_cut_and_told_where_it_happened(world, on_all_ranks, caplog):
    settings = dataclasses.replace(SETTINGS, largest_change=0.25, largest_weight=1.0)
    collective = SecureRing(world, 10, settings)
    models = [np.zeros(10, np.float32)] * max(len(world.agents), 1)
    collective.rows[:] = 7.0
    collective.encode(models, np.ones(len(world.agents)), np.ones(world.num_agents))
    received = collective.exchange()
    after = collective.publish(models[0] if received is None else Mean().aggregate(received))
    on_all_ranks(np.allclose(after[0], 0.25))
    on_all_ranks(world.is_root or "10 changes of parameters were cut to 0.25" in caplog.text)


# What is tampered with.


def _flip_uploads(monkeypatch, links, attempts):
    """Flip a bit of what comes from the first child in the first attempts."""
    original, left = links.take, [attempts]

    def flipping(child, number, received, part):
        if left[0] and child == 0:
            left[0] -= 1
            received.view(np.uint8)[0] ^= 1
        original(child, number, received, part)

    monkeypatch.setattr(links, "take", flipping)


@pytest.mark.parametrize("times", [1, 2])
def test_changed_upload_is_noticed_and_the_attempt_made_again(
    world, on_all_ranks, monkeypatch, caplog, times
):
    d = 100
    collective = SecureRing(world, d, SETTINGS)
    if world.is_root:
        _flip_uploads(monkeypatch, collective._up, times)
    models = _round(collective, world, _start(world, d))
    on_all_ranks(np.allclose(models[0], _start(world, d)[0] + _mean(world, d), atol=2e-6))
    on_all_ranks(not world.is_root or caplog.text.count("tampered") == times, caplog.text)


def test_upload_that_is_changed_every_time_gives_the_round_up_with_the_model_as_it_was(
    world, on_all_ranks, monkeypatch, caplog
):
    collective, models = SecureRing(world, 100, SETTINGS), _start(world, 100)
    if world.is_root:
        _flip_uploads(monkeypatch, collective._up, MOST_ATTEMPTS)
    after = _round(collective, world, models)
    on_all_ranks(after is models and np.array_equal(after[0], _start(world, 100)[0]))
    on_all_ranks(not world.is_root or "given up" in caplog.text)
    after = _round(collective, world, after)
    on_all_ranks(np.allclose(after[0], models[0] + _mean(world, 100), atol=2e-6), "the next round is right")


def test_changed_reveal_gives_the_round_up(world, on_all_ranks, monkeypatch, caplog):
    collective, models = SecureRing(world, 100, SETTINGS), _start(world, 100)
    if world.rank == 1:
        channel = collective._channels[0]
        original = channel.seal

        def seal(name, message):
            sealed = original(name, message)
            is_reveal = name == nonce(Kind.REVEAL, 1, 0)
            return bytes([sealed[0] ^ 1]) + sealed[1:] if is_reveal else sealed

        monkeypatch.setattr(channel, "seal", seal)
    after = _round(collective, world, models)
    on_all_ranks(after is models and np.array_equal(after[0], _start(world, 100)[0]))
    on_all_ranks(not world.is_root or "not what its sender sent; the model stays" in caplog.text)
    after = _round(collective, world, after)
    on_all_ranks(np.allclose(after[0], models[0] + _mean(world, 100), atol=2e-6), "the next round is right")


@pytest.mark.parametrize("victims", ["one", "all"])
def test_model_that_is_changed_on_its_way_down_is_nobodys_model(
    world, on_all_ranks, monkeypatch, caplog, victims
):
    collective, models = SecureRing(world, 100, SETTINGS), _start(world, 100)
    if (victims == "all" and not world.is_root) or world.rank == world.size - 1:
        hand_down = collective._down.hand_down

        def change(vector):
            hand_down(vector)
            vector[0] += 1.0

        monkeypatch.setattr(collective._down, "hand_down", change)
    after = _round(collective, world, models)
    on_all_ranks(after is models and np.array_equal(after[0], _start(world, 100)[0]))
    on_all_ranks(not world.is_root or "different models" in caplog.text)


# The setup.


def _tampering(world, monkeypatch, change):
    """Change what the last rank hears from the first agent in the setup."""
    gather = world.gather_objects

    def changed(value):
        heard = gather(value)
        return change(heard) if world.rank == world.size - 1 else heard

    monkeypatch.setattr(world, "gather_objects", changed)


def _refusal(world, settings=SETTINGS) -> str:
    try:
        SecureRing(world, 10, settings)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["public_key", "commitment"])
def test_introduction_that_some_hear_differently_is_refused(world, on_all_ranks, monkeypatch, name):
    def change(heard):
        if isinstance(heard[1], secure_ring.shake_hands.__globals__["Introduction"]):
            other = dataclasses.replace(heard[1], **{name: bytes(31) + b"\x09"})
            return [heard[0], other, *heard[2:]]
        return heard

    _tampering(world, monkeypatch, change)
    refused = _refusal(world)
    on_all_ranks("told different things" in refused or "another nonce" in refused, refused)


@pytest.fixture
def roster(world, tmp_path_factory) -> SecureSettings:
    """Identities of all parties."""
    folder = Path(world.from_root(str(tmp_path_factory.mktemp("keys")) if world.is_root else None))
    if world.is_root:
        lines = [f"{party} {write_identity(folder / f'{party}.pem')}" for party in range(world.size)]
        (folder / "roster").write_text("\n".join(lines))
    world.barrier()
    return dataclasses.replace(SETTINGS, roster=folder / "roster", private_key=str(folder / "{party}.pem"))


def test_parties_with_identities_form_the_sum(world, on_all_ranks, roster):
    models = _round(SecureRing(world, 30, roster), world, _start(world, 30))
    on_all_ranks(np.allclose(models[0], _start(world, 30)[0] + _mean(world, 30), atol=2e-6))


def test_what_is_wrong_with_identities_is_refused_on_all_ranks(world, on_all_ranks, roster):
    folder = roster.roster.parent
    lines = roster.roster.read_text().splitlines()
    keys = [line.split()[1] for line in lines]
    swapped = [f"{party} {key}" for party, key in enumerate([*keys[2:], keys[1]], 1)]
    cases = {
        "lacks party": "\n".join(lines[:-1]),
        "is there twice": "\n".join([*lines, lines[0]]),
        "has the key of party": "\n".join([*lines, f"{world.size} {lines[1].split()[1]}"]),
        "does not belong": "\n".join([lines[0], *swapped]),
    }
    for message, text in cases.items():
        if world.is_root:
            (folder / "other").write_text(text)
        world.barrier()
        refused = _refusal(world, dataclasses.replace(roster, roster=folder / "other"))
        on_all_ranks(message in refused, f"{message}: {refused}")
        world.barrier()
    refused = _refusal(world, dataclasses.replace(roster, private_key=str(folder / "nobody.pem")))
    on_all_ranks("nobody.pem" in refused, refused)


def test_party_that_signs_with_another_key_is_refused(world, on_all_ranks, monkeypatch, roster):
    if world.rank == 1:
        handshake = secure_ring.shake_hands.__globals__
        stranger = roster.roster.parent / "stranger.pem"
        write_identity(stranger)
        identities = handshake["_identities"]

        def other(*arguments):
            book, _ = identities(*arguments)
            return book, handshake["load_identity"](stranger)

        monkeypatch.setitem(handshake, "_identities", other)
    refused = _refusal(world, roster)
    on_all_ranks("introduction of party 1 is not signed by it" in refused, refused)


def test_party_that_introduces_itself_as_another_is_refused(world, on_all_ranks, monkeypatch, roster):
    """With its own good signature: else a root could stand in for all neighbours of a victim."""

    def change(heard):
        if isinstance(heard[1], secure_ring.shake_hands.__globals__["Introduction"]):
            return [heard[0], heard[0], *heard[2:]]
        return heard

    _tampering(world, monkeypatch, change)
    refused = _refusal(world, roster)
    on_all_ranks("party 1 introduced itself as party 0" in refused, refused)


def test_ring_that_protects_nobody_and_range_that_wraps_are_refused(world, on_all_ranks):
    on_all_ranks("no secret" in _refusal(world, dataclasses.replace(SETTINGS, colluders=world.size)))
    on_all_ranks("for the fraction" in _refusal(world, dataclasses.replace(SETTINGS, largest_change=1e5)))
