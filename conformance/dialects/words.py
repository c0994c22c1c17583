"""What the search found, in words."""

from collections.abc import Mapping

from refoptim.conformance.dialects import axes
from refoptim.conformance.dialects.fit import Choice, Fit

# How many explanations are listed where several fit.
LISTED = 4
# What is added must make the error this many times smaller.
BETTER = 4.0


def of_fits(algorithm: str, fits: list[Fit], singles: list[Choice], base: Mapping[str, str]) -> str:
    """Return a sentence about everything that explains an answer, documented dialects first.

    Args:
        algorithm: what was asked for.
        fits: what explains the answer.
        singles: the choices that change what there is to see.
        base: torch's values on the algorithm's axes.

    """
    ranked = sorted(_simplest(fits), key=lambda fit: (sum(bool(c.words) for c in fit.choices), fit.sulp))
    said = list(dict.fromkeys(_explanation(algorithm, fit, singles) for fit in ranked))
    torch = "; ".join(dict.fromkeys(text for fit in ranked if (text := _torch(algorithm, fit.choices, base))))
    end = f"; torch {torch}" if torch else ""
    if len(said) == 1:
        return said[0] + end
    more = f"; {len(said) - LISTED} more" if len(said) > LISTED else ""
    return f"several explanations match: {'; or '.join(said[:LISTED])}{more}{end}"


def of_halves(algorithm: str, fits: list[Fit], singles: list[Choice], base: Mapping[str, str]) -> str:
    """Return a sentence about what explains an answer's parameters and not its state."""
    if not fits[0].choices:
        return "parameters are torch's; the state is another quantity"
    return f"{of_fits(algorithm, fits, singles, base)}; its state is another quantity"


def _simplest(fits: list[Fit]) -> list[Fit]:
    """Return the fits that are no more than another with something added, unless that makes them far better."""
    return [
        fit
        for fit in fits
        if not any(set(less.choices) < set(fit.choices) and less.sulp <= BETTER * fit.sulp for less in fits)
    ]


def _explanation(algorithm: str, fit: Fit, singles: list[Choice]) -> str:
    known = [choice for choice in fit.choices if not choice.words]
    mistakes = " and ".join(choice.words for choice in fit.choices if choice.words)
    near = f"within {fit.sulp:.2g} ulp"
    if not known:
        return f"{mistakes}: matches {near}"
    names = " + ".join(f"{choice.axis}:{choice.value}" for choice in known)
    who = ", ".join(_libraries(algorithm, known, singles))
    text = f"matches dialect {names} {near}" + (f" ({who})" if who else "")
    return f"{text}, and {mistakes}" if mistakes else text


def _libraries(algorithm: str, known: list[Choice], singles: list[Choice]) -> list[str]:
    """Return who computes these choices: of one all that do, of several those that have them all and no other."""
    if len(known) == 1:
        axis = _axis(algorithm, known[0])
        libraries = axis.value(known[0].value).libraries
        others = [one for one in libraries if one.name != "torch" or one.until]
        return [f"{one.name} until {one.until}" if one.until else one.name for one in others]
    shown = {(choice.axis, choice.value) for choice in singles if not choice.words}
    wanted = {(choice.axis, choice.value) for choice in known}
    return [one.library for one in axes.named(algorithm) if set(one.axes.items()) & shown == wanted]


def _torch(algorithm: str, choices: tuple[Choice, ...], base: Mapping[str, str]) -> str:
    """Return what torch does on the axes of these choices."""
    known = [choice for choice in choices if not choice.words and choice.axis != "defaults"]
    return ", ".join(_axis(algorithm, c).value(base[c.axis]).words for c in known)


def _axis(algorithm: str, choice: Choice) -> axes.Axis:
    return next(axis for axis in axes.of(algorithm) if axis.name == choice.axis)
