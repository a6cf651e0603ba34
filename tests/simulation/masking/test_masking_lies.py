"""One lie at a time, told by a coordinator in league with every corrupt client that the plan bears (see `test_masking_rounds`)."""

from __future__ import annotations

import pytest

from secagg.errors import CertificateError, FaultyCoordinatorError, PolicyError, SecAggError
from secagg.ids import ClientId
from secagg.messages.masking import MaskedUpload, MaskingJoin, Shares, Unmasking
from tests.simulation.masking.client_nodes import ClientNode
from tests.simulation.masking.deceit import Lie
from tests.simulation.masking.exposure import exposure
from tests.simulation.masking.fates import Fate
from tests.simulation.masking.invariants import check
from tests.simulation.masking.lying_desk import LyingDesk
from tests.simulation.masking.parties import clients, job
from tests.simulation.masking.rounds import Scenario, WholeRound
from tests.simulation.network import Weather

COUNT = 10
SPEC = job(COUNT, least=5, corrupt_fraction=0.2, dropout_fraction=0.0)
"""Ten clients, two of them corrupt: k = 9, t = 6, q = 7."""
CORRUPT = dict.fromkeys((clients(COUNT)[2], clients(COUNT)[7]), Fate.COLLUDES)
BEFORE_SHARES = {
    Lie.TINY_PLAN: PolicyError,
    Lie.SWAPS_KEY: CertificateError,
    Lie.COPIES_KEY: FaultyCoordinatorError,
    Lie.REPLAYS_JOIN: FaultyCoordinatorError,
    Lie.WEAK_NUMBERS: FaultyCoordinatorError,
}
"""Lies that every client they are told to sees through before it shares its secrets."""


def told(*lies: Lie, seed: int = 0, fates: dict[ClientId, Fate] | None = None, count: int = COUNT) -> WholeRound:
    scenario = Scenario(seed=seed, spec=SPEC, count=count, fates=CORRUPT | (fates or {}), lies=frozenset(lies))
    done = WholeRound(scenario).run()
    check(done)
    return done


def honest(done: WholeRound) -> list[ClientNode]:
    return [node for node in done.nodes.values() if not node.corrupt]


def victim(done: WholeRound) -> ClientId:
    assert isinstance(done.desk, LyingDesk)
    return done.desk.victim


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lie", Lie)
def test_a_lie_gets_the_sum_of_one_set_or_nothing(lie: Lie, seed: int) -> None:
    done = told(lie, seed=seed)
    for node in honest(done):
        assert node.result is not None or isinstance(node.error, SecAggError)


@pytest.mark.parametrize("lie", BEFORE_SHARES)
def test_what_shows_at_once_is_answered_with_nothing(lie: Lie) -> None:
    done = told(lie)
    for node in honest(done):
        if lie is Lie.SWAPS_KEY and node.client == victim(done):
            continue
        assert isinstance(node.error, BEFORE_SHARES[lie]), (node.client, node.error)
        assert Shares not in node.said
        assert (MaskingJoin in node.said) != (lie is Lie.TINY_PLAN)


def test_a_roster_without_oneself_is_answered_with_nothing() -> None:
    done = told(Lie.LEAVES_OUT)
    left_out = done.nodes[victim(done)]
    assert isinstance(left_out.error, FaultyCoordinatorError)
    assert Shares not in left_out.said


@pytest.mark.parametrize("lies", [(), (Lie.FORGES_CONFIRMATIONS,)])
def test_survivors_of_ones_own_are_revealed_for_by_nobody(lies: tuple[Lie, ...]) -> None:
    """Nobody else signed the same set: corrupt clients alone are no quorum, and forged signatures none at all."""
    for seed in range(4):
        done = told(Lie.EACH_ITS_OWN, *lies, seed=seed)
        signed = [node.confirming.confirmation.survivors_digest for node in honest(done) if node.confirming]
        assert max(signed.count(one) for one in signed) + len(CORRUPT) < 7
        assert not any(Unmasking in node.said for node in honest(done))


def test_forged_confirmations_are_revealed_for_by_nobody() -> None:
    """Four are gone before they confirm: those who are left, with the corrupt ones, are one too few, whoever else signs."""
    gone = dict.fromkeys((clients(COUNT)[place] for place in (0, 4, 5, 9)), Fate.GONE_BEFORE_CONFIRM)
    for seed in range(6):
        done = told(Lie.FORGES_CONFIRMATIONS, seed=seed, fates=gone)
        steady = [node for node in honest(done) if node.fate is Fate.HONEST]
        assert len(steady) + len(CORRUPT) == 6
        assert all(isinstance(node.error, SecAggError) for node in steady)
        assert not any(Unmasking in node.said for node in honest(done))


def test_a_late_vector_stays_masked() -> None:
    """Everybody else reveals the shares of the living client's mask key, and nobody those of its seed."""
    done = told(Lie.LATE_VECTOR)
    lost = victim(done)
    exposed = exposure(done.nodes)
    assert done.nodes[lost].vector is not None
    assert lost in exposed.keys
    assert lost not in exposed.seeds
    assert exposed.sums == (frozenset(clients(COUNT)) - set(CORRUPT) - {lost},)


@pytest.mark.parametrize("seed", range(8))
def test_who_is_dropped_and_alive_keeps_one_secret(seed: int) -> None:
    done = told(Lie.DROPPED_AND_ALIVE, seed=seed)
    exposed = exposure(done.nodes)
    assert not {victim(done)} & exposed.seeds & exposed.keys
    assert done.nodes[victim(done)].vector is not None


@pytest.mark.parametrize("seed", range(10))
def test_who_is_isolated_does_not_upload(seed: int) -> None:
    """Masks with corrupt clients, and with clients whose keys come out, would be none."""
    done = told(Lie.ISOLATES, seed=seed)
    lonely = done.nodes[victim(done)]
    assert lonely.sharing is not None
    if MaskedUpload not in lonely.said:
        assert isinstance(lonely.error, FaultyCoordinatorError)
        assert "sharers" in str(lonely.error)


@pytest.mark.parametrize("seed", range(8))
def test_who_comes_back_signs_no_second_set(seed: int) -> None:
    """Every client dies and comes back, and is shown other survivors each time that it asks."""
    restless = dict.fromkeys(set(clients(COUNT)) - set(CORRUPT), Fate.RESTARTS)
    done = told(Lie.ASKS_TWICE, seed=seed, fates=restless)
    assert any(node.confirming is not None for node in honest(done))


def test_a_result_of_others_than_the_survivors_is_refused() -> None:
    done = told(Lie.BENDS_RESULT)
    assert all(Unmasking in node.said for node in honest(done))
    assert all(isinstance(node.error, FaultyCoordinatorError) for node in honest(done))


@pytest.mark.parametrize("seed", range(6))
def test_two_faces_of_the_corrupt_make_two_rosters_and_one_sum_at_most(seed: int) -> None:
    done = told(Lie.TWO_FACES, seed=seed)
    rosters = {node.sharing.roster_digest for node in honest(done) if node.sharing is not None}
    assert len(rosters) == 2
    assert len(exposure(done.nodes).sums) <= 1


@pytest.mark.parametrize("seed", range(6))
def test_no_lie_gains_by_bad_weather(seed: int) -> None:
    weather = Weather(drop=0.1, duplicate=0.5, longest_delay_seconds=8.0)
    lies = frozenset({Lie.SPLITS_SURVIVORS, Lie.MIXES_SEALED})
    check(WholeRound(Scenario(seed=seed, spec=SPEC, count=COUNT, weather=weather, fates=CORRUPT, lies=lies)).run())


@pytest.mark.parametrize("seed", range(8))
def test_ghosts_of_another_roster_do_not_make_up_the_numbers(seed: int) -> None:
    """Their mask keys come out where they dropped out; a sum still has the plan's minimum of those who are really there."""
    for lies in ((Lie.SPLITS_ROSTER, Lie.GHOSTS), (Lie.SPLITS_ROSTER, Lie.GHOSTS, Lie.LATE_VECTOR)):
        done = told(*lies, seed=seed, fates={clients(COUNT)[0]: Fate.GONE_AFTER_SHARES})
        for opened in exposure(done.nodes).sums:
            assert len(opened) >= SPEC.min_contributors - len(CORRUPT)
