"""BLAS has one thread while anybody encrypts, and what it had before when nobody does."""

from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from secagg.client.one_blas_thread import OneBlasThread

assert np.matmul  # numpy brings the BLAS that is looked at


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    with threadpool_limits(limits=2, user_api="blas"):
        yield


def test_blas_has_one_thread_inside_and_its_own_afterwards() -> None:
    limit = OneBlasThread()
    with limit:
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with limit:
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_two_that_overlap_leave_what_they_found() -> None:
    limit = OneBlasThread()
    limit.__enter__()
    limit.__enter__()
    limit.__exit__()
    assert blas_threads() == {1}
    limit.__exit__()
    assert blas_threads() == {2}


def test_an_error_inside_lifts_the_limit() -> None:
    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError), OneBlasThread():
        fail()
    assert blas_threads() == {2}
