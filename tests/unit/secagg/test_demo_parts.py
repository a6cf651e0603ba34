import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from secagg.demo import data, model
from secagg.demo.options import DemoOptions, protocol_options
from secagg.demo.processes import Household, free_port
from secagg.demo.protocols import CkksOptions, MaskingOptions, numbers_of
from secagg.demo.words import words_for
from secagg.errors import UnreachableError, UsageError


def the_digits() -> tuple[data.Examples, list[data.Examples]]:
    generator = np.random.default_rng(7)
    training, test = data.load_digits(generator)
    return test, data.split(training, 8, generator)


def test_the_split_is_uneven_and_not_identical_and_loses_no_scan() -> None:
    test, parts = the_digits()
    assert len(test) + sum(len(part) for part in parts) == 1797
    sizes = sorted(len(part) for part in parts)
    assert sizes[0] >= data.MIN_EXAMPLES
    assert sizes[-1] > 1.3 * sizes[0]
    shares = np.array([np.bincount(part.digits, minlength=10) / len(part) for part in parts])
    assert np.max(np.ptp(shares, axis=0)) > 0.2, "some digit is far more common at one client than at another"


def test_every_client_has_something_to_learn_from_even_when_there_are_many() -> None:
    generator = np.random.default_rng(1)
    training, _ = data.load_digits(generator)
    parts = data.split(training, 64, generator)
    assert min(len(part) for part in parts) >= data.MIN_EXAMPLES
    assert sum(len(part) for part in parts) == len(training)


def test_plain_averaging_learns() -> None:
    test, parts = the_digits()
    weights = model.initial(np.random.default_rng(7))
    before = model.accuracy(weights, test)
    for index in range(3):
        updates = [model.train(weights, part, model.local_generator(7, i, index)) for i, part in enumerate(parts)]
        weights = model.apply(weights, model.weighted_mean(updates, [len(part) for part in parts]))
    assert before < 0.4
    assert model.accuracy(weights, test) > 0.8


def test_training_repeats_itself_from_its_seed() -> None:
    _, parts = the_digits()
    weights = model.initial(np.random.default_rng(7))
    first = model.train(weights, parts[0], model.local_generator(7, 0, 0))
    again = model.train(weights, parts[0], model.local_generator(7, 0, 0))
    other = model.train(weights, parts[0], model.local_generator(7, 0, 1))
    assert model.largest_difference(first, again) == 0
    assert model.largest_difference(first, other) > 0


def test_a_weighted_mean_is_weighted() -> None:
    low = {"w": np.zeros(3, np.float32)}
    high = {"w": np.ones(3, np.float32)}
    np.testing.assert_allclose(model.weighted_mean([low, high], [1, 3])["w"], 0.75)
    assert model.clipped({"w": np.array([2.0, -3.0], np.float32)}, 1.0)["w"].tolist() == [1.0, -1.0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"clients": 1}, "--clients"),
        ({"clients": 65}, "--clients"),
        ({"rounds": 0}, "--rounds"),
        ({"seed": -1}, "--seed"),
        ({"dropouts": -1}, "--dropouts"),
        ({"dropouts": 7}, "--dropouts"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_starts(options: dict[str, int], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        DemoOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dead_holders": -1}, "--dead-holders"),
        ({"dead_holders": 3}, "--dead-holders"),
        ({"holders": 10}, "key holders"),
        ({"threshold": 1}, "threshold"),
    ],
)
def test_key_holders_that_cannot_work_are_refused_before_anything_starts(options: dict[str, int], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        DemoOptions(protocol=CkksOptions(**options))


@pytest.mark.parametrize(
    ("clients", "dropouts", "named"),
    [(2, 0, "min_contributors"), (6, 2, "drop-outs"), (20, 10, "dropout_fraction"), (20, 9, "drop-outs")],
)
def test_a_masking_demo_that_no_graph_bears_is_refused_with_the_options_to_change(
    clients: int, dropouts: int, named: str
) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        DemoOptions(protocol=MaskingOptions(), clients=clients, dropouts=dropouts)
    assert "--dropouts" in str(caught.value)


@pytest.mark.parametrize(("clients", "dropouts"), [(3, 0), (5, 1), (20, 4), (11, 1), (60, 10), (64, 20)])
def test_a_masking_demo_bears_its_drop_outs_and_no_other_roster_is_too_small(clients: int, dropouts: int) -> None:
    options = DemoOptions(protocol=MaskingOptions(), clients=clients, dropouts=dropouts)
    spec = options.job(max_weight=200.0)
    numbers = numbers_of(spec)
    assert numbers.dropped == dropouts
    assert clients // 2 <= spec.min_contributors <= clients - dropouts
    assert options.min_contributors == spec.min_contributors
    # Enough neighbours and signers are left to a client when the others vanish.
    assert clients - dropouts - 1 >= numbers.threshold
    assert clients - dropouts >= numbers.quorum
    assert spec.masking_parameters.sum_bits <= 26


def test_the_figures_of_masking_are_those_of_the_full_roster() -> None:
    options = DemoOptions(protocol=MaskingOptions(), clients=20, dropouts=4)
    figures = options.protocol.figures(options.job(max_weight=1.0))
    assert figures == {"holders": 0, "threshold": 11, "quorum": 11, "neighbours": 19, "bits_per_value": 25}


@pytest.mark.parametrize("option", ["holders", "threshold", "dead_holders"])
def test_options_of_key_holders_cannot_stand_beside_masking(option: str) -> None:
    asked = {"holders": None, "threshold": None, "dead_holders": None, option: 5}
    with pytest.raises(UsageError, match="--" + option.replace("_", "-")):
        protocol_options("masking", **asked)  # type: ignore[arg-type]


def test_what_was_not_asked_for_is_as_the_protocol_has_it() -> None:
    nothing = {"holders": None, "threshold": None, "dead_holders": None}
    assert protocol_options("masking", **nothing) == MaskingOptions()  # type: ignore[arg-type]
    assert protocol_options("ckks", holders=7, threshold=None, dead_holders=None) == CkksOptions(holders=7)
    with pytest.raises(UsageError, match="choose ckks or masking"):
        protocol_options("rot13", **nothing)  # type: ignore[arg-type]


def test_the_key_holders_that_die_are_the_last_ones() -> None:
    assert CkksOptions().dying_holders == ()
    assert CkksOptions(dead_holders=2).dying_holders == ("holder-4", "holder-5")


def test_the_words_of_masking_name_no_key_holder_who_could_see_anything() -> None:
    options = DemoOptions(protocol=MaskingOptions(), clients=20, dropouts=4)
    words = words_for(options, options.job(max_weight=1.0))
    assert "19 neighbours" in words.how
    assert "any 11 neighbours" in words.how
    assert not any("key holder" in cell for row in words.saw for cell in row)
    assert [*words.phases.values()] == ["join", "share", "upload", "confirm", "unmask"]


def test_the_demo_takes_the_larger_ring_where_the_small_one_is_too_coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DemoOptions().job(max_weight=200.0).ckks.preset == "ckks-4096"
    assert DemoOptions(protocol=CkksOptions(holders=9, threshold=5)).job(max_weight=200.0).ckks.preset == "ckks-4096"
    assert replace(DemoOptions(), clients=2).min_contributors == 2
    monkeypatch.setattr("secagg.demo.protocols.PRECISION", 1e-8)
    precise = DemoOptions().job(max_weight=200.0).ckks
    assert (precise.preset, precise.packing) == ("ckks-8192", "coefficients")


def test_a_household_reports_the_last_words_of_a_process_that_failed(tmp_path: Path) -> None:
    household = Household(directory=tmp_path)
    try:
        household.start("clock", ["no_such_module_at_all"])
        with pytest.raises(UnreachableError, match="no_such_module_at_all"):
            household.wait_for_port("clock", free_port(), limit_seconds=30)
    finally:
        household.stop()


def test_a_household_says_when_nobody_listens(tmp_path: Path) -> None:
    household = Household(directory=tmp_path)
    try:
        household.start("mute", ["http.server", "--bind", "127.0.0.1", str(free_port())])
        with pytest.raises(UnreachableError, match="did not listen"):
            household.wait_for_port("mute", free_port(), limit_seconds=0.3)
    finally:
        household.stop()


def test_a_household_ends_processes_that_do_not_want_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.demo.processes.STOP_SECONDS", 0.5)
    stubborn = tmp_path / "stubborn.py"
    stubborn.write_text(
        "import signal, sys, threading\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        "threading.Event().wait(60)\n"
    )
    household = Household(directory=tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = household.start("stubborn", ["stubborn"])
    assert child.output.readline() == "ready\n"
    household.stop()
    assert child.process.returncode is not None
    assert not household.children


def test_the_demo_needs_its_extra_and_says_so() -> None:
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import numpy as np\n"
        "from secagg.demo.data import load_digits\n"
        "load_digits(np.random.default_rng(0))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "scikit-learn" in run.stderr.splitlines()[-1]


def test_an_interrupt_while_a_process_starts_waits_until_the_process_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    household = Household(directory=tmp_path)
    real = subprocess.Popen

    def interrupted(*arguments: object, **options: object) -> object:
        process = real(*arguments, **options)  # type: ignore[call-overload]
        os.kill(os.getpid(), signal.SIGINT)
        return process

    try:
        monkeypatch.setattr(subprocess, "Popen", interrupted)
        with pytest.raises(KeyboardInterrupt):
            household.start("clock", ["http.server", "--bind", "127.0.0.1", str(free_port())])
        assert list(household.children) == ["clock"]
    finally:
        child = household.children.get("clock")
        household.stop()
    assert child is not None
    assert child.process.returncode is not None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
