"""The automatic mutants that the exams do not reject, and why: most compute the same numbers as what they were made of.

A mutant that is not here must be rejected, and one that is here must survive.
"""

_DIVIDED = "not lr_decay or not isfinite(lr) or (not isfinite(lr_decay))"
_VARIANCE = "fma(h.alpha, fma(-a, a, v), h.spread * distance * distance)"
_KEPT = "-expm1(beta2_decay * log(t))"
_RADAM = ("sign", "weight_decay", "decay", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "step_size")

SURVIVORS: dict[str, tuple[str, ...]] = {
    "The plain quotient has two roundings more than the exact one, in float64: too few for an exam.": (
        f"adagrad: Adagrad._decayed: {_DIVIDED} -> True",
        "adagrad: Adagrad._decayed: not lr_decay -> lr_decay",
        "adagrad: Adagrad._decayed: not isfinite(lr) -> isfinite(lr)",
        "adagrad: Adagrad._decayed: not isfinite(lr_decay) -> isfinite(lr_decay)",
    ),
    "Without decay the exact quotient is lr as well; an infinite rate has no exact value to be judged by.": (
        f"adagrad: Adagrad._decayed: {_DIVIDED} -> not lr_decay and (not isfinite(lr)) and (not isfinite(lr_decay))",
        f"adagrad: Adagrad._decayed: {_DIVIDED} -> not lr_decay",
        f"adagrad: Adagrad._decayed: {_DIVIDED} -> not isfinite(lr)",
        f"adagrad: Adagrad._decayed: {_DIVIDED} -> not isfinite(lr_decay)",
        f"adagrad: Adagrad._decayed: {_DIVIDED} -> False",
        "adagrad: Adagrad._decayed: isfinite(lr) -> lr",
        "adagrad: Adagrad._decayed: isfinite(lr_decay) -> lr_decay",
    ),
    "The plain quotient is of rates without decay, which is lr however it is written, or of infinite ones.": (
        "adagrad: Adagrad._decayed: lr / (1 + taken * lr_decay) -> lr * (1 + taken * lr_decay)",
        "adagrad: Adagrad._decayed: lr / (1 + taken * lr_decay) -> lr",
        "adagrad: Adagrad._decayed: 1 + taken * lr_decay -> 1 - taken * lr_decay",
        "adagrad: Adagrad._decayed: taken * lr_decay -> lr_decay",
    ),
    "A step count is an int but where a state was edited.": ("adagrad: Adagrad._decayed: int(taken) -> taken",),
    "Only optax's AMSGrad reads the correction, and nobody else should wait for its division.": tuple(
        f"adam: Adam._scalars: ONE / bias2 if corrected else 1.0 -> ONE / bias2{wrong}"
        for wrong in ("", " if corrected else 2.0", " if corrected else 0.0")
    ),
    "Whether it is 0 is all that is asked of 1 - mu.": ("asgd: ASGD._scalars: 1.0 - mu -> mu - 1.0",),
    "Options are numbers in the exams, and stay what they are; those that carry derivatives are another matter.": tuple(
        f"{name}._advance: not group['differentiable'] -> {wrong}"
        for name in ("asgd: ASGD", "nadam: NAdam")
        for wrong in ("group['differentiable']", "True", "False")
    ),
    "State of which no step has been taken comes from a hand that edits it, not from a run.": (
        "asgd: ASGD._weights: host is None or host['step'] == 0 -> host is None",
        "asgd: ASGD._weights: host['step'] == 0 -> host['step'] + 1 == 0",
        "asgd: ASGD._weights: host['step'] == 0 -> host['step'] == -1",
    ),
    "A product with 1 is exact. It is there because g or u is a product, which a compiler may merge with a sum.": (
        *(
            f"rmsprop: {rule}: fma(h.one, g, -a) -> {wrong}"
            for rule in ("centered", "centered_momentum", "centered_inside", "centered_momentum_inside")
            for wrong in ("g + -a", "fma(h.one, -a, g)")
        ),
        "adamax: adamax_outside: fma(h.one, u, h.eps) -> u + h.eps",
        "adamax: adamax_outside: fma(h.one, u, h.eps) -> fma(h.one, h.eps, u)",
    ),
    "The rules without momentum run where momentum is 0.": tuple(
        f"rmsprop: {rule}: maximum({_VARIANCE}, h.zero) -> maximum({_VARIANCE}, h.momentum)"
        for rule in ("centered", "centered_inside")
    ),
    "torch's rules run where no decay is decoupled.": tuple(
        f"rmsprop: {rule}: maximum({_VARIANCE}, h.zero) -> maximum({_VARIANCE}, h.decay)"
        for rule in ("centered", "centered_momentum")
    ),
    "A rectification is 0 or positive.": tuple(
        "radam: radam: by_sign(h.rectification, h.one, h.one, sqrt(v) + h.eps) -> "
        f"by_sign(h.rectification, h.{wrong}, h.one, sqrt(v) + h.eps)"
        for wrong in ("rectification", *_RADAM)
    ),
    "Learning rates are numbers in the exams; these are about arrays of one element.": (
        "rprop: Rprop._initial_values: isinstance(lr, np.ndarray | np.generic) -> False",
        "rprop: Rprop._initial_values: np.ndarray | np.generic -> np.ndarray",
        "rprop: Rprop._initial_values: np.ndarray | np.generic -> np.generic",
        "rprop: Rprop._initial_values: lr.reshape(()) if getattr(lr, 'ndim', 0) else lr -> lr",
        "rprop: Rprop._initial_values: lr.reshape(()) -> ()",
    ),
    "Without decay both sums are within a rounding; infinite parameters are not judged.": (
        "muon: muon_update: h.decay != 0 -> True",
        "muon: muon_update: h.decay != 0 -> h.decay != 1",
        "muon: muon_update: h.decay != 0 -> h.decay != -1",
        "muon: muon_update: h.decay != 0 -> h.one_minus_momentum != 0",
        "muon: muon_update: h.decay != 0 -> h.a != 0",
        "muon: muon_update: h.decay != 0 -> h.b != 0",
        "muon: muon_update: h.decay != 0 -> h.c != 0",
        "muon: muon_update: h.decay != 0 -> h.step_size != 0",
        "muon: muon_update: h.decay != 0 -> h.eps != 0",
        "adafactor: adafactor_update: h.decay != 0 -> True",
        "adafactor: adafactor_update: h.decay != 0 -> h.decay != 1",
        "adafactor: adafactor_update: h.decay != 0 -> h.decay != -1",
        "adafactor: adafactor_update: h.decay != 0 -> h.sign != 0",
        "adafactor: adafactor_update: h.decay != 0 -> h.fresh != 0",
        "adafactor: adafactor_update: h.decay != 0 -> h.rho != 0",
        "adafactor: adafactor_update: h.decay != 0 -> h.eps != 0",
        "adafactor: adafactor_update: h.decay != 0 -> h.eps_of_size != 0",
        "adafactor: adafactor_update: h.decay != 0 -> h.d != 0",
        "adafactor: adafactor_update: h.decay != 0 -> h.step_size != 0",
    ),
    "Quotients have room for almost any scale; tests/test_edges.py is about those that have little.": (
        "adadelta: Adadelta._scalars: kernels.adadelta.scale_for(eps) -> eps",
    ),
    "A sign is 1 or -1.": tuple(f"sgd: sgd: h.sign < 0 -> {wrong}" for wrong in ("h.sign <= 0", "h.sign < 1")),
    "In the first step old means are 0, whatever multiplies them; infinite options have no exact value.": (
        f"adafactor: Adafactor._scalars: {_KEPT} if t > 1 else 0.0 -> {_KEPT}",
        f"adafactor: Adafactor._scalars: {_KEPT} if t > 1 else 0.0 -> {_KEPT} if t > 1 else 1.0",
        f"adafactor: Adafactor._scalars: {_KEPT} if t > 1 else 0.0 -> {_KEPT} if t > 1 else -1.0",
        "adafactor: Adafactor._scalars: t > 1 -> t >= 1",
        "adafactor: Adafactor._scalars: t > 1 -> t > 0",
        "adafactor: Adafactor._scalars: t > 1 -> t + 1 > 1",
        "adafactor: Adafactor._scalars: lr * weight_decay if weight_decay else 0.0 -> lr * weight_decay",
    ),
    "Options are True or False in the exams.": ("muon: Muon._options: bool(group['nesterov']) -> group['nesterov']",),
    "Any number below 0 says it.": ("adafactor: Adafactor._options: -1.0 -> -2.0",),
}
