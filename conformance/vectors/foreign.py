"""Mutants of what only dialects compute. The vectors are torch's and cannot see them; the exams reject them all.

A test holds that each of these names is a mutant's.
"""

_SLIPS: dict[str, tuple[str, ...]] = {
    "adagrad: Adagrad: ": ("scalars: decoupled decay falls with the rate",),
    "adagrad: Adagrad._scalars: ": (
        "(0.0, weight_decay * (1 + taken * lr_decay)) if apart else (weight_decay, 0.0) -> (weight_decay, 0.0)",
        "(0.0, weight_decay * (1 + taken * lr_decay)) -> (1.0, weight_decay * (1 + taken * lr_decay))",
        "(0.0, weight_decay * (1 + taken * lr_decay)) -> (-1.0, weight_decay * (1 + taken * lr_decay))",
        "weight_decay * (1 + taken * lr_decay) -> weight_decay / (1 + taken * lr_decay)",
        "weight_decay * (1 + taken * lr_decay) -> weight_decay",
        "weight_decay * (1 + taken * lr_decay) -> 1 + taken * lr_decay",
        "1 + taken * lr_decay -> 1 - taken * lr_decay",
        "1 + taken * lr_decay -> taken * lr_decay",
        "1 + taken * lr_decay -> 2 + taken * lr_decay",
        "1 + taken * lr_decay -> 0 + taken * lr_decay",
        "taken * lr_decay -> taken / lr_decay",
        "taken * lr_decay -> taken",
        "taken * lr_decay -> lr_decay",
        "(weight_decay, 0.0) -> (weight_decay, 1.0)",
        "(weight_decay, 0.0) -> (weight_decay, -1.0)",
    ),
    "adam: Adam: ": (
        "scalars: eps hat missing: eps after the correction",
        "scalars: maximum's correction off by one",
        "scalars: maximum's correction with a root",
    ),
    "adam: AdamW: ": (
        "scalars: eps hat missing: eps after the correction",
        "scalars: maximum's correction off by one",
        "scalars: maximum's correction with a root",
    ),
    "adam: Adam._options: ": (
        "group['decoupled_weight_decay'] or self.dialect == 'keras' -> group['decoupled_weight_decay']",
        "group['amsgrad'] and self.dialect == 'optax' -> self.dialect == 'optax'",
    ),
    "adam: Adam._scalars: ": (
        "ONE if corrected else fixed_sqrt(bias2) -> fixed_sqrt(bias2)",
        "eps if self.dialect in _HAT else eps * (root2 / ONE) -> eps * (root2 / ONE)",
        "ONE / bias2 if corrected else 1.0 -> 1.0",
        "ONE / bias2 if corrected else 1.0 -> 1.0 if corrected else ONE / bias2",
        "ONE / bias2 -> ONE * bias2",
        "ONE / bias2 -> ONE",
        "ONE / bias2 -> bias2",
        "ONE / bias2 -> bias2 / ONE",
    ),
    "adamax: Adamax: ": ("scalars: decoupled decay with the step size",),
    "adamax: Adamax._scalars: ": (
        "self.dialect == 'keras' -> False",
        "weight_decay * bias -> weight_decay / bias",
        "weight_decay * bias -> weight_decay",
        "weight_decay * bias -> bias",
        "1.0 -> 2.0",
        "1.0 -> 0.0",
    ),
    "nadam: NAdam._options: ": (
        "group['decoupled_weight_decay'] or self.dialect == 'keras' -> group['decoupled_weight_decay']",
    ),
    "rmsprop: RMSprop: ": (
        "scalars: decoupled decay by half",
        "scalars: decoupled decay not multiplied by lr",
    ),
    "rmsprop: RMSprop._initial_values: ": (
        "{'square_avg': 1.0} if self.dialect == 'tensorflow' else {} -> {}",
        "{'square_avg': 1.0} -> {'square_avg': 2.0}",
        "{'square_avg': 1.0} -> {'square_avg': 0.0}",
    ),
    "rmsprop: RMSprop._scalars: ": (
        "(0.0, weight_decay) if self.dialect == 'keras' else (weight_decay, 0.0) -> (weight_decay, 0.0)",
        "(0.0, weight_decay) -> (1.0, weight_decay)",
        "(0.0, weight_decay) -> (-1.0, weight_decay)",
        "(weight_decay, 0.0) -> (weight_decay, 1.0)",
        "(weight_decay, 0.0) -> (weight_decay, -1.0)",
        "lr * decay if momentum > 0 else decay -> lr * decay",
        "lr * decay if momentum > 0 else decay -> decay",
        "lr * decay if momentum > 0 else decay -> decay if momentum > 0 else lr * decay",
        "momentum > 0 -> momentum >= 0",
        "momentum > 0 -> momentum <= 0",
        "momentum > 0 -> momentum > 1",
        "momentum > 0 -> momentum > -1",
        "lr * decay -> lr",
        "lr * decay -> decay",
    ),
    "sgd: SGD: ": ("scalars: decay never multiplied by lr",),
    "sgd: SGD._scalars: ": (
        "self.dialect == 'keras' and momentum != 0 -> self.dialect == 'keras'",
        "self.dialect == 'keras' and momentum != 0 -> False",
        "momentum != 0 -> momentum == 0",
        "momentum != 0 -> momentum != 1",
        "momentum != 0 -> momentum != -1",
        "lr * weight_decay -> lr / weight_decay",
        "lr * weight_decay -> lr",
        "lr * weight_decay -> weight_decay",
    ),
}

FOREIGN = frozenset(where + slip for where, slips in _SLIPS.items() for slip in slips)
