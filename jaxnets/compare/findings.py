"""Differences between two frameworks that rounding does not explain, and their likely causes."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxnets.compare.probe import Probe
from jaxnets.compare.records import Comparison, Control, Finding, Pair, Side

# Of a loss in float32, where the same numbers are summed in another order.
_ROUNDING = 1e-5
_REDUCED = 5e-3  # where matrix products are computed in TF32 or bfloat16
# Of the steps after the first, whose weights differ by rounding already.
_NEXT = 1e-4
_OF_TESTS = 1e-3
_EARLY = slice(3, 30)
_BEYOND = 100  # times what rounding alone does
_LATE = 10
_NAMES = {"torch": "PyTorch", "flax": "Flax", "keras": "Keras"}

#: Makes what looks into a pair's first steps, where it is known how.
ProbeOf = Callable[[Pair], Probe | None]


def findings(comparison: Comparison, probe_of: ProbeOf) -> tuple[Finding, ...]:
    """The findings of a comparison.

    Args:
        comparison: without findings.
        probe_of: makes the probe of a pair.
    """
    found = [*_not_finite(comparison)]
    if comparison.paired:
        found += _of_steps(comparison, probe_of)
    return (*found, *_of_scores(comparison))


def of_one_alone(alone: np.ndarray | None, member: Side) -> tuple[Finding, ...]:
    """Whether one of many that we trained at once begins as it does alone.

    Args:
        alone: the losses of its steps alone; None if they are not known.
        member: the same among the others.
    """
    if alone is None:
        return ()
    apart = relative(member.step_losses[:3], alone[:3])
    if not (bad := np.flatnonzero(~(apart <= _NEXT))).size:
        return ()
    step = int(bad[0])
    text = (
        f"The loss of step {step} of jaxnets, trained with the other seeds at once, is "
        f"{apart[step]:.1e} apart from that of the run alone (seed {member.seed})."
    )
    return (Finding(statistic="loss of the run alone", step=step, layer=None, text=text),)


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
    """What the losses of the steps show; the first cause alone, as it has the others follow."""
    pairs, control = comparison.pairs, comparison.control
    other = _NAMES[comparison.frameworks[1]]
    for step in range(min(3, len(pairs[0].ours.step_losses))):
        worst = max(pairs, key=lambda pair: _apart(pair, step))
        if _apart(worst, step) > _allowed(step, control, worst):
            mine, theirs = (side.step_losses[step] for side in (worst.ours, worst.theirs))
            text = (
                f"The loss of step {step} is {mine:.6g} in jaxnets and {theirs:.6g} in {other} "
                f"(seed {worst.seed}), {_apart(worst, step):.1e} apart relative to it, where "
                f"rounding explains {_allowed(step, control, worst):.0e}."
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
    return "That of step 0 agrees." if step == 1 else "Those of the steps before agree."


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
    """The relative difference of a step's losses; infinite where one alone is not finite."""
    both = pair.ours.step_losses[step], pair.theirs.step_losses[step]
    if not np.isfinite(both).any():
        return 0.0
    found = relative(*both)
    return float(found) if np.isfinite(found) else np.inf


def relative(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The difference of losses, relative to the second."""
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
    """Whether evaluation after the first epoch differs where the steps before it do not."""
    control = comparison.control
    steps = len(comparison.pairs[0].ours.step_losses) // len(comparison.pairs[0].ours.test_loss)
    # of any seed: rounding alone moves a bias before batch normalisation, by whole steps of Adam
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
                f"The losses of the first epoch's steps agree (at most {trained:.1e} apart, seed "
                f"{pair.seed}), and the test losses after it are {tested[0]:.1e} apart: evaluation "
                "takes what the steps' losses do not show, such as the averages of batch "
                "normalisation (its momentum), or the loss is averaged otherwise there."
            )
            return [Finding(statistic="test loss of epoch 1", step=None, layer=None, text=text)]
    return []


def _of_growth(comparison: Comparison, probe_of: ProbeOf) -> list[Finding]:
    """Whether the losses part faster than the control's, early, or farther, in the end."""
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
        f"The losses of {where} are {early:.1e} apart, relative to them, where PyTorch beside "
        f"itself is {expected:.1e} apart: rounding does not explain it."
    )
    return [_explained("growth of the difference", step, text, probe_of(pairs[0]), pairs[0])]


def _largest(chance: np.ndarray) -> float:
    """The largest median of a tenth of the steps."""
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
