"""RMSprop for one element, plain, with momentum, centered and both, and the loops that run it over flat arrays.

The rules called ``inside`` are those of Keras, TensorFlow and optax: epsilon is inside the root and the learning rate
inside the momentum buffer.
"""

from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, maximum, sqrt, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    weight_decay: float  # L2, added to the gradient; 0 is off
    lr: float
    alpha: float
    one_minus_alpha: float
    spread: float  # alpha * (1 - alpha)
    eps: float
    momentum: float
    zero: float
    one: float
    decay: float  # decoupled: weight_decay, with a momentum buffer lr * weight_decay; 0 is off


def rmsprop(theta, g, v, h):
    """Return the parameter and the mean square after one step."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    v = fma(h.alpha, v, h.one_minus_alpha * g * g)
    return fma(-h.lr, g / (sqrt(v) + h.eps), theta), v


def momentum(theta, g, v, b, h):
    """Return the parameter, the mean square and the momentum buffer after one step."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    v = fma(h.alpha, v, h.one_minus_alpha * g * g)
    b = fma(h.momentum, b, g / (sqrt(v) + h.eps))
    return fma(-h.lr, b, theta), v, b


def centered(theta, g, v, a, h):
    """Return the parameter, the mean square and the mean after one step.

    The new variance comes from the old one and the distance of the gradient from the old mean. It is the difference of
    the new mean square and the new mean's square, but that of two rounded numbers would lose what they have in common.
    """
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    distance = fma(h.one, g, -a)
    variance = maximum(fma(h.alpha, fma(-a, a, v), h.spread * distance * distance), h.zero)
    v = fma(h.alpha, v, h.one_minus_alpha * g * g)
    a = fma(h.alpha, a, h.one_minus_alpha * g)
    return fma(-h.lr, g / (sqrt(variance) + h.eps), theta), v, a


def centered_momentum(theta, g, v, b, a, h):
    """Return the parameter, the mean square, the momentum buffer and the mean after one step, as ``centered``."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    distance = fma(h.one, g, -a)
    variance = maximum(fma(h.alpha, fma(-a, a, v), h.spread * distance * distance), h.zero)
    v = fma(h.alpha, v, h.one_minus_alpha * g * g)
    a = fma(h.alpha, a, h.one_minus_alpha * g)
    b = fma(h.momentum, b, g / (sqrt(variance) + h.eps))
    return fma(-h.lr, b, theta), v, b, a


def rmsprop_inside(theta, g, v, h):
    """Return the parameter and the mean square after one step."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    v = fma(h.alpha, v, h.one_minus_alpha * g * g)
    delta = g / sqrt(v + h.eps)
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return fma(-h.lr, delta, theta), v


def momentum_inside(theta, g, v, b, h):
    """Return the parameter, the mean square and the momentum buffer after one step."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    v = fma(h.alpha, v, h.one_minus_alpha * g * g)
    b = fma(h.momentum, b, h.lr * (g / sqrt(v + h.eps)))
    delta = b
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return theta - delta, v, b


def centered_inside(theta, g, v, a, h):
    """Return the parameter, the mean square and the mean after one step, with the variance as in ``centered``."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    distance = fma(h.one, g, -a)
    variance = maximum(fma(h.alpha, fma(-a, a, v), h.spread * distance * distance), h.zero)
    v = fma(h.alpha, v, h.one_minus_alpha * g * g)
    a = fma(h.alpha, a, h.one_minus_alpha * g)
    delta = g / sqrt(variance + h.eps)
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return fma(-h.lr, delta, theta), v, a


def centered_momentum_inside(theta, g, v, b, a, h):
    """Return the parameter, the mean square, the momentum buffer and the mean after one step, as ``centered``."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    distance = fma(h.one, g, -a)
    variance = maximum(fma(h.alpha, fma(-a, a, v), h.spread * distance * distance), h.zero)
    v = fma(h.alpha, v, h.one_minus_alpha * g * g)
    a = fma(h.alpha, a, h.one_minus_alpha * g)
    b = fma(h.momentum, b, h.lr * (g / sqrt(variance + h.eps)))
    delta = b
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return theta - delta, v, b, a


_rmsprop_cpu, rmsprop_gpu = cpu_rule(rmsprop), gpu_elementwise(rmsprop)
_momentum_cpu, momentum_gpu = cpu_rule(momentum), gpu_elementwise(momentum)
_centered_cpu, centered_gpu = cpu_rule(centered), gpu_elementwise(centered)
_centered_momentum_cpu, centered_momentum_gpu = cpu_rule(centered_momentum), gpu_elementwise(centered_momentum)
_rmsprop_inside_cpu, rmsprop_inside_gpu = cpu_rule(rmsprop_inside), gpu_elementwise(rmsprop_inside)
_momentum_inside_cpu, momentum_inside_gpu = cpu_rule(momentum_inside), gpu_elementwise(momentum_inside)
_centered_inside_cpu, centered_inside_gpu = cpu_rule(centered_inside), gpu_elementwise(centered_inside)
_centered_momentum_inside_cpu = cpu_rule(centered_momentum_inside)
centered_momentum_inside_gpu = gpu_elementwise(centered_momentum_inside)


@cpu_kernel
def rmsprop_cpu(theta, g, v, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], v[i] = _rmsprop_cpu(widen(theta[i], h), widen(g[i], h), widen(v[i], h), h)


@cpu_kernel
def momentum_cpu(theta, g, v, b, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], v[i], b[i] = _momentum_cpu(widen(theta[i], h), widen(g[i], h), widen(v[i], h), widen(b[i], h), h)


@cpu_kernel
def centered_cpu(theta, g, v, a, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], v[i], a[i] = _centered_cpu(widen(theta[i], h), widen(g[i], h), widen(v[i], h), widen(a[i], h), h)


@cpu_kernel
def centered_momentum_cpu(theta, g, v, b, a, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], v[i], b[i], a[i] = _centered_momentum_cpu(
            widen(theta[i], h), widen(g[i], h), widen(v[i], h), widen(b[i], h), widen(a[i], h), h
        )


@cpu_kernel
def rmsprop_inside_cpu(theta, g, v, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], v[i] = _rmsprop_inside_cpu(widen(theta[i], h), widen(g[i], h), widen(v[i], h), h)


@cpu_kernel
def momentum_inside_cpu(theta, g, v, b, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], v[i], b[i] = _momentum_inside_cpu(
            widen(theta[i], h), widen(g[i], h), widen(v[i], h), widen(b[i], h), h
        )


@cpu_kernel
def centered_inside_cpu(theta, g, v, a, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], v[i], a[i] = _centered_inside_cpu(
            widen(theta[i], h), widen(g[i], h), widen(v[i], h), widen(a[i], h), h
        )


@cpu_kernel
def centered_momentum_inside_cpu(theta, g, v, b, a, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], v[i], b[i], a[i] = _centered_momentum_inside_cpu(
            widen(theta[i], h), widen(g[i], h), widen(v[i], h), widen(b[i], h), widen(a[i], h), h
        )
