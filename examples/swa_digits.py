"""Average the weights of a NumPy network with batch normalization along its training, on scikit-learn's digits.

Run ``python examples/swa_digits.py``. It takes some seconds, and prints the test accuracy of the last weights, of the
averaged weights with the statistics of batch normalization as they were copied, and with those of ``update_bn``.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import refoptim as optim
from refoptim.swa_utils import SWALR, AveragedModel, update_bn

HIDDEN, BATCH, LEARNING_RATE, SWA_LR = 64, 32, 0.05, 0.2


class Linear:
    """A matrix, without biases: batch normalization would subtract them again, and the last layer adds its own."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        values = rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs))
        self.weight = optim.Parameter(values.astype(np.float32))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs, and keep the inputs for the backward pass."""
        self.x = x
        return x @ self.weight.data

    def backward(self, d: np.ndarray) -> np.ndarray:
        """Set the gradient of the weights and return that of the inputs."""
        self.weight.grad = self.x.T @ d
        return d @ self.weight.data.T


class BatchNorm:
    """Batch normalization: by the batch in training mode, by the running statistics otherwise."""

    def __init__(self, size: int, momentum: float | None = 0.1) -> None:
        self.scale = optim.Parameter(np.ones(size, np.float32))
        self.shift = optim.Parameter(np.zeros(size, np.float32))
        self.momentum, self.training, self.eps = momentum, True, 1e-5
        self.running_mean, self.running_var = np.zeros(size, np.float32), np.ones(size, np.float32)
        self.num_batches_tracked = np.array(0)

    def reset_running_stats(self) -> None:
        """Forget all batches."""
        self.running_mean[...], self.running_var[...], self.num_batches_tracked[...] = 0, 1, 0

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the inputs with mean shift and deviation scale; in training mode, move the running statistics."""
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = x.mean(axis=0), x.var(axis=0)
            self.num_batches_tracked += 1
            share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            self.running_mean += share * (mean - self.running_mean)
            self.running_var += share * (variance * len(x) / (len(x) - 1) - self.running_var)
        self.inverse = 1 / np.sqrt(variance + self.eps)
        self.normal = (x - mean) * self.inverse
        return self.normal * self.scale.data + self.shift.data

    def backward(self, d: np.ndarray) -> np.ndarray:
        """Set the gradients of scale and shift and return that of the inputs, of which the statistics are made."""
        self.scale.grad, self.shift.grad = (d * self.normal).sum(axis=0), d.sum(axis=0)
        d = d * self.scale.data
        return self.inverse * (d - d.mean(axis=0) - self.normal * (d * self.normal).mean(axis=0))


class Relu:
    """Rectified linear units."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the positive parts."""
        self.positive = x > 0
        return x * self.positive

    def backward(self, d: np.ndarray) -> np.ndarray:
        """Return the gradient of the inputs."""
        return d * self.positive


class Network:
    """Two hidden layers with batch normalization: the methods that AveragedModel and update_bn ask for are four."""

    def __init__(self, rng: np.random.Generator) -> None:
        first, second, third = Linear(64, HIDDEN, rng), Linear(HIDDEN, HIDDEN, rng), Linear(HIDDEN, 10, rng)
        self.layers = [first, BatchNorm(HIDDEN), Relu(), second, BatchNorm(HIDDEN), Relu(), third]

    def parameters(self) -> Iterator[optim.Parameter]:
        """Yield what is optimized and averaged."""
        return (value for layer in self.layers for value in vars(layer).values() if isinstance(value, optim.Parameter))

    def buffers(self) -> Iterator[np.ndarray]:
        """Yield what is copied along with the averages."""
        for norm in self.layers:
            if isinstance(norm, BatchNorm):
                yield from (norm.running_mean, norm.running_var, norm.num_batches_tracked)

    def modules(self) -> Iterator[object]:
        """Yield the layers, among which update_bn finds those with running statistics."""
        return iter(self.layers)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the scores of the classes."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, x: np.ndarray, labels: np.ndarray) -> None:
        """Set the gradients of the mean cross entropy of a batch."""
        scores = self(x)
        probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
        d = probabilities / probabilities.sum(axis=1, keepdims=True)
        d[np.arange(len(x)), labels] -= 1
        d /= len(x)
        for layer in reversed(self.layers):
            d = layer.backward(d)


def accuracy(model: Network | AveragedModel, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of images whose highest score is their label's, with the running statistics."""
    norms = [layer for layer in model.modules() if isinstance(layer, BatchNorm)]
    for norm in norms:
        norm.training = False
    found = float((model(images).argmax(axis=1) == labels).mean())
    for norm in norms:
        norm.training = True
    return found


def batches(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all images and labels in random order, without the last ones that do not fill a batch."""
    order = rng.permutation(len(images))
    for start in range(0, len(images) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield images[chosen], labels[chosen]


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, average and print; return the test accuracies by name."""
    parser = argparse.ArgumentParser(description="Stochastic weight averaging of a NumPy network on the digits.")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the training images (default: 60)")
    parser.add_argument("--start", type=int, default=20, help="the epoch after which to average (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and the batches (default: 0)")
    options = parser.parse_args(argv)
    if not 0 <= options.start < options.epochs:
        parser.error("--start must be at least 0 and less than --epochs")

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    split = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = split

    rng = np.random.default_rng(options.seed)
    network = Network(rng)
    optimizer = optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=0.9)
    averaged = AveragedModel(network)
    scheduler = SWALR(optimizer, swa_lr=SWA_LR, anneal_epochs=5)
    with tqdm(range(options.epochs), unit="epoch") as epochs:
        for epoch in epochs:
            for x, y in batches(train_images, train_labels, rng):
                network.backward(x, y)
                optimizer.step()
            if epoch >= options.start:
                averaged.update_parameters(network)
                scheduler.step()

    found = {"last weights": accuracy(network, test_images, test_labels)}
    found["averaged weights"] = accuracy(averaged, test_images, test_labels)
    update_bn(batches(train_images, train_labels, rng), averaged)
    found["averaged weights, update_bn"] = accuracy(averaged, test_images, test_labels)
    for name, value in found.items():
        print(f"{name}: test accuracy {value:.2%} ({len(test_images)} images)")
    return found


if __name__ == "__main__":
    main()
