"""A small neural network in numpy, trained by stochastic gradient descent and averaged by FedAvg (McMahan et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from secagg.demo.data import Examples
from secagg.plan import TensorSpec

Weights = dict[str, NDArray[np.float32]]

HIDDEN = 54
"""64 pixels, 54 hidden units, 10 digits: 4,060 values, which with the weight fill a chunk of 4,096."""
TENSORS = (
    TensorSpec(name="hidden.bias", shape=(HIDDEN,), dtype="float32"),
    TensorSpec(name="hidden.weight", shape=(64, HIDDEN), dtype="float32"),
    TensorSpec(name="output.bias", shape=(10,), dtype="float32"),
    TensorSpec(name="output.weight", shape=(HIDDEN, 10), dtype="float32"),
)
EPOCHS = 4
BATCH = 16
LEARNING_RATE = 0.1


def initial(generator: np.random.Generator) -> Weights:
    """Return weights of variance 1 / inputs (LeCun et al. 1998)."""
    weights: Weights = {}
    for tensor in TENSORS:
        if len(tensor.shape) == 1:
            weights[tensor.name] = np.zeros(tensor.shape, dtype=np.float32)
        else:
            deviation = np.sqrt(1.0 / tensor.shape[0])
            weights[tensor.name] = (generator.standard_normal(tensor.shape) * deviation).astype(np.float32)
    return weights


def train(weights: Weights, examples: Examples, generator: np.random.Generator) -> Weights:
    """Return the update (new minus old weights) after a few epochs on one client's examples."""
    trained = {name: array.astype(np.float64) for name, array in weights.items()}
    for _ in range(EPOCHS):
        order = generator.permutation(len(examples))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            _descend(trained, examples.pixels[batch], examples.digits[batch])
    return {name: (trained[name] - weights[name]).astype(np.float32) for name in weights}


# tanh, not ReLU: a smooth network does not blow a difference of 1e-6 up over ten rounds, so that what is shown is the sum's.
def _descend(weights: dict[str, NDArray[np.float64]], pixels: NDArray[np.float64], digits: NDArray[np.int64]) -> None:
    hidden = np.tanh(pixels @ weights["hidden.weight"] + weights["hidden.bias"])
    slope = _softmax(hidden @ weights["output.weight"] + weights["output.bias"])
    slope[np.arange(len(digits)), digits] -= 1.0
    slope /= len(digits)
    back = (slope @ weights["output.weight"].T) * (1.0 - hidden**2)
    weights["output.weight"] -= LEARNING_RATE * (hidden.T @ slope)
    weights["output.bias"] -= LEARNING_RATE * slope.sum(axis=0)
    weights["hidden.weight"] -= LEARNING_RATE * (pixels.T @ back)
    weights["hidden.bias"] -= LEARNING_RATE * back.sum(axis=0)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def accuracy(weights: Weights, examples: Examples) -> float:
    """Return the share of examples whose digit the model finds."""
    hidden = np.tanh(examples.pixels @ weights["hidden.weight"] + weights["hidden.bias"])
    found = np.argmax(hidden @ weights["output.weight"] + weights["output.bias"], axis=1)
    return float(np.mean(found == examples.digits))


def clipped(update: Mapping[str, NDArray[np.float32]], clip: float) -> Weights:
    """Return the update with each coordinate brought into [-clip, clip], as a client does before it encrypts."""
    return {name: np.clip(array, -clip, clip) for name, array in update.items()}


def apply(weights: Weights, mean: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the weights moved by a mean update."""
    return {name: weights[name] + mean[name] for name in weights}


def weighted_mean(updates: list[Weights], examples: list[int]) -> Weights:
    """Return the plain weighted mean of updates: what the secure sum must equal."""
    shares = np.asarray(examples, dtype=np.float64) / sum(examples)
    return {
        name: np.tensordot(shares, np.stack([update[name] for update in updates]), axes=1).astype(np.float32)
        for name in updates[0]
    }


def largest_difference(left: Weights, right: Weights) -> float:
    """Return the largest difference of any weight."""
    return max(float(np.max(np.abs(left[name].astype(np.float64) - right[name]))) for name in left)


def local_generator(seed: int, client: int, round_index: int) -> np.random.Generator:
    """Return the generator of one client's shuffling in one round, so that the plain training repeats it."""
    return np.random.default_rng([seed, client, round_index])
