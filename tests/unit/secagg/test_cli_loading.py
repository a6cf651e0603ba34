"""Services are loaded while nobody looks for garbage, and run as ever."""

import gc

import pytest

from secagg.cli.loading import without_collecting


def test_nothing_is_collected_while_a_service_is_loaded_and_everything_afterwards() -> None:
    with without_collecting():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_service_that_cannot_be_loaded_leaves_the_collector_on() -> None:
    message = "no module named so"
    with pytest.raises(ImportError), without_collecting():
        raise ImportError(message)
    assert gc.isenabled()


def test_a_collector_that_was_off_before_stays_off() -> None:
    gc.disable()
    try:
        with without_collecting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
