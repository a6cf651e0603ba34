"""Request ids."""

import pytest

from secagg.errors import ConflictError, UsageError
from secagg.key_holder.repeats import RequestIds


def test_a_repeat_is_fine_and_other_content_is_not() -> None:
    ids = RequestIds()
    ids.verify("coordinator/a", "1", b"content")
    ids.verify("coordinator/a", "1", b"content")
    ids.verify("coordinator/b", "1", b"other")
    with pytest.raises(ConflictError):
        ids.verify("coordinator/a", "1", b"other")


@pytest.mark.parametrize("request_id", ["", "x" * 65])
def test_an_id_has_1_to_64_characters(request_id: str) -> None:
    with pytest.raises(UsageError):
        RequestIds().verify("coordinator/a", request_id, b"")
    RequestIds().verify("coordinator/a", "x" * 64, b"")


def test_memory_is_bounded() -> None:
    ids = RequestIds(capacity=2)
    for number in range(3):
        ids.verify("coordinator/a", str(number), b"content")
    ids.verify("coordinator/a", "0", b"forgotten, so anything goes")
    with pytest.raises(ConflictError):
        ids.verify("coordinator/a", "2", b"other")
