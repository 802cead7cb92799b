"""The mathematics of the examples: users copy it, so its gradients and its schedule must be right."""

from __future__ import annotations

import numpy as np
import pytest

from examples import network as net

SIZES = (5, 7, 6, 4)


def test_backpropagation_agrees_with_finite_differences() -> None:
    rng = np.random.default_rng(1)
    network = net.make_network(SIZES, rng)
    for parameter in network.values():
        parameter += rng.normal(0.0, 0.1, parameter.shape)  # no bias is left at 0
    batch = net.Split(rng.normal(size=(9, SIZES[0])), rng.integers(SIZES[-1], size=9))
    _, gradients = net.loss_and_gradients(network, batch)
    assert gradients.keys() == network.keys()
    for name, parameter in network.items():
        numeric = np.empty_like(parameter)
        for index in np.ndindex(parameter.shape):
            numeric[index] = _slope(network, batch, parameter, index)
        np.testing.assert_allclose(gradients[name], numeric, rtol=1e-6, atol=1e-8, err_msg=name)


def _slope(
    network: net.Parameters, batch: net.Split, parameter: net.Matrix, index: tuple[int, ...], h: float = 1e-6
) -> float:
    """Central difference of the loss by one number, which is put back."""
    losses: list[float] = []
    before = float(parameter[index])
    for at in (before - h, before + h):
        parameter[index] = at
        losses.append(net.loss_and_gradients(network, batch)[0])
    parameter[index] = before
    return (losses[1] - losses[0]) / (2 * h)


def test_loss_of_equal_logits_is_the_logarithm_of_the_number_of_classes() -> None:
    loss, gradient = net.cross_entropy(np.full((3, 10), 1e4), np.array([0, 5, 9]))
    assert loss == pytest.approx(np.log(10))
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("step", "steps", "expected"),
    [
        (1, 100, 0.2),
        (5, 100, 1.0),  # the end of the warm-up
        (6, 100, 0.9997266),
        (100, 100, 0.0),
        (1, 1, 1.0),
        (2, 2, 0.0),
    ],
)
def test_learning_rate_warms_up_and_then_falls_to_zero(step: int, steps: int, expected: float) -> None:
    assert net.learning_rate(step, steps, 1.0) == pytest.approx(expected, abs=1e-6)


def test_an_epoch_holds_each_image_once_beside_its_label() -> None:
    split = net.Split(np.arange(7.0).reshape(7, 1), np.arange(7))
    batches = list(split.batches(3, np.random.default_rng(0)))
    assert [len(batch.labels) for batch in batches] == [3, 3, 1]
    assert sorted(label for batch in batches for label in batch.labels) == list(range(7))
    assert all((batch.images[:, 0] == batch.labels).all() for batch in batches)


def test_momentum_carries_a_step_on() -> None:
    network, velocity = {"w": np.zeros(1)}, {"w": np.zeros(1)}
    for gradient in (1.0, 0.0):
        net.descend(network, velocity, {"w": np.array([gradient])}, lr=0.5, momentum=0.8)
    assert network["w"] == pytest.approx(-0.5 - 0.5 * 0.8)


def test_training_and_validation_images_are_the_same_at_each_call_and_hold_every_digit() -> None:
    training, validation = net.load_splits()
    again, _ = net.load_splits()
    assert (len(training.labels), len(validation.labels)) == (1437, 360)
    assert set(validation.labels) == set(range(net.CLASSES))
    assert training.images.shape[1] == net.PIXELS
    assert training.images.min() == 0
    assert training.images.max() == 1
    np.testing.assert_array_equal(training.images, again.images)
