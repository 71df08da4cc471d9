"""Finds differences between two frameworks that rounding does not explain, and likely causes."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxnets.compare.probe import Probe
from jaxnets.compare.records import Comparison, Control, Finding, Pair, Side

# Relative difference of a float32 loss whose sums are taken in another order.
_ROUNDING = 1e-5
_REDUCED = 5e-3  # the same if matrix products are computed in TF32 or bfloat16
# The same for the steps after the first, as the weights already differ by rounding.
_NEXT = 1e-4
_OF_TESTS = 1e-3
_EARLY = slice(3, 30)
_BEYOND = 100  # factor by which a difference must exceed that of rounding
_LATE = 10
_NAMES = {"torch": "PyTorch", "flax": "Flax", "keras": "Keras"}

#: A function from a pair to a probe of its first steps; None for frameworks without a probe.
ProbeOf = Callable[[Pair], Probe | None]


def findings(comparison: Comparison, probe_of: ProbeOf) -> tuple[Finding, ...]:
    """Returns the findings of a comparison.

    Args:
        comparison: the comparison, as yet without findings.
        probe_of: a function from a pair to its probe.
    """
    found = [*_not_finite(comparison)]
    if comparison.paired:
        found += _of_steps(comparison, probe_of)
    return (*found, *_of_scores(comparison))


def of_one_alone(alone: np.ndarray | None, member: Side) -> tuple[Finding, ...]:
    """Checks that a network trained with others at once has the losses of a separate run.

    Args:
        alone: the losses of the separate run's steps; None without such a run.
        member: the run from the same seed that was trained with the other seeds.
    """
    if alone is None:
        return ()
    apart = relative(member.step_losses[:3], alone[:3])
    if not (bad := np.flatnonzero(~(apart <= _NEXT))).size:
        return ()
    step = int(bad[0])
    text = (
        f"The loss of jaxnets at step {step}, trained with the other seeds at once, differs by "
        f"{apart[step]:.1e} from that of the separate run (seed {member.seed})."
    )
    return (Finding(statistic="loss of the separate run", step=step, layer=None, text=text),)


def _not_finite(comparison: Comparison) -> list[Finding]:
    found = []
    for pair in comparison.pairs:
        for side in (pair.ours, pair.theirs):
            bad = np.flatnonzero(~np.isfinite(side.step_losses))
            if len(bad):
                name = _NAMES.get(side.framework, side.framework)
                text = f"The loss of {name} is not finite from step {bad[0]} on, seed {side.seed}."
                found.append(Finding(statistic="loss", step=int(bad[0]), layer=None, text=text))
    return found


def _of_steps(comparison: Comparison, probe_of: ProbeOf) -> list[Finding]:
    """Compares the losses of the steps.

    Only the first difference is reported, as later ones follow from it.
    """
    pairs, control = comparison.pairs, comparison.control
    other = _NAMES[comparison.frameworks[1]]
    for step in range(min(3, len(pairs[0].ours.step_losses))):
        worst = max(pairs, key=lambda pair: _apart(pair, step))
        if _apart(worst, step) > _allowed(step, control, worst):
            mine, theirs = (side.step_losses[step] for side in (worst.ours, worst.theirs))
            text = (
                f"The loss of step {step} is {mine:.6g} in jaxnets and {theirs:.6g} in {other} "
                f"(seed {worst.seed}). The relative difference is {_apart(worst, step):.1e}; "
                f"rounding explains up to {_allowed(step, control, worst):.0e}."
            )
            if step:
                text += f" {_before(step)}"
            return [_explained(f"loss of step {step}", step, text, probe_of(worst), worst)]
    probe = probe_of(pairs[0])
    evaluated = None if probe is None else probe.evaluation()
    if evaluated is not None:
        text = f"The losses of the first steps agree. {evaluated.text}"
        statistic = "loss of the first test examples"
        return [Finding(statistic=statistic, step=None, layer=evaluated.layer, text=text)]
    return _of_evaluation(comparison) or _of_growth(comparison, probe_of)


def _before(step: int) -> str:
    return "The losses of step 0 agree." if step == 1 else "The losses of earlier steps agree."


def _explained(
    statistic: str, step: int | None, text: str, probe: Probe | None, pair: Pair
) -> Finding:
    cause = None
    if probe is not None:
        cause = probe.forward(float(pair.theirs.step_losses[0])) if step == 0 else probe.updates()
    if cause is None:
        return Finding(statistic=statistic, step=step, layer=None, text=text)
    return Finding(statistic=statistic, step=step, layer=cause.layer, text=f"{text} {cause.text}")


def _apart(pair: Pair, step: int) -> float:
    """Returns the relative difference of a step's losses; infinity if only one is finite."""
    both = pair.ours.step_losses[step], pair.theirs.step_losses[step]
    if not np.isfinite(both).any():
        return 0.0
    found = relative(*both)
    return float(found) if np.isfinite(found) else np.inf


def relative(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the absolute difference of losses, relative to the second."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    with np.errstate(invalid="ignore"):
        return np.abs(first - second) / np.maximum(np.abs(second), 1e-3)


def _allowed(step: int, control: Control | None, pair: Pair) -> float:
    rounding = _ROUNDING if jax.default_backend() == "cpu" else _REDUCED
    if step == 0:
        return rounding
    if control is None or control.run.seed != pair.seed:
        return max(rounding, _NEXT)
    chance = relative(control.run.step_losses[step], pair.theirs.step_losses[step])
    return max(rounding, _NEXT, _BEYOND * float(chance))


def _of_evaluation(comparison: Comparison) -> list[Finding]:
    """Checks whether the test losses after the first epoch differ although its steps agree."""
    control = comparison.control
    steps = len(comparison.pairs[0].ours.step_losses) // len(comparison.pairs[0].ours.test_loss)
    # The control counts for every seed: rounding alone can change a bias before batch
    # normalization by whole steps of Adam, as its gradient is zero except for rounding.
    chance = [
        (control.run, pair.theirs)
        for pair in comparison.pairs
        if control is not None and control.run.seed == pair.seed
    ]
    for pair in comparison.pairs:
        sides = [(pair.ours, pair.theirs), *chance]
        tested = [float(relative(*(side.test_loss[0] for side in both))) for both in sides]
        trained = max(
            relative(*(side.step_losses[:steps] for side in both)).max() for both in sides
        )
        if tested[0] > max(_OF_TESTS, _BEYOND * max(trained, *tested[1:], 0.0)):
            text = (
                f"The losses of the steps in the first epoch agree (within {trained:.1e}, seed "
                f"{pair.seed}), but the test losses after it differ by {tested[0]:.1e}. Likely "
                "causes are values that only evaluation uses, such as the running averages of "
                "batch normalization (its momentum), or another averaging of the test loss."
            )
            return [Finding(statistic="test loss of epoch 1", step=None, layer=None, text=text)]
    return []


def _of_growth(comparison: Comparison, probe_of: ProbeOf) -> list[Finding]:
    """Checks whether the losses diverge earlier, or in the end farther, than the control's."""
    pairs, control = comparison.pairs, comparison.control
    steps = len(pairs[0].ours.step_losses)
    if control is None or steps < 4:
        return []
    mine = np.stack([relative(p.ours.step_losses, p.theirs.step_losses) for p in pairs])
    beside = next(pair.theirs for pair in pairs if pair.seed == control.run.seed)
    chance = relative(control.run.step_losses, beside.step_losses)
    early, expected = np.median(mine[:, _EARLY]), np.median(chance[_EARLY])
    if early > max(_ROUNDING, _BEYOND * expected):
        where, step = f"steps 3 to {min(steps, 30) - 1}", 3
    else:
        tail = slice(-max(1, steps // 10), None)
        early, expected = np.median(mine[:, tail], axis=1).min(), _largest(chance)
        if not early > max(_NEXT, _LATE * expected):
            return []
        where, step = "the last tenth of the steps", steps - max(1, steps // 10)
    text = (
        f"The relative difference of the losses in {where} is {early:.1e}; between two PyTorch "
        f"runs that differ only in rounding it is {expected:.1e}."
    )
    return [_explained("growth of the difference", step, text, probe_of(pairs[0]), pairs[0])]


def _largest(chance: np.ndarray) -> float:
    """Returns the largest of the medians over ten equal parts of the steps."""
    return max(float(np.median(part)) for part in np.array_split(chance, min(10, len(chance))))


def _of_scores(comparison: Comparison) -> Sequence[Finding]:
    found = comparison.equivalence
    if not found.different or found.equivalent or found.interval is None:
        return []
    factor, unit = (100, " percentage points") if comparison.measure == "accuracy" else (1, "")
    low, high = (factor * end for end in found.interval)
    text = (
        f"The test {comparison.measure.removeprefix('test ')} differs by "
        f"{factor * found.difference:.3g}{unit} over {len(comparison.pairs)} seeds (95 % "
        f"confidence interval {low:.3g} to {high:.3g}), and equivalence within "
        f"±{factor * found.margin:.3g}{unit} is not shown."
    )
    return [Finding(statistic=comparison.measure, step=None, layer=None, text=text)]
