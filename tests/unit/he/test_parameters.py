"""The budget of DESIGN 4.1: what fits, what does not, and which number to change."""

import math
from dataclasses import FrozenInstanceError, replace

import pytest
import tenseal.sealapi as seal

from he.errors import HEError, ParameterError
from he.moduli import MAX_MODULUS_BITS, PRESET_MODULI, check_moduli
from he.parameters import PACKINGS, PRESET_NAMES, Parameters, preset
from tests.he_material import SMALL_PRIMES, preset_parameters, small_parameters

NUMBERS = {"values": 1_000_000, "max_clients": 100, "holders": 5, "threshold": 3}


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_primes_are_those_that_seal_chooses(name: str) -> None:
    ours = preset(name, **NUMBERS)
    bits = [27] * len(ours.data_primes) + [28]
    assert ours.key_primes == tuple(m.value() for m in seal.CoeffModulus.Create(ours.degree, bits))


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_presets_stand_within_the_table(name: str) -> None:
    ours = preset(name, **NUMBERS)
    assert math.prod(ours.key_primes).bit_length() <= MAX_MODULUS_BITS[ours.degree]
    assert seal.CoeffModulus.MaxBitCount(ours.degree, seal.SEC_LEVEL_TYPE.TC128) == MAX_MODULUS_BITS[ours.degree]


def test_shape_of_a_job() -> None:
    ours = preset("ckks-4096", **NUMBERS)
    assert (ours.packing, ours.chunk_values, ours.chunks) == ("coefficients", 4096, 245)
    assert ours.data_modulus == math.prod(ours.data_primes)
    assert replace(ours, values=4096).chunks == 1
    assert replace(ours, values=4097).chunks == 2


def test_complex_packing_halves_the_chunks_for_half_a_bit() -> None:
    real, complex_ = (preset("ckks-4096", **NUMBERS, packing=packing) for packing in ("real", "complex"))
    assert (real.packing, real.chunk_values, real.entry_bound) == ("real", 2048, 1.0)
    assert (complex_.packing, complex_.chunk_values, complex_.slots) == ("complex", 4096, 2048)
    assert complex_.entry_bound == pytest.approx(math.sqrt(2))
    assert (real.chunks, complex_.chunks) == (489, 245)
    assert (replace(complex_, values=4096).chunks, replace(complex_, values=4097).chunks) == (1, 2)
    signal = complex_.max_clients * math.sqrt(2) * complex_.clip * complex_.scale
    assert complex_.coefficient_bound == pytest.approx(signal + 8 * complex_.opening_deviation(100))
    assert complex_.coefficient_bound <= 7 / 8 * complex_.data_modulus / 2 < complex_.coefficient_bound + signal


def test_the_largest_scale_leaves_room_for_the_diagonal() -> None:
    """Without max_clients in the way, what SEAL encodes is the limit: |x + iy| is sqrt(2) larger."""
    numbers = {"values": 10, "max_clients": 1, "holders": 3, "threshold": 2, "clip": 1.5}
    real, complex_ = (preset("ckks-4096", **numbers, packing=packing) for packing in ("real", "complex"))
    assert real.scale == 2.0**78
    assert complex_.scale * complex_.entry_bound <= 2.0**79 < complex_.scale * 17 / 16 * complex_.entry_bound


@pytest.mark.parametrize("packing", ["coefficients", "real"])
def test_an_entry_above_clip_by_its_rounding_still_encodes(packing: str) -> None:
    """At clip 1 a scale of 2^79 would just fit, and leave nothing for what rounding adds."""
    ours = preset("ckks-4096", values=10, max_clients=1, holders=3, threshold=2, clip=1.0, packing=packing)
    assert ours.scale == 2.0**78
    with pytest.raises(ParameterError, match="does not fit below"):
        replace(ours, scale=2.0**79)


@pytest.mark.parametrize("packing", ["", "dense", "Real"])
def test_a_packing_that_there_is_not(packing: str) -> None:
    with pytest.raises(ParameterError, match="must be one of coefficients, complex, real"):
        preset("ckks-4096", **NUMBERS, packing=packing)
    with pytest.raises(ParameterError, match="must be one of coefficients, complex, real"):
        replace(preset("ckks-4096", **NUMBERS), packing=packing)


def test_smudging_hides_the_noise_of_all_clients() -> None:
    ours = preset("ckks-4096", **NUMBERS)
    noise = math.sqrt(100 * (1 + 4096 * 10 / 3) / 12)
    assert ours.noise_deviation(100) == pytest.approx(noise)
    needed = 0.55 * math.sqrt(245 * 4096) * noise * 2**40
    assert ours.smudging_deviation == 2.0**ours.smudging_word_bits / math.sqrt(3)
    assert ours.smudging_deviation / 2 < needed <= ours.smudging_deviation
    assert ours.total_smudging_deviation == pytest.approx(math.sqrt(10) * ours.smudging_deviation)


@pytest.mark.parametrize(("packing", "next_step"), [("coefficients", 2), ("complex", 17 / 16), ("real", 2)])
def test_scale_is_the_largest_that_fits(packing: str, next_step: float) -> None:
    ours = preset("ckks-4096", **NUMBERS, packing=packing)
    room = 7 / 8 * ours.data_modulus / 2
    signal = ours.max_clients * ours.entry_bound * ours.scale
    assert ours.coefficient_bound <= room < ours.coefficient_bound + signal * (next_step - 1)
    with pytest.raises(ParameterError, match="lower max_clients"):
        replace(ours, scale=2 * ours.scale)


def test_scales_stand_on_steps() -> None:
    """So that two parties compute the same one: complex packing has 16 for each power of two, the others 1."""
    coefficients, complex_, real = (preset("ckks-4096", **NUMBERS, packing=packing) for packing in PACKINGS)
    assert math.frexp(coefficients.scale)[0] == math.frexp(real.scale)[0] == 0.5
    assert (math.frexp(complex_.scale)[0] * 32).is_integer()
    for ours, factor, steps in ((coefficients, 0.75, 1), (real, 0.75, 1), (complex_, 1 - 2.0**-10, 16)):
        with pytest.raises(ParameterError, match=f"not on one of {steps} steps"):
            replace(ours, scale=ours.scale * factor)


def test_error_of_sum_and_mean() -> None:
    ours = preset("ckks-4096", **NUMBERS)
    coefficient = math.hypot(ours.noise_deviation(10), ours.total_smudging_deviation)
    assert ours.value_error(10) == pytest.approx(coefficient / ours.scale, rel=1e-6)
    assert ours.mean_error(10, 4.0) == pytest.approx(math.sqrt(2) * ours.value_error(10) / 4)
    slots = preset("ckks-4096", **NUMBERS, packing="complex")
    coefficient = math.hypot(slots.noise_deviation(10), slots.total_smudging_deviation)
    assert slots.value_error(10) == pytest.approx(math.sqrt(2048) * coefficient / slots.scale)


def test_with_the_larger_preset_the_grid_is_all_of_the_error() -> None:
    ours = preset("ckks-8192", **NUMBERS, clip=0.3)
    assert ours.value_error(100) == pytest.approx(10 * 2.0 ** -(ours.grid_bits + 1))
    assert ours.value_error(100) < preset("ckks-4096", **NUMBERS, clip=0.3).value_error(100) / 2**20


@pytest.mark.parametrize(
    ("clip", "bits"), [(1.0, 40), (0.9999, 40), (1.0001, 39), (0.5, 41), (0.3, 41), (100.0, 33), (2.0**-35, 75)]
)
def test_a_value_at_clip_is_up_to_2_to_40_steps(clip: float, bits: int) -> None:
    ours = preset("ckks-8192", **NUMBERS, clip=clip)
    assert ours.grid_bits == bits
    assert 2**39 < clip * 2.0**bits <= 2**40


def test_the_scale_is_a_multiple_of_the_grid() -> None:
    """A clip so small that 2^40 steps of it are finer than the scale: the scale is the grid."""
    ours = preset("ckks-4096", values=10, max_clients=1, holders=3, threshold=2, clip=1e-25)
    assert ours.scale == 2.0**ours.grid_bits


@pytest.mark.parametrize("name", PRESET_NAMES)
@pytest.mark.parametrize("max_clients", [1, 8, 1000])
def test_coefficients_hide_as_well_as_smudging_was_made_to(name: str, max_clients: int) -> None:
    ours = preset(name, **(NUMBERS | {"max_clients": max_clients}))
    assert 40 <= ours.hidden_bits < 41
    assert 34 <= preset(name, **(NUMBERS | {"security_bits": 34})).hidden_bits < 35


@pytest.mark.parametrize("packing", ["complex", "real"])
@pytest.mark.parametrize("max_clients", [1, 8, 100, 1000])
def test_slots_hide_no_more_than_their_rounding_allows(packing: str, max_clients: int) -> None:
    ours = preset("ckks-4096", **(NUMBERS | {"max_clients": max_clients}), packing=packing)
    rounded_off = 4 * 2.0**-53 * ours.entry_bound * ours.scale * math.sqrt(ours.chunks)
    distance = 0.55 * 2 * max_clients * rounded_off / ours.smudging_deviation
    assert ours.hidden_bits == pytest.approx(-math.log2(distance), abs=1e-3)
    assert 20 < ours.hidden_bits < 30
    with pytest.raises(ParameterError, match=r"rounded .* take packing coefficients"):
        preset("ckks-8192", **(NUMBERS | {"max_clients": max_clients}), packing=packing).verify_encoding()
    ours.verify_encoding()


def test_weak_smudging_does_not_go_with_slots() -> None:
    preset("ckks-4096", **NUMBERS, security_bits=30).verify_encoding()
    with pytest.raises(ParameterError, match="take packing coefficients"):
        preset("ckks-4096", **NUMBERS, security_bits=30, packing="complex").verify_encoding()


def test_smudging_may_take_two_limbs_but_not_three() -> None:
    wide = preset("ckks-8192", **NUMBERS, security_bits=64)
    assert 62 < wide.smudging_word_bits <= 94
    with pytest.raises(ParameterError, match="lower security_bits"):
        preset("ckks-8192", **NUMBERS, security_bits=90)


def test_tiny_clip_does_not_lift_the_scale_beyond_what_seal_encodes() -> None:
    ours = preset("ckks-4096", values=10, max_clients=1, holders=3, threshold=2, clip=1e-6)
    assert ours.scale == 2.0 ** (ours.data_modulus.bit_length() - 2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"values": 0}, "values"),
        ({"values": 1 << 32}, "values"),
        ({"max_clients": 0}, "max_clients"),
        ({"max_clients": 2_000_000}, "max_clients"),
        ({"holders": 2}, "holders"),
        ({"holders": 10}, "holders"),
        ({"threshold": 1}, "threshold"),
        ({"threshold": 6}, "threshold"),
        ({"security_bits": 0}, "security_bits"),
        ({"clip": 0.0}, "clip"),
        ({"clip": -1.0}, "clip"),
        ({"clip": math.nan}, "clip"),
        ({"clip": math.inf}, "clip"),
        ({"clip": 1e25}, "lower max_clients, clip"),
        ({"security_bits": 62}, "lower max_clients, clip or values, or take ckks-8192$"),
        ({"clip": 8e23, "max_clients": 1}, "lower max_clients, clip"),  # a scale of less than 1
    ],
)
def test_what_does_not_fit_names_the_number(change: dict[str, float], named: str) -> None:
    with pytest.raises(ParameterError, match=named) as caught:
        preset("ckks-4096", **(NUMBERS | change))
    assert isinstance(caught.value, HEError)


def test_the_largest_preset_is_not_told_to_be_replaced_by_itself() -> None:
    ours = preset("ckks-8192", **NUMBERS)
    with pytest.raises(ParameterError, match=r"lower max_clients, clip or values$"):
        replace(ours, scale=2 * ours.scale)


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="ckks-4096, ckks-8192"):
        preset("ckks-1024", **NUMBERS)


def test_numbers_cannot_be_weakened_by_hand() -> None:
    ours = preset("ckks-4096", **NUMBERS)
    with pytest.raises(ParameterError, match="do not hide the noise"):
        replace(ours, smudging_word_bits=ours.smudging_word_bits - 1)
    for scale in (3.0, 0.5, 2.0**80, 0.0, math.inf):
        with pytest.raises(ParameterError, match="scale"):
            replace(ours, scale=scale)
    with pytest.raises(FrozenInstanceError):
        ours.scale = 1.0  # type: ignore[misc]


def test_rings_outside_the_table_are_refused() -> None:
    good = PRESET_MODULI["ckks-4096"]
    check_moduli(good.degree, good.data_primes, good.special_prime)
    wide = PRESET_MODULI["ckks-8192"].data_primes[:4]
    for degree, data, special, named in (
        (1024, good.data_primes, good.special_prime, "degree"),
        (4096, wide, good.special_prime, "fewer primes"),
        (4096, (), good.special_prime, "distinct"),
        (4096, good.data_primes[:1] * 2, good.special_prime, "distinct"),
        (4096, (good.data_primes[0] + 8192,), good.special_prime, "not a prime"),
        (4096, (134012921,), good.special_prime, "not a prime"),
        (4096, (8193,), good.special_prime, "not a prime"),  # 3 * 2731
        (4096, (good.special_prime,), good.data_primes[0], r"below 2\^27"),
        (4096, good.data_primes, (1 << 29) + 1, r"below 2\^28"),
    ):
        with pytest.raises(ParameterError, match=named):
            check_moduli(degree, data, special)


def test_small_ring_of_the_vectors_is_sound() -> None:
    assert small_parameters().key_primes == SMALL_PRIMES
    assert small_parameters().chunks == 2


def test_digest_binds_every_number_but_not_the_name() -> None:
    ours = preset("ckks-4096", **NUMBERS, clip=0.5)
    assert len(ours.digest()) == 32
    assert replace(ours, name="other").digest() == ours.digest()
    others: list[Parameters] = [
        preset("ckks-8192", **NUMBERS, clip=0.5),
        replace(ours, scale=ours.scale / 2),
        replace(ours, smudging_word_bits=ours.smudging_word_bits + 1, scale=ours.scale / 4),
        replace(ours, values=999_999),
        replace(ours, max_clients=99),
        replace(ours, holders=6, threshold=5, scale=ours.scale / 2),
        replace(ours, threshold=2),
        replace(ours, clip=0.25),
        replace(ours, security_bits=39),
        replace(ours, packing="complex", scale=ours.scale / 2),
        replace(ours, packing="real", scale=ours.scale / 2),
        preset_parameters("ckks-4096"),
    ]
    assert len({ours.digest(), *(other.digest() for other in others)}) == len(others) + 1


def test_real_packing_has_the_digest_that_it_had_before_there_was_another() -> None:
    """A round that is under way when its parties are upgraded keeps its key."""
    expected = "36fcd63f3f3008fd211a6cc5e99dcb55bb74dd0f94d1f8c681ca0c19c13fd669"
    assert preset("ckks-4096", **NUMBERS, clip=0.5, packing="real").digest().hex() == expected
