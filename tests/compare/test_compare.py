"""Comparisons end to end on a tiny model: tuned alike, resumed, fair, with backpropagation in every table."""

from __future__ import annotations

import json

import pytest

from spry.compare import compare as module
from spry.compare import fairness, grid, tune
from spry.compare.compare import compare_methods, list_runs, with_baseline
from spry.compare.costs import Budget
from spry.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from spry.experiment import log
from spry.experiment.build import ANY_UNITS, build
from spry.experiment.config import read_config
from spry.experiment.folder import CONFIG
from spry.experiment.method import build_algorithm
from spry.experiment.run import Started
from spry.federated.methods import METHODS


@pytest.fixture
def config(tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{tiny_csv}"\nclients = 4\n'
        'partition = "iid"\n'
        "[schedule]\nrounds = 2\nclients_per_round = 2\nevaluate_every = 1\n[client]\nsteps = 1\nbatch_size = 4\n"
    )
    return read_config(path)


@pytest.fixture
def tuned(config):
    return config.with_settings({
        "tune.grid.lr": [1e-3, 3e-2],
        "tune.methods.fwdllm": {"lr": [0.1], "method.threshold": [1e-6, 0.1]},
        "tune.rounds": 1,
    })


def started(events_of):
    return [event.folder.name for _, event in events_of if isinstance(event, Started)]


def document(folder):
    return json.loads((folder / "comparison.json").read_text())


@pytest.fixture(scope="module")
def whole(tiny_model, tiny_csv, tmp_path_factory):
    """A finished comparison with tuning, and its document."""
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{tiny_csv}"\nclients = 4\n'
        'partition = "iid"\n[tune]\nrounds = 1\ngrid = {lr = [1e-3, 3e-2]}\n'
        "[schedule]\nrounds = 2\nclients_per_round = 2\nevaluate_every = 1\n[client]\nsteps = 1\nbatch_size = 4\n"
        '[head]\nstart = "drawn"\n'
    )
    names = started(compare_methods(read_config(path), ["spry", "fedsgd"], [0, 1], folder / "all"))
    return folder / "all", names, read_config(path)


def test_tuning_comes_first_and_is_recorded(whole):
    folder, names, _ = whole
    assert names == [
        "spry-0",
        "fedsgd-0",
        "spry-1",
        "fedsgd-1",
        "spry-s0",
        "fedsgd-s0",
        "spry-s1",
        "fedsgd-s1",
    ]
    tuning = document(folder)["tuning"]
    assert (tuning["seed"], tuning["rounds"], tuning["validation"], tuning["points"]) == (100, 1, 0.1, 2)
    for method, key in (("spry", "client.lr"), ("fedsgd", "server.lr")):
        found = tuning["methods"][method]
        assert [point["settings"] for point in found["points"]] == [{key: 1e-3}, {key: 3e-2}]
        assert all(0 <= point["score"] <= 1 and point["loss"] > 0 for point in found["points"])
        best = max(found["points"], key=lambda point: (point["score"], -point["loss"]))
        assert found["chosen"] == best["settings"]
        assert found["at_edge"] == [key]
        for seed in (0, 1):
            flat = read_config(folder / f"{method}-s{seed}" / CONFIG).flat()
            assert flat[key] == found["chosen"][key]
            assert flat["data.validation"] == 0


def test_all_runs_share_everything_but_what_is_a_methods_own(whole):
    folder, _, _ = whole
    for runs in (folder.glob("*-s*"), (folder / "tuning").iterdir()):
        seen = [fairness.shared_settings(read_config(run / CONFIG)) for run in runs]
        assert len(seen) == 4
        assert all(each == seen[0] for each in seen)
        assert {"model.dtype", "model.dropout", "data.name", "data.alpha", "client.steps", "client.batch_size",
                "schedule.rounds", "schedule.clients_per_round", "peft.dropout"} <= seen[0].keys()  # fmt: skip


def test_runs_of_a_seed_ask_the_same_clients_and_take_as_many_steps(whole):
    folder, _, _ = whole
    for seed in (0, 1):
        asked = [
            [
                [(client["client"], client["examples"], client["steps"]) for client in entry["clients"]]
                for entry in log.read_rounds(folder / f"{method}-s{seed}")
            ]
            for method in ("spry", "fedsgd")
        ]
        assert asked[0] == asked[1]


def test_trials_leave_the_test_part_alone(whole):
    folder, _, _ = whole
    for trial in (folder / "tuning").iterdir():
        (*_, last) = log.read_rounds(trial)
        assert (last["test_accuracy"], last["test_loss"]) == (None, None)
        assert last["validation_accuracy"] is not None
    (*_, last) = log.read_rounds(folder / "spry-s0")
    assert last["test_accuracy"] is not None and last["validation_accuracy"] is None


def test_a_comparison_needs_the_test_part(config):
    with pytest.raises(ConfigError, match="compared on the test part"):
        list_runs(config.with_settings({"schedule.test": False}), ["spry"], [0])


def test_rows_and_views_are_there(whole):
    found = document(whole[0])
    assert {"method", "seeds", "score_mean", "score_std", "peak_bytes_above_model", "client_seconds_per_round",
            "bytes_up_per_client_round", "bytes_down_per_client_round"} <= found["rows"][0].keys()  # fmt: skip
    assert [row["checkpointing"] for row in found["rows"]] == [None, True]
    assert found["views"]["equal_rounds"]["rounds"] == [1, 2]
    final = found["views"]["equal_rounds"]["rows"][1]["after"][-1]["score_mean"]
    assert final == pytest.approx(found["rows"][1]["score_mean"])
    assert found["views"]["target"]["target"] == pytest.approx(0.97 * final)


def test_a_second_call_runs_nothing_and_takes_other_budgets(whole):
    folder, _, config = whole
    again = compare_methods(
        config, ["spry", "fedsgd"], [0, 1], folder, budget=Budget(peak_bytes_above_model=1), target=1.0
    )
    assert started(again) == []
    views = document(folder)["views"]
    assert [row["fits"] for row in views["budget"]["rows"]] == [False, False]
    assert views["target"]["target"] == pytest.approx(1.0)
    list(compare_methods(config, ["spry", "fedsgd"], [0, 1], folder))


def test_a_folder_takes_one_comparison_at_a_time(config, tmp_path):
    first = compare_methods(config, ["spry"], [0], tmp_path / "all")
    next(first)
    with pytest.raises(CheckpointError, match="is written by process"):
        next(compare_methods(config, ["fedsgd"], [0], tmp_path / "all"))
    first.close()
    assert started(compare_methods(config, ["fedsgd"], [0], tmp_path / "all")) == ["fedsgd-s0"]


def test_stopped_while_tuning_it_goes_on(tuned, tmp_path):
    going = compare_methods(tuned, ["spry", "fwdllm"], [0], tmp_path / "all")
    for _ in range(3):  # the first trial whole, the second begun
        next(going)
    going.close()
    names = started(compare_methods(tuned, ["spry", "fwdllm"], [0], tmp_path / "all"))
    assert names == ["fwdllm-0", "spry-1", "fwdllm-1", "spry-s0", "fwdllm-s0"]
    chosen = document(tmp_path / "all")["tuning"]["methods"]["fwdllm"]["chosen"]
    assert chosen["server.lr"] == pytest.approx(0.1)
    assert chosen["method.threshold"] in {1e-6, 0.1}


def test_a_trial_that_breaks_down_has_failed_and_is_not_tried_again(tuned, tmp_path, monkeypatch):
    real = tune.run

    def broken(config, folder, *, resume):
        for event in real(config, folder, resume=resume):
            yield event
            if config.client.lr in {3e-2}:
                raise TrainingError("round 0: no client's reply could be used")

    monkeypatch.setattr(tune, "run", broken)
    config = tuned.with_settings({"tune.rounds": 2})
    list(compare_methods(config, ["spry"], [0], tmp_path / "all"))
    found = document(tmp_path / "all")["tuning"]["methods"]["spry"]
    assert found["points"][1]["score"] is None
    assert "no client" in found["points"][1]["failed"]
    assert found["chosen"] == {"client.lr": 1e-3}
    assert started(compare_methods(config, ["spry"], [0], tmp_path / "all")) == []
    nowhere = config.with_settings({"tune.methods.spry": {"lr": [3e-2]}})
    with pytest.raises(TrainingError, match="every point of its grid"):
        list(compare_methods(nowhere, ["spry"], [0], tmp_path / "none"))


def test_another_grid_archives_the_runs_that_it_replaces(tuned, tmp_path):
    folder, one, other = tmp_path / "all", [1e-3], [1e-2]
    for grid_, new in ((one, 2), (other, 2), (one, 2)):
        config = tuned.with_settings({"tune.methods.spry": {"lr": grid_}})
        assert len(started(compare_methods(config, ["spry"], [0], folder))) == new
        assert read_config(folder / "spry-s0" / CONFIG).client.lr == grid_[0]
    archived = sorted(
        place.parent.relative_to(folder / "archive") for place in folder.rglob("archive/**/config.toml")
    )
    assert [str(place) for place in archived] == [
        "spry-s0-1",
        "spry-s0-2",
        "tuning/spry-0-1",
        "tuning/spry-0-2",
    ]
    with pytest.raises(CheckpointError, match=r"client\.batch_size was 4, is 3"):
        list(compare_methods(config.with_settings({"client.batch_size": 3}), ["spry"], [0], folder))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"data.name": "nowhere.csv"}, DataError),
        ({"schedule.clients_per_round": 5}, ConfigError),
        ({"methods.fedavg.client.optimizer": "adam_w", "methods.fedavg.client.lr": 0.1}, ConfigError),
    ],
)
def test_a_comparison_that_does_not_begin_leaves_nothing_behind(settings, error, config, tmp_path):
    with pytest.raises(error):
        list(
            compare_methods(
                config.with_settings(settings), ["spry", "fedavg"], [0], tmp_path / "runs" / "all"
            )
        )
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(error):
        list(compare_methods(config.with_settings(settings), ["spry", "fedavg"], [0], tmp_path / "mine"))
    assert (tmp_path / "mine").is_dir()


def test_a_comparison_may_be_made_longer(config, tmp_path):
    folder = tmp_path / "all"
    list(compare_methods(config, ["spry", "fedavg"], [0], folder))
    longer = config.with_settings({"schedule.rounds": 3})
    events = [event for _, event in compare_methods(longer, ["spry", "fedavg"], [0], folder)]
    assert [event.resumed_at for event in events if isinstance(event, Started)] == [2, 2]
    assert document(folder)["views"]["equal_rounds"]["rounds"] == [1, 2, 3]
    with pytest.raises(
        CheckpointError, match=r"of 3 rounds, .* is 2: rounds only grow.*another folder \(--out\)"
    ):
        list(compare_methods(config, ["spry", "fedavg"], [0], folder))


def test_what_cannot_go_on_is_refused_before_anything_does(config, tmp_path):
    list(compare_methods(config, ["spry", "fwdllm"], [0], tmp_path / "all"))
    longer = config.with_settings({"schedule.rounds": 3})
    with pytest.raises(CheckpointError, match=r"fwdllm-s0 .* steps of fwdllm depend on"):
        list(compare_methods(longer, ["spry", "fwdllm"], [0], tmp_path / "all"))
    assert len(log.read_rounds(tmp_path / "all" / "spry-s0")) == 2


def test_a_tuned_comparison_may_be_made_longer(tuned, tmp_path):
    tuned = tuned.with_settings({"tune.rounds": None})
    list(compare_methods(tuned, ["spry"], [0], tmp_path / "all"))
    longer = tuned.with_settings({"schedule.rounds": 3, "tune.methods.spry": {"lr": [1e-3, 1e-2]}})
    assert len(started(compare_methods(longer, ["spry"], [0], tmp_path / "all"))) == 3
    assert document(tmp_path / "all")["tuning"]["rounds"] == 3


def test_a_run_that_breaks_down_does_not_keep_the_others_from_running(config, tmp_path, monkeypatch):
    real = module.run

    def broken(config, folder, *, resume):
        for event in real(config, folder, resume=resume):
            yield event
            if (config.method.name, config.seed) == ("spry", 0):
                raise TrainingError("round 0: no client's reply could be used.")

    monkeypatch.setattr(module, "run", broken)
    with pytest.raises(TrainingError, match=r"1 of 4 runs broke down, .* spry, seed 0: round 0"):
        list(compare_methods(config, ["spry", "fedavg"], [0, 1], tmp_path / "all"))
    monkeypatch.setattr(module, "run", real)
    assert started(compare_methods(config, ["spry", "fedavg"], [0, 1], tmp_path / "all")) == ["spry-s0"]


def test_trials_are_judged_on_training_data_that_they_do_not_train_on(config, tuned):
    tested, judged = build(config.for_method("spry", 0)), build(tune.list_trials(tuned, ["spry"])[0].config)
    count = len(tested.clients.clients[0].data)
    held = sum(len(batch["labels"]) for batch in judged.clients.validation)
    assert 0 < held <= round(0.1 * count) + 1
    assert list(judged.clients.test) == []
    assert len(judged.clients.clients[0].data) <= count - held


def test_a_setting_that_is_no_methods_own_is_refused(config):
    uneven = config.with_settings({"methods.spry.client.steps": 5})
    with pytest.raises(ConfigError, match=r"fedavg has client\.steps = 1, spry has 5"):
        list_runs(uneven, ["spry", "fedavg"], [0])


@pytest.mark.parametrize(
    ("tuning", "says"),
    [
        ({"tune.grid.lr": [0.1], "tune.methods.spry.lr": [0.1, 0.2]}, "unequal numbers of points"),
        ({"tune.methods.spry.lr": [0.1]}, "no grid for baffle"),
        ({"tune.grid.lr": 0.1}, "must be a list"),
        ({"tune.grid.lr": []}, "must be a list"),
        ({"tune.grid": {"client.lr": [0.1]}}, "changes nothing for baffle"),
        (
            {"tune.grid": {"step_factors.exact": [0.1]}},
            r"peft\.exact is 'head'\. Set peft\.exact = 'last_block'",
        ),
        ({"tune.grid": {"step_factors.heads": [0.1]}}, "step_factors"),
        ({"tune.grid": {"step_factors.head": [-1.0]}}, r"step_factors\.head is -1.0"),
        ({"tune.grid": {"client.rate": [0.1]}}, r"client\.rate cannot be tuned"),
        ({"tune.grid": {"schedule.rounds": [1, 2]}}, r"schedule\.rounds cannot be tuned"),
        ({"tune.grid": {"method.name": ["spry"]}}, r"method\.name cannot be tuned"),
        ({"tune.grid": {"method.cuont": [1]}}, "no option 'cuont'"),
    ],
)
def test_a_bad_grid_is_refused_before_anything_runs(tuning, says, config):
    with pytest.raises(ConfigError, match=says):
        list_runs(config.with_settings(tuning), ["spry", "baffle"], [0])


@pytest.mark.parametrize("name", METHODS)
def test_the_step_size_of_whoever_steps_can_be_tuned_for_every_method(name, config):
    (trial,) = tune.list_trials(config.with_settings({"tune.grid.lr": [0.5]}), [name])
    build(trial.config)
    assert list(trial.point.values()) == [0.5]


def test_step_sizes_by_group_and_decay_can_be_tuned_for_every_method(config):
    """Each point is a configuration of its own; what is not tuned stays shared."""
    tuning = {
        "tune.grid": {"step_factors.head": [0.1, 0.0], "schedule.decay": ["none", "linear"]},
        "tune.methods.head_only": {"step_factors.head": [0.1, 1.0], "schedule.decay": ["none", "linear"]},
    }
    trials = tune.list_trials(config.with_settings(tuning), list(METHODS))
    assert len(trials) == 4 * len(METHODS)
    for trial in trials:
        wanted = (trial.config.step_factors.head, trial.config.schedule.decay)
        assert wanted == (trial.point["step_factors.head"], trial.point["schedule.decay"])
        build_algorithm(trial.config, ANY_UNITS)
    with pytest.raises(
        ConfigError, match=r"changes nothing for head_only, which does not train the body\. Leave"
    ):
        tune.list_trials(
            config.with_settings({"tune.grid": {"step_factors.body": [0.1]}}), ["spry", "head_only"]
        )


def test_a_tuned_factor_is_chosen_and_compared(config, tmp_path):
    """Frozen by the grid's only choice, the head is in no reply of the compared run."""
    tuned = config.with_settings({
        "tune.grid": {"step_factors.head": [0.0], "schedule.decay": ["linear"]},
        "tune.rounds": 1,
    })
    list(compare_methods(tuned, ["fedavg"], [0], tmp_path))
    written = read_config(tmp_path / "fedavg-s0" / CONFIG)
    assert (written.step_factors.head, written.schedule.decay) == (0.0, "linear")
    units = {
        u for entry in log.read_rounds(tmp_path / "fedavg-s0") for c in entry["clients"] for u in c["units"]
    }
    assert units and "head" not in units


@pytest.mark.parametrize(("chosen", "edges"), [(0.1, ["client.lr"]), (0.2, []), (0.3, ["client.lr"])])
def test_the_edge_of_a_grid(chosen, edges):
    tried = [
        {"client.lr": lr, "method.num_directions": 1, "method.split": "cyclic"} for lr in (0.3, 0.1, 0.2)
    ]
    assert grid.settings_at_edge({**tried[0], "client.lr": chosen}, tried) == edges


def test_backpropagation_with_checkpointing_joins_where_it_is_missing(config):
    assert with_baseline(config, ["spry"])[1] == ["spry", "fedavg"]
    assert with_baseline(config, ["spry", "fedyogi"])[1] == ["spry", "fedyogi"]
    assert with_baseline(config, ["spry", "local"])[1] == ["spry", "local", "fedavg"]
    plain = config.with_settings({
        "methods.fedsgd.method.checkpoint": False,
        "methods.fedavg": {"client.lr": 0.5, "method": {"checkpoint": False}},
        "tune.methods.fedavg.lr": [0.1],
    })  # fmt: skip
    wanted, names = with_baseline(plain, ["fedsgd"])
    assert names == ["fedsgd", "fedavg"]
    assert wanted.for_method("fedavg", 0).method.checkpoint
    assert not wanted.for_method("fedsgd", 0).method.checkpoint
    wanted, names = with_baseline(plain, ["fedavg"])
    assert names == ["fedavg", "fedavg_checkpointing"]
    kept, recomputed = (wanted.for_method(name, 0) for name in names)
    assert recomputed == kept.with_settings({"method.checkpoint": True})
    assert not kept.method.checkpoint
    assert [trial.point for trial in tune.list_trials(wanted, names)] == [{"client.lr": 0.1}] * 2


def test_one_method_may_be_compared_with_itself_under_other_settings(config, tmp_path):
    config = config.with_settings({"methods.many": {"method.name": "spry", "method.num_directions": 4}})
    list(compare_methods(config, ["spry", "many"], [0], tmp_path / "all"))
    rows = document(tmp_path / "all")["rows"]
    assert [(row["method"], row["algorithm"]) for row in rows] == [("spry", "spry"), ("many", "spry")]
    assert document(tmp_path / "all")["views"]["target"] is None  # nobody backpropagates
