"""Train a two-layer network in plain NumPy on scikit-learn's handwritten digits, with refoptim's AdamW.

Run ``python examples/digits.py``. It takes a few seconds, prints the test accuracy and draws the learning curve.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import refoptim as optim

HIDDEN, BATCH, LEARNING_RATE = 128, 32, 3e-3


class Network:
    """Softmax regression on a hidden layer of rectified linear units: its parameters, forward and backward pass."""

    def __init__(self, inputs: int, hidden: int, classes: int, rng: np.random.Generator) -> None:
        def normal(rows: int, columns: int) -> np.ndarray:
            return rng.normal(0, np.sqrt(2 / rows), (rows, columns)).astype(np.float32)

        self.w1 = optim.Parameter(normal(inputs, hidden), name="w1")
        self.b1 = optim.Parameter(np.zeros(hidden, np.float32), name="b1")
        self.w2 = optim.Parameter(normal(hidden, classes), name="w2")
        self.b2 = optim.Parameter(np.zeros(classes, np.float32), name="b2")
        # The gradients exist from the start: the backward pass writes into them and allocates nothing.
        for param in (self.w1, self.b1, self.w2, self.b2):
            param.grad = np.zeros_like(param.data)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the hidden layer and the scores of the classes."""
        hidden = np.maximum(x @ self.w1.data + self.b1.data, 0)
        return hidden, hidden @ self.w2.data + self.b2.data

    def backward(self, x: np.ndarray, labels: np.ndarray) -> float:
        """Return the mean cross entropy of a batch and leave its gradients in the parameters."""
        hidden, scores = self.forward(x)
        rows = np.arange(len(x))
        scores -= scores.max(axis=1, keepdims=True)
        log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

        d_scores = np.exp(log_probabilities)
        d_scores[rows, labels] -= 1
        d_scores /= len(x)
        np.matmul(hidden.T, d_scores, out=self.w2.grad)
        np.sum(d_scores, axis=0, out=self.b2.grad)

        d_hidden = d_scores @ self.w2.data.T
        d_hidden *= hidden > 0
        np.matmul(x.T, d_hidden, out=self.w1.grad)
        np.sum(d_hidden, axis=0, out=self.b1.grad)
        return -float(log_probabilities[rows, labels].mean())

    def accuracy(self, x: np.ndarray, labels: np.ndarray) -> float:
        """Return the fraction of images whose highest score is their label's."""
        return float((self.forward(x)[1].argmax(axis=1) == labels).mean())


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the numbers below count in random order, this many at a time."""
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def plot(losses: list[float], accuracies: list[float], path: Path) -> None:
    """Draw training loss and test accuracy by epoch, one above the other."""
    epochs = range(1, len(losses) + 1)
    figure = Figure(figsize=(7, 5.5), dpi=150, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(epochs, losses, color="tab:blue")
    top.set(yscale="log", ylabel="Training loss (cross entropy)", title="Digits: two layers in NumPy, AdamW")
    bottom.plot(epochs, accuracies, color="tab:orange")
    bottom.text(epochs[-1], accuracies[-1] - 0.01, f"{accuracies[-1]:.2%}", ha="right", va="top", color="tab:orange")
    bottom.set(xlabel="Epoch", ylabel="Test accuracy", xlim=(0, len(losses) + 1), ylim=(min(0.88, *accuracies), 1))
    bottom.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(argv: list[str] | None = None) -> float:
    """Train, print and draw; return the test accuracy."""
    parser = argparse.ArgumentParser(description="Train a two-layer NumPy network on scikit-learn's digits.")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training images (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and the batches (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("digits.png"), help="the picture (default: digits.png)")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    split = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = split

    rng = np.random.default_rng(options.seed)
    network = Network(inputs=64, hidden=HIDDEN, classes=10, rng=rng)
    weights = {"params": [network.w1, network.w2], "weight_decay": 0.1}
    biases = {"params": [network.b1, network.b2], "weight_decay": 0.0}
    optimizer = optim.AdamW([weights, biases], lr=LEARNING_RATE)

    losses: list[float] = []
    accuracies: list[float] = []
    with tqdm(range(options.epochs), unit="epoch") as epochs:
        for epoch in epochs:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 - epoch / options.epochs)
            total = 0.0
            for batch in batches(len(train_images), BATCH, rng):
                total += len(batch) * network.backward(train_images[batch], train_labels[batch])
                optimizer.step()
            losses.append(total / len(train_images))
            accuracies.append(network.accuracy(test_images, test_labels))
            epochs.set_postfix(loss=f"{losses[-1]:.4f}")

    plot(losses, accuracies, options.output)
    print(f"test accuracy {accuracies[-1]:.2%} ({len(test_images)} images); learning curve in {options.output}")
    return accuracies[-1]


if __name__ == "__main__":
    main()
