"""Train a two-layer network on a GPU, in plain CuPy, on scikit-learn's handwritten digits, with refoptim's AdamW.

Run ``python examples/digits_cupy.py``. It prints the test accuracy. Images, weights, gradients and state stay on the
GPU: the host hands over kernels, waits once an epoch to show the loss, and copies nothing but each batch's numbers.
``--device cpu`` runs the same program with NumPy.
"""

import argparse
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import refoptim as optim

HIDDEN, BATCH, LEARNING_RATE = 128, 32, 3e-3


class Network:
    """A hidden layer of ReLUs, softmax and cross entropy, and the formulas of the backward pass.

    ``xp`` is CuPy or NumPy. The parameters are where its arrays are.
    """

    def __init__(self, xp: Any, sizes: tuple[int, int, int], rng: np.random.Generator) -> None:
        self.xp = xp
        inputs, hidden, classes = sizes

        def normal(rows: int, columns: int) -> Any:
            return xp.asarray(rng.normal(0, np.sqrt(2 / rows), (rows, columns)).astype(np.float32))

        self.w1 = optim.Parameter(normal(inputs, hidden), name="w1")
        self.b1 = optim.Parameter(xp.zeros(hidden, np.float32), name="b1")
        self.w2 = optim.Parameter(normal(hidden, classes), name="w2")
        self.b2 = optim.Parameter(xp.zeros(classes, np.float32), name="b2")
        # The gradients exist from the start: the backward pass writes into them and allocates none.
        for param in (self.w1, self.b1, self.w2, self.b2):
            param.grad = xp.zeros_like(param.data)

    def forward(self, x: Any) -> tuple[Any, Any]:
        """Return the hidden layer and the scores of the classes."""
        hidden = self.xp.maximum(x @ self.w1.data + self.b1.data, 0)
        return hidden, hidden @ self.w2.data + self.b2.data

    def backward(self, x: Any, labels: Any) -> Any:
        """Return the mean cross entropy of a batch, on the device, and leave its gradients in the parameters."""
        xp, (hidden, scores) = self.xp, self.forward(x)
        rows = xp.arange(len(x))
        scores -= scores.max(axis=1, keepdims=True)
        log_probabilities = scores - xp.log(xp.exp(scores).sum(axis=1, keepdims=True))

        d_scores = xp.exp(log_probabilities)
        d_scores[rows, labels] -= 1
        d_scores /= len(x)
        xp.matmul(hidden.T, d_scores, out=self.w2.grad)
        xp.sum(d_scores, axis=0, out=self.b2.grad)

        d_hidden = d_scores @ self.w2.data.T
        d_hidden *= hidden > 0
        xp.matmul(x.T, d_hidden, out=self.w1.grad)
        xp.sum(d_hidden, axis=0, out=self.b1.grad)
        return -log_probabilities[rows, labels].mean()

    def accuracy(self, x: Any, labels: Any) -> float:
        """Return the fraction of images whose highest score is their label's."""
        return float((self.forward(x)[1].argmax(axis=1) == labels).mean())


def library(device: str) -> Any:
    """Return CuPy or NumPy. Raise if there is no CuPy, or no GPU for it."""
    if device == "cpu":
        return np
    try:
        cupy = import_module("cupy")
    except ImportError as error:
        raise RuntimeError("--device cuda needs CuPy: write pip install cupy-cuda13x") from error
    if not cupy.cuda.is_available():
        raise RuntimeError("--device cuda needs a GPU, and CuPy sees none")
    return cupy


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the numbers below count in random order, this many at a time."""
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def main(argv: list[str] | None = None) -> float:
    """Train and print; return the test accuracy."""
    parser = argparse.ArgumentParser(description="Train a two-layer CuPy network on scikit-learn's digits.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu computes with NumPy")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training images (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and the batches (default: 0)")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")
    try:
        xp = library(options.device)
    except RuntimeError as error:
        parser.error(str(error))

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    split = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = map(xp.asarray, split)

    rng = np.random.default_rng(options.seed)
    network = Network(xp, (64, HIDDEN, 10), rng)
    weights = {"params": [network.w1, network.w2], "weight_decay": 0.1}
    biases = {"params": [network.b1, network.b2], "weight_decay": 0.0}
    optimizer = optim.AdamW([weights, biases], lr=LEARNING_RATE)
    scheduler = optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / options.epochs, total_iters=options.epochs)

    with tqdm(range(options.epochs), unit="epoch") as epochs:
        for _ in epochs:
            total = xp.zeros((), np.float32)
            for batch in batches(len(train_images), BATCH, rng):
                places = xp.asarray(batch)
                total += len(batch) * network.backward(train_images[places], train_labels[places])
                optimizer.step()
            scheduler.step()
            epochs.set_postfix(loss=f"{float(total) / len(train_images):.4f}")

    accuracy = network.accuracy(test_images, test_labels)
    print(f"test accuracy {accuracy:.2%} ({len(test_images)} images) on {network.w1.device}")
    return accuracy


if __name__ == "__main__":
    main()
