"""Whoever dies, stops or is late: the run ends with the model that those who took part make."""

import pytest
from harness import NUM_RANKS, ROUNDS, play

from fdrl_mpi.record.checkpoint import CheckpointStore

pytestmark = pytest.mark.launch
SPARE = NUM_RANKS - 1


@pytest.mark.parametrize("collective", ["allreduce", "node", "tree", "gather", "secure_ring"])
def test_an_agent_and_then_the_root_die(tmp_path, collective):
    faults = "rank=4,round=3,phase=exchange,action=kill;rank=0,round=5,phase=publish,action=kill"
    ending = play(tmp_path, faults, comm__collective=collective)
    assert ending.is_right, ending
    failures = ending.verdict["failures"]
    assert [failure["lost_ranks"] for failure in failures] == [[4], [0]]
    assert failures[-1]["root"] == SPARE
    took_part = ending.verdict["took_part"]
    assert took_part[0]["agents"] == [1, 2, 3, 4, 5]
    assert took_part[-1] == {"first": took_part[-1]["first"], "last": ROUNDS, "agents": [1, 2, 3, 5]}


@pytest.mark.parametrize("rank", [0, 2])
def test_a_rank_that_is_stopped_holds_nobody_up(tmp_path, rank):
    ending = play(tmp_path, f"rank={rank},round=4,phase=mid_publish,action=stop")
    assert ending.is_right, ending
    assert [failure["lost_ranks"] for failure in ending.verdict["failures"]] == [[rank]]


def test_root_and_mirror_die_within_50_ms_and_an_agent_takes_over(tmp_path):
    faults = "rank=0,round=4,phase=train,action=kill;rank=6,round=0,phase=start,action=kill,delay_s=0.3"
    ending = play(tmp_path, faults)
    assert ending.is_right, ending
    assert 0 < ending.verdict["failures"][-1]["root"] < SPARE


def test_one_that_dies_while_the_others_recover_is_left_out_too(tmp_path):
    faults = "rank=3,round=4,phase=exchange,action=kill;rank=5,round=4,phase=recovery,action=kill"
    ending = play(tmp_path, faults)
    assert ending.is_right, ending
    assert ending.verdict["took_part"][-1]["agents"] == [1, 2, 4]


def test_a_rank_whose_program_fails_is_lost_alone(tmp_path):
    ending = play(tmp_path, "rank=2,round=4,phase=train,action=raise")
    assert ending.is_right, ending
    assert "InjectedError" in ending.output
    assert "rank 2: InjectedError" in ending.verdict["failures"][0]["reason"]
    assert ending.verdict["took_part"][-1]["agents"] == [1, 3, 4, 5]


def test_a_program_that_fails_on_most_ranks_says_so_in_the_verdict_of_those_that_are_left(tmp_path):
    until_all_are_there = "rank={},round=4,phase=before_train,action=sleep,delay_s=1"
    faults = ";".join(
        f"{until_all_are_there.format(rank)};rank={rank},round=4,phase=train,action=raise"
        for rank in (2, 3, 4, 5)
    )
    ending = play(tmp_path, faults)
    assert ending.is_ended
    assert ending.verdict["outcome"] == "minority", ending
    assert "only 3 of 7 ranks are left" in ending.verdict["reason"]
    assert "; rank 2, 3, 4, 5: InjectedError: " in ending.verdict["reason"]
    assert 1 <= ending.output.count("Traceback") < 4, ending.output


def test_a_spare_takes_the_place_of_a_lost_agent(tmp_path):
    """The first spare stays the mirror; the second one goes on with the agent's newest saved state."""
    faults = "rank=2,round=6,phase=before_train,action=kill"
    ending = play(tmp_path, faults, faults__spares="2")
    assert ending.is_right, ending
    assert [entry["agents"] for entry in ending.verdict["took_part"]] == [[1, 2, 3, 4]]
    [failure] = ending.verdict["failures"]
    assert (failure["lost_ranks"], failure["replaced_agents"]) == ([2], {"2": 4})
    log = (tmp_path / "runs/cartpole/logs/rank_006.log").read_text()
    assert "agent 2 goes on here with its state of round 4" in log


def test_a_root_that_had_stood_by_knows_what_happened_before(tmp_path):
    """Agent 2 goes on twice in other places; then the root is lost."""
    faults = (
        "rank=2,round=3,phase=train,action=kill;rank=6,round=6,phase=train,action=kill;"
        "rank=0,round=7,phase=publish,action=kill"
    )
    ending = play(tmp_path, faults, num_ranks=8, faults__spares="3", comm__collective="tree")
    assert ending.is_right, ending
    failures = ending.verdict["failures"]
    assert [failure["lost_ranks"] for failure in failures] == [[2], [6], [0]]
    assert [failure["replaced_agents"] for failure in failures] == [{"2": 0}, {"2": 4}, {}]


def test_a_late_agent_is_left_out_and_comes_back(tmp_path):
    faults = "rank=4,round=4,phase=before_train,action=sleep,delay_s=4"
    settings = {"participation__deadline_s": "1.5", "rounds": "300", "checkpoint__every": "1000"}
    ending = play(tmp_path, faults, late={4: [4]}, **settings)
    assert ending.is_right, ending
    assert [entry["agents"] for entry in ending.verdict["took_part"]] == [
        [1, 2, 3, 4, 5],
        [1, 2, 3, 5],
        [1, 2, 3, 4, 5],
    ]
    assert ending.verdict["failures"][1]["returned_agents"] == [4]


def test_too_few_that_are_left_stop_by_themselves(tmp_path):
    faults = ";".join(f"rank={rank},round=4,phase=exchange,action=kill" for rank in (1, 2, 4, 5))
    ending = play(tmp_path, faults, faults__spares="0", faults__silence_s="3")
    assert ending.is_ended
    assert ending.verdict["outcome"] == "minority", ending
    assert ending.verdict["round"] == 3


def test_a_minority_tells_what_it_had_survived(tmp_path):
    faults = "rank=3,round=2,phase=train,action=kill;"
    faults += ";".join(f"rank={rank},round=5,phase=exchange,action=kill" for rank in (1, 2, 4))
    ending = play(tmp_path, faults, faults__spares="0", faults__silence_s="3", comm__collective="tree")
    assert ending.verdict["outcome"] == "minority", ending
    assert [failure["lost_ranks"] for failure in ending.verdict["failures"]] == [[3]]


def test_a_run_that_lost_agents_goes_on_with_all_of_them_when_it_is_started_again(tmp_path):
    """Agent 2 with what it had saved, agent 4 afresh: it was lost before the first checkpoint."""
    faults = "rank=4,round=2,phase=train,action=kill;rank=2,round=6,phase=train,action=kill"
    first = play(tmp_path, faults)
    assert first.is_right, first
    again = play(tmp_path, "", rounds=str(ROUNDS + 2))
    assert again.verdict["outcome"] == "finished", again
    assert again.verdict["took_part"][-1] == {"first": 9, "last": 10, "agents": [1, 2, 3, 4, 5]}
    assert again.rounds == list(range(1, ROUNDS + 3))
    assert len(first.verdict["failures"]) == 2
    assert again.verdict["failures"] == first.verdict["failures"], "they are summed over restarts"


def test_a_root_that_dies_in_the_first_round_is_replaced(tmp_path):
    ending = play(tmp_path, "rank=0,round=1,phase=train,action=kill")
    assert ending.is_right, ending
    assert ending.verdict["failures"][0]["round"] == 1


@pytest.mark.parametrize("spares", ["0", "1"])
def test_the_state_of_the_server_survives_the_root(tmp_path, spares):
    faults = "rank=0,round=6,phase=mid_publish,action=kill"
    settings = {"aggregation__server__name": "adam", "comm__collective": "tree", "faults__spares": spares}
    ending = play(tmp_path, faults, **settings)
    assert ending.is_right, ending


def test_a_control_variate_that_came_too_late_is_not_kept(tmp_path):
    faults = "rank=4,round=4,phase=before_train,action=sleep,delay_s=4"
    settings = {"participation__deadline_s": "1.5", "rounds": "200", "checkpoint__every": "1000"}
    ending = play(tmp_path, faults, late={4: [4]}, objective__control_variates="true", **settings)
    assert ending.is_right, ending


def test_saved_state_outlives_a_loss_right_after_the_checkpoint(tmp_path):
    ending = play(tmp_path, "rank=2,round=5,phase=train,action=kill")
    assert ending.is_right, ending
    store = CheckpointStore(tmp_path / "runs/cartpole", 3)
    assert all(store.file_for(2) in store.manifest(round).digests for round in store.rounds())


def test_spares_keep_a_run_with_one_agent_alive(tmp_path):
    ending = play(tmp_path, "rank=1,round=5,phase=train,action=kill", num_ranks=4, faults__spares="2")
    assert ending.is_right, ending
    assert [entry["agents"] for entry in ending.verdict["took_part"]] == [[1]]


def test_the_step_of_a_round_that_broke_off_is_taken_back(tmp_path):
    """All ranks have made the server's step when one dies before they agree that it is finite."""
    settings = {"aggregation__server__name": "adam", "comm__collective": "allreduce"}
    ending = play(tmp_path, "rank=4,round=5,phase=after_exchange,action=kill", **settings)
    assert ending.is_right, ending
    assert ending.verdict["took_part"][-1]["first"] == 5


def test_an_agent_that_has_missed_too_many_deadlines_does_not_return(tmp_path):
    faults = "rank=4,round=4,phase=before_train,action=sleep,delay_s=4"
    settings = {"participation__deadline_s": "1.5", "rounds": "200", "checkpoint__every": "1000"}
    ending = play(tmp_path, faults, faults__max_misses="1", **settings)
    assert ending.is_right, ending
    assert [entry["agents"] for entry in ending.verdict["took_part"]] == [[1, 2, 3, 4, 5], [1, 2, 3, 5]]
    assert "without this rank" in ending.output


def test_a_learnt_deadline_leaves_out_who_is_far_slower_than_the_others_were(tmp_path):
    faults = "rank=4,round=6,phase=before_train,action=sleep,delay_s=6"
    settings = {"participation__deadline_factor": "2", "participation__deadline_s": "1.5"}
    ending = play(tmp_path, faults, **settings)
    assert ending.is_right, ending
    assert ending.verdict["took_part"][1] == {"first": 6, "last": ROUNDS, "agents": [1, 2, 3, 5]}


@pytest.mark.parametrize("spares", ["0", "1"])
@pytest.mark.parametrize(
    ("collective", "server"), [("tree", "adam"), ("gather", "average"), ("secure_ring", "momentum")]
)
def test_a_model_that_the_mirror_cannot_make_again_is_not_taken(tmp_path, collective, server, spares):
    """A bit of the new model flips on the root: the round leaves the model of the one before."""
    faults = "rank=0,round=4,phase=after_exchange,action=corrupt"
    settings = {"comm__collective": collective, "faults__spares": spares, "aggregation__server__name": server}
    ending = play(tmp_path, faults, aggregation__validation__recompute="true", **settings)
    assert ending.is_right, ending
    assert "makes another model of the same updates" in ending.output
    everyone = list(range(1, NUM_RANKS - int(spares)))
    assert ending.verdict["took_part"] == [
        {"first": 1, "last": 3, "agents": everyone},
        {"first": 4, "last": 4, "agents": []},
        {"first": 5, "last": ROUNDS, "agents": everyone},
    ]


def test_a_root_that_dies_in_a_round_whose_model_is_refused_takes_nothing_with_it(tmp_path):
    """The round counts as refused also where the one that goes on completes its row."""
    faults = "rank=0,round=4,phase=after_exchange,action=corrupt;rank=0,round=4,phase=publish,action=kill"
    settings = {"comm__collective": "gather", "aggregation__validation__recompute": "true"}
    ending = play(tmp_path, faults, **settings)
    assert ending.is_right, ending
    assert [entry["agents"] for entry in ending.verdict["took_part"]] == [
        [1, 2, 3, 4, 5],
        [],
        [1, 2, 3, 4, 5],
    ]


def test_a_mirror_that_dies_while_models_are_made_again_is_replaced(tmp_path):
    faults = "rank=6,round=4,phase=mirror,action=kill"
    settings = {"comm__collective": "gather", "aggregation__validation__recompute": "true"}
    ending = play(tmp_path, faults, **settings)
    assert ending.is_right, ending
    assert [failure["lost_ranks"] for failure in ending.verdict["failures"]] == [[6]]


def test_where_mirror_and_root_are_lost_together_the_server_goes_on_with_its_saved_state(tmp_path):
    """The mirror dies right after the checkpoint's round, and the root before anybody has noticed."""
    faults = "rank=6,round=4,phase=mirror,action=kill;rank=0,round=5,phase=before_train,action=kill"
    settings = {"aggregation__server__name": "adam", "comm__collective": "tree"}
    ending = play(tmp_path, faults, **settings)
    assert ending.is_right, ending
    assert [failure["lost_ranks"] for failure in ending.verdict["failures"]] == [[0, 6]]
    assert "the server goes on with its state of round 4" in ending.output


def test_a_new_mirror_has_the_state_of_the_server_at_once(tmp_path):
    """An agent that mirrors dies; the next one has never heard of the state when the root dies, too."""
    faults = "rank=1,round=5,phase=before_train,action=kill;rank=0,round=5,phase=exchange,action=kill"
    settings = {"aggregation__server__name": "adam", "comm__collective": "tree", "faults__spares": "0"}
    ending = play(tmp_path, faults, checkpoint__every="1000", **settings)
    assert ending.is_right, ending
    assert [failure["lost_ranks"] for failure in ending.verdict["failures"]] == [[1], [0]]


def test_a_root_and_then_its_successor_die_before_the_run_goes_on(tmp_path):
    """Whoever took the next model before the second loss keeps it, and trains once for the round after it."""
    faults = "rank=0,round=4,phase=publish,action=kill;rank=6,round=5,phase=recovery,action=kill"
    settings = {"comm__collective": "tree", "faults__spares": "2"}
    ending = play(tmp_path, faults, num_ranks=8, **settings)
    assert ending.is_right, ending


def test_a_run_whose_root_dies_while_it_evaluates_the_last_model_has_a_verdict(tmp_path):
    faults = f"rank=0,round={ROUNDS},phase=checkpoint,action=kill,delay_s=0.02"
    ending = play(tmp_path, faults, evaluation__episodes="64")
    assert ending.is_right, ending


def test_a_deadline_that_most_agents_miss_ends_nothing(tmp_path):
    """It counts once half of the agents have come; those that are late are left out, and come back."""
    settings = {"participation__deadline_s": "0.001", "learner__budget": "1024"}
    ending = play(tmp_path, "", **settings)
    assert ending.verdict["outcome"] == "finished", ending
    assert all(len(entry["agents"]) >= 2 for entry in ending.verdict["took_part"])


def test_what_a_refused_round_took_back_outlives_the_root(tmp_path):
    faults = "rank=0,round=4,phase=after_exchange,action=corrupt;rank=0,round=5,phase=train,action=kill"
    settings = {"comm__collective": "tree", "aggregation__server__name": "adam"}
    ending = play(tmp_path, faults, aggregation__validation__recompute="true", **settings)
    assert ending.is_right, ending
    assert [entry["agents"] for entry in ending.verdict["took_part"]] == [
        [1, 2, 3, 4, 5],
        [],
        [1, 2, 3, 4, 5],
    ]
