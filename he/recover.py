"""Opening the sum from t or more answers, and telling who answered wrongly.

Source: docs/protocol.md, section "Opening the sum" (DESIGN 4.4).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from he.ciphertext import Ciphertext
from he.decode import coefficients, decode
from he.errors import AnswersError, FaultyShareError, HEError, ImplausibleSumError
from he.parameters import Parameters
from he.residues import Residues, are_canonical
from he.ring import ring_for
from he.sharing import locate, value_at_zero

Floats = npt.NDArray[np.float64]

_BLOCK_CHUNKS: Final = 16
_BOUND_SLACK: Final = 1 + 2e-9


class Answer(Protocol):
    """What is read of a holder's answer; `he.partial.Partial` is one."""

    @property
    def holder(self) -> int:
        """Number of the holder, 1..n."""

    @property
    def threshold(self) -> int:
        """Number of answers that open."""

    @property
    def key_id(self) -> bytes:
        """Key that the holder answered under."""

    @property
    def values(self) -> Residues:
        """The answer, uint32 (chunks, L, N), NTT form."""


def recover(total: Ciphertext, partials: Sequence[Answer]) -> Floats:
    """Open the sum: float64 (values,), in the units of the vectors that were encrypted.

    With m answers and threshold t:
    - m < t, a holder twice or outside 1..n, other thresholds or mixed keys: `AnswersError`;
    - m = t: only plausibility speaks. Coefficients above the plan's bound raise
      `FaultyShareError` of all t, not certain: a wrong answer makes them uniform;
    - m = t+1: answers off one polynomial raise `FaultyShareError`, not certain, of those
      without whom the rest opens plausibly (of all, if there is no such holder);
    - m >= t+2: up to floor((m-t)/2) liars are named, certain *as long as no more than that many
      lied*: more of them acting together can shift the blame. Open again without them;
    - m > t answers that agree, but open implausibly: `ImplausibleSumError`, the clients' doing.
    An answer that is not a canonical array of the right shape names its holder for certain.
    """
    parameters = total.parameters
    _check_answers(parameters, partials)
    answers = {partial.holder: partial.values for partial in partials}
    out = np.empty((parameters.chunks, parameters.chunk_values))
    _check_shapes(parameters, parameters.chunks, answers)
    for start in range(0, parameters.chunks, _BLOCK_CHUNKS):
        block = slice(start, start + _BLOCK_CHUNKS)
        opened = open_block(parameters, total.c0[block], {holder: values[block] for holder, values in answers.items()})
        out[block] = opened.reshape(-1, parameters.chunk_values)
    return out.reshape(-1)[: parameters.values]


def open_block(parameters: Parameters, c0_block: Residues, answers: Mapping[int, Residues]) -> Floats:
    """Open a few chunks: c0 and every holder's answer, each (k, L, N), to float64 (k·chunk_values,).

    The last chunk's padding is included. Raises as `recover` does.
    """
    _check_holders(parameters, [*answers])
    _check_shapes(parameters, len(c0_block), answers)
    _check_canonical(parameters, answers)
    value, agree = value_at_zero(answers, parameters.threshold, parameters.data_primes)
    if not agree.all():
        raise _disagreement(parameters, c0_block[~agree], _only(answers, ~agree))
    opened = coefficients(parameters, ring_for(parameters).add(c0_block, value))
    if not _is_plausible(parameters, opened):
        raise _implausible(parameters, answers)
    return decode(parameters, opened).reshape(-1)


def _implausible(parameters: Parameters, answers: Mapping[int, Residues]) -> HEError:
    if len(answers) == parameters.threshold:
        return FaultyShareError(answers, certain=False)
    return ImplausibleSumError("the opened sum exceeds the plan's bound: some contribution was malformed")


def _disagreement(parameters: Parameters, c0_block: Residues, answers: Mapping[int, Residues]) -> FaultyShareError:
    """Say whose answers disagree, from those chunks in which they do."""
    liars = locate(answers, parameters.threshold, parameters.data_primes)
    if liars:
        return FaultyShareError(liars, certain=True)
    suspects = [holder for holder in answers if _opens_without(holder, parameters, c0_block, answers)]
    return FaultyShareError(suspects or answers, certain=False)


def _opens_without(holder: int, parameters: Parameters, c0_block: Residues, answers: Mapping[int, Residues]) -> bool:
    """Whether the other answers agree and open plausibly in every chunk."""
    others = {other: block for other, block in answers.items() if other != holder}
    value, agree = value_at_zero(others, parameters.threshold, parameters.data_primes)
    opened = coefficients(parameters, ring_for(parameters).add(c0_block, value))
    return bool(agree.all()) and _is_plausible(parameters, opened)


def _is_plausible(parameters: Parameters, opened: Floats) -> bool:
    """A wrong answer makes coefficients uniform: each passes with 7/8 at most, all N never.

    Honest clients may exceed the clip bound by its slack for rounding (`he.encrypt`), and what is
    opened is itself rounded.
    """
    return bool(np.abs(opened).max() <= parameters.coefficient_bound * _BOUND_SLACK)


def _only(answers: Mapping[int, Residues], chunks: npt.NDArray[np.bool_]) -> dict[int, Residues]:
    return {holder: block[chunks] for holder, block in answers.items()}


def _check_answers(parameters: Parameters, partials: Sequence[Answer]) -> None:
    _check_holders(parameters, [partial.holder for partial in partials])
    if any(partial.threshold != parameters.threshold for partial in partials):
        raise AnswersError(f"an answer is for another threshold than {parameters.threshold}")
    if len({partial.key_id for partial in partials}) != 1:
        raise AnswersError("the answers are for different keys")


def _check_holders(parameters: Parameters, holders: Sequence[int]) -> None:
    if len(set(holders)) != len(holders):
        raise AnswersError("a holder answered twice")
    if not all(1 <= holder <= parameters.holders for holder in holders):
        raise AnswersError(f"an answer is of no holder from 1 to {parameters.holders}")
    if len(holders) < parameters.threshold:
        raise AnswersError(f"{len(holders)} answers, but it takes {parameters.threshold} to open")


def _check_shapes(parameters: Parameters, chunks: int, answers: Mapping[int, Residues]) -> None:
    shape = (chunks, len(parameters.data_primes), parameters.degree)
    _refuse(holder for holder, block in answers.items() if block.shape != shape or block.dtype != np.uint32)


def _check_canonical(parameters: Parameters, answers: Mapping[int, Residues]) -> None:
    _refuse(holder for holder, block in answers.items() if not are_canonical(block, parameters.data_primes))


def _refuse(malformed: Iterable[int]) -> None:
    if liars := tuple(malformed):
        raise FaultyShareError(liars, certain=True)
