"""The catalogue knows every error, hides what is not for callers, and brings the type back."""

import importlib
import json
import pickle
import pkgutil

import grpc
import pytest

import secagg
from he import errors as he_errors
from he.errors import HEError
from secagg import errors
from secagg.catalogue import MAX_FIELDS_BYTES, MAX_TEXT_CHARACTERS, KnownError, describe, entry_for, restore
from secagg.errors import RemoteError, SecAggError

PURE_MODULES = ("errors", "trust", "signing", "plan", "policy", "transcript")


def _subclasses(kind: type) -> set[type]:
    below = {found for child in kind.__subclasses__() for found in _subclasses(child)}
    return {kind, *below}


def _own(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in {"secagg", "he", "coordinator"}


EXAMPLES: tuple[KnownError, ...] = (
    SecAggError("a secret path"),
    errors.FaultyClientError("alice", "a forged signature"),
    errors.FaultyKeyHolderError("north", "a wrong share"),
    errors.FaultyCoordinatorError("two rosters"),
    errors.PlanError("max_clients 9 is too many"),
    errors.UsageError("no such option"),
    errors.PolicyError("clip 9 is above 1"),
    errors.RoundAbortedError("too few clients", have=2, need=3),
    errors.RoundAbortedError("the operator ended it"),
    errors.NotAllowedError("client/alice may not"),
    errors.NotFoundError("nothing"),
    errors.UnknownJobError("no job x"),
    errors.UnknownRoundError("no round 7"),
    errors.WrongPhaseError("it is FROZEN"),
    errors.ConflictError("another join"),
    errors.LateError("two seconds late"),
    errors.BusyError("the spool is full"),
    errors.BusyError("the spool is full", retry_after_seconds=7),
    errors.ElsewhereError("digits", "127.0.0.1:7443"),
    errors.MessageError("no signature"),
    errors.CertificateError("expired"),
    errors.UnreachableError("key-holder/north"),
    errors.RemoteError("key-holder/north", "it answered UNKNOWN"),
    errors.StorageError("/var/secret is full"),
    errors.ConfigError("/etc/secret is wrong"),
    HEError("a secret"),
    he_errors.ParameterError("clip"),
    he_errors.FormatError("short"),
    he_errors.CiphertextError("transparent"),
    he_errors.UpdateError("NaN in w"),
    he_errors.FaultyShareError((4, 2), certain=False),
    he_errors.ImplausibleSumError("too large"),
    he_errors.CeremonyError("no key", (3, 1)),
    he_errors.AnswersError("a holder answered twice"),
)


def test_the_catalogue_is_total() -> None:
    for found in pkgutil.iter_modules(secagg.__path__):
        if found.name in PURE_MODULES:
            importlib.import_module(f"secagg.{found.name}")
    known = {kind for kind in _subclasses(SecAggError) | _subclasses(HEError) if _own(kind)}
    for kind in known:
        assert entry_for(kind).kind is kind
        assert hasattr(grpc.StatusCode, entry_for(kind).status)
    assert known == {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_comes_back_as_itself(error: KnownError) -> None:
    public = describe(error)
    back = restore(party="it", status=public.status, name=public.name, text=public.text, fields=public.fields)
    assert type(back) is type(error)
    if entry_for(type(error)).public_text is None:
        assert str(back) == str(error)
        assert vars(back) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_nothing_secret_leaves(error: KnownError) -> None:
    public = describe(error)
    assert "secret" not in public.text
    assert b"secret" not in public.fields


@pytest.mark.parametrize(
    "error", [one for one in EXAMPLES if isinstance(one, SecAggError)], ids=lambda one: type(one).__name__
)
def test_every_error_names_cause_and_way_out_and_survives_a_process_boundary(error: SecAggError) -> None:
    assert error.cause
    assert error.next_step
    assert str(error).endswith(f"{error.next_step}.")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert again.fields() == error.fields()


def test_a_next_step_of_its_own_replaces_the_types_advice() -> None:
    assert str(errors.UsageError("x is odd", next_step="Make it even")) == "x is odd. Make it even."
    assert (
        str(errors.RoundAbortedError("too few", 2, 3, next_step=""))
        == "the round was aborted: too few (have 2, need 3)."
    )


def test_a_name_with_a_status_that_is_not_its_own_is_not_believed() -> None:
    public = describe(errors.PlanError("clip"))
    back = restore(party="it", status="OK", name=public.name, text=public.text, fields=public.fields)
    assert isinstance(back, RemoteError)
    assert "it answered OK" in str(back)


def test_an_unknown_name_is_told_with_its_status() -> None:
    back = restore(party="key-holder/north", status="UNKNOWN", name="Exotic", text="what\x1b[2J now", fields=b"")
    assert str(back) == f"key-holder/north failed: it answered UNKNOWN: what [2J now. {RemoteError.ADVICE}."


def test_long_reasons_are_cut_and_still_come_back_as_their_type() -> None:
    public = describe(errors.FaultyClientError("a", "é\n" * 5000))
    assert len(public.text) == MAX_TEXT_CHARACTERS
    assert len(public.fields) <= MAX_FIELDS_BYTES
    assert public.text.isprintable()
    many = describe(errors.FaultyClientError("\U0001f512" * 900, "\U0001f512" * 900, next_step="\U0001f512" * 900))
    assert len(many.fields) <= MAX_FIELDS_BYTES
    assert json.loads(many.fields)["client_id"] == "\U0001f512" * 80


@pytest.mark.parametrize(
    "fields", [b"", b"null", b"{}", b'{"reason":7}', b"x" * (MAX_FIELDS_BYTES + 1), b'{"holders":[1]}']
)
def test_fields_that_make_no_error_still_tell_the_text(fields: bytes) -> None:
    back = restore(party="it", status="INVALID_ARGUMENT", name="PlanError", text="the clip", fields=fields)
    assert isinstance(back, RemoteError)
    assert "the clip" in str(back)
