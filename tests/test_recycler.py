"""Memory of vectors that are gone is used again; of one that somebody has, never."""

import copy
import pickle

import numpy as np
import pytest

import refoptim as optim
from refoptim.pages import LONG
from refoptim.recycler import Recycler

FLOAT = np.dtype(np.float32)
SIZE = LONG // FLOAT.itemsize
LIKE = np.empty(0, FLOAT)


def place(array):
    return array.__array_interface__["data"][0]


HOLDERS = {
    "itself": lambda x: x,
    "a view": lambda x: x[5:],
    "a view of a view": lambda x: x.reshape(2, -1)[1, ::3],
    "other numbers": lambda x: x.view(np.int16),
    "an element's memory": lambda x: memoryview(x[3:4]),
    "a read-only view": lambda x: np.broadcast_to(x[:1], (3,)),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_somebody_has_is_not_written_over(name):
    vectors = Recycler()
    first = vectors.empty(SIZE, FLOAT, LIKE)
    before = place(first)
    held = HOLDERS[name](first)
    del first
    assert place(vectors.empty(SIZE, FLOAT, LIKE)) != before
    del held
    assert place(vectors.empty(SIZE, FLOAT, LIKE)) == before


def test_vectors_that_live_at_once_are_apart():
    vectors = Recycler()
    alive = [vectors.empty(SIZE + 1, np.dtype(np.float64), LIKE) for _ in range(4)]
    for i, vector in enumerate(alive):
        vector[...] = i
    assert [set(vector.tolist()) for vector in alive] == [{0}, {1}, {2}, {3}]
    assert all(vector.flags.writeable and vector.flags.c_contiguous and vector.size == SIZE + 1 for vector in alive)


def test_another_length_gives_the_memory_back():
    vectors = Recycler()
    vectors.empty(SIZE, FLOAT, LIKE)
    held = vectors.empty(2 * SIZE, FLOAT, LIKE)
    assert [memory.size for _, memory in vectors._places] == [held.nbytes]


def test_another_type_takes_the_same_memory():
    vectors = Recycler()
    first = place(vectors.empty(2 * SIZE, FLOAT, LIKE))
    assert place(vectors.empty(SIZE, np.dtype(np.float64), LIKE)) == first


def test_short_vectors_are_numpys():
    vectors = Recycler()
    assert vectors.empty(SIZE - 1, FLOAT, LIKE).flags.owndata
    assert vectors.empty(0, FLOAT, LIKE).shape == (0,)


def test_a_vector_outlives_what_made_it():
    vector = Recycler().empty(SIZE, FLOAT, LIKE)
    vector[...] = 3
    assert vector.sum() == 3 * SIZE


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_no_memory(way):
    vectors = Recycler()
    held = vectors.empty(SIZE, FLOAT, LIKE)
    other = way(vectors).empty(SIZE, FLOAT, LIKE)
    assert place(other) != place(held)


@pytest.mark.parametrize("name", ["LBFGS", "CG"])
def test_the_state_that_a_user_holds_stays(name):
    param, curvature = optim.Parameter(np.ones(SIZE, FLOAT)), np.linspace(1, 2, SIZE, dtype=FLOAT)
    options = {"history_size": 2} if name == "LBFGS" else {}
    optimizer = getattr(optim, name)([param], max_iter=2, line_search_fn="strong_wolfe", **options)

    def closure():
        param.grad = curvature * param.data
        return float(param.data @ param.grad) / 2

    optimizer.step(closure)
    entry = optimizer.state[param]
    held = [entry["d"], entry["prev_flat_grad"][::2], *entry.get("old_dirs", []), *entry.get("old_stps", [])]
    before = [vector.tobytes() for vector in held]
    for _ in range(4):
        optimizer.step(closure)
    assert [vector.tobytes() for vector in held] == before
