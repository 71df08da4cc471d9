"""Several networks as one."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import InputError, check_choice, check_positive, describe, shown
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.training.evaluation import check_model, for_prediction
from jaxnets.training.objective import outputs_of
from jaxnets.training.seeds import TrainingRuns

How = Literal["probabilities", "outputs", "votes"]


class Ensemble(nnx.Module):
    """Several networks of any kinds as one, for ``evaluate``, ``predict`` and ``predictor``.

    ``"probabilities"``: log (1/n Σ softmax(outputs)), the logarithm of the mean probabilities,
    which are logits to a loss and to a softmax. ``"outputs"``: the plain mean of the outputs: of
    logits, of values, or of probabilities where the networks give those. ``"votes"``: the share of
    the networks whose largest output each class is; of equally many, the first class counts.

    Args:
        models: the networks, which take the same examples and return outputs of one shape
            [batch, …, classes]. For ``"outputs"`` these may be several arrays.
        how: how their outputs become one.
        transforms: for each network what its inputs go through first, or None for nothing; where
            they all have the same, it is simpler to give that to ``evaluate``.

    Raises:
        InputError: if an argument is bad; on a call, if the networks' outputs differ in shape, or
            are not those of classes.

    Examples:
        >>> from jaxnets import MLP
        >>> both = Ensemble([MLP((4, 8, 3), rngs=nnx.Rngs(seed)) for seed in range(2)])
        >>> both(jnp.ones((5, 4))).shape
        (5, 3)
    """

    def __init__(
        self,
        models: Sequence[nnx.Module],
        how: How = "probabilities",
        *,
        transforms: Sequence[Transform | None] | None = None,
    ) -> None:
        if not isinstance(models, list | tuple | nnx.List) or not models:
            raise InputError("models", "a list of networks", shown(models))
        for model in models:
            check_model(model)
        self.models = nnx.List(models)
        self.how = check_choice("how", how, get_args(How))
        self.transforms = _checked(transforms, models)
        self.output = self._gives()

    def _gives(self) -> str | None:
        """What the outputs are, as our networks say it; None if the networks do not."""
        if self.how == "outputs":
            of_members = {getattr(model, "output", None) for model in self.models}
            only = of_members.pop() if len(of_members) == 1 else None
            return only if isinstance(only, str) else None
        return "logits" if self.how == "probabilities" else "softmax"

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """What the networks give together.

        Args:
            *inputs: what each of them is called with.
            **named: likewise.
        """
        given: Any = named or (inputs[0] if len(inputs) == 1 else inputs)
        each = [
            outputs_of(model, applied(transform, given))
            for model, transform in zip(self.models, self.transforms, strict=True)
        ]
        _check_alike(each)
        if self.how == "outputs":
            return jax.tree.map(lambda *some: sum(some[1:], some[0]) / len(some), *each)
        if any(not isinstance(one, jax.Array) or one.shape[-1:] in ((), (1,)) for one in each):
            got = ", ".join(describe(x) for x in jax.tree.leaves(each[0]))
            expected = f"networks that give [batch, classes], as how is {self.how!r}"
            raise InputError("models", expected, got)
        if self.how == "votes":
            votes = [jax.nn.one_hot(one.argmax(-1), one.shape[-1], dtype=one.dtype) for one in each]
            return sum(votes[1:], votes[0]) / len(votes)
        logs = [
            _log_probabilities(model, one) for model, one in zip(self.models, each, strict=True)
        ]
        return jax.nn.logsumexp(jnp.stack(logs), axis=0) - jnp.log(len(logs)).astype(logs[0].dtype)


def ensemble(members: Any, how: How = "probabilities") -> Ensemble:
    """The ensemble of several runs, each with its own transform.

    The transforms are part of it: ``evaluate`` and ``predict`` get none beside it.

    Args:
        members: a list of runs, as ``fit`` and ``jaxnets.load`` return them, and of networks; or
            the ``TrainingRuns`` of many seeds, without those that diverged.
        how: see ``Ensemble``.

    Raises:
        InputError: see ``Ensemble``.
    """
    if isinstance(members, TrainingRuns):
        members = [member for member in members.members if member.diverged is None]
    if not isinstance(members, list | tuple):
        raise InputError("members", "a list of runs or networks", shown(members))
    models = [member.model if _is_run(member) else member for member in members]
    return Ensemble(models, how, transforms=[_transform(member) for member in members])


def repeated(model: nnx.Module, settings: Mapping[str, Any]) -> Ensemble:
    """An ensemble of networks like one, to be filled with the weights of a run's folder.

    Args:
        model: one of them.
        settings: ``count`` and ``how``.
    """
    count = check_positive("count", settings["count"])
    return Ensemble([nnx.clone(model) for _ in range(count)], settings["how"])


def _is_run(member: Any) -> bool:
    return not isinstance(member, nnx.Module) and isinstance(
        getattr(member, "model", None), nnx.Module
    )


def _transform(member: Any) -> Transform | None:
    """What the inputs of a run's network go through; of a finished run its task says so."""
    if not _is_run(member):
        return None
    return getattr(getattr(member, "task", member), "transform", None)


def _checked(transforms: Any, models: Sequence[nnx.Module]) -> tuple[Transform | None, ...]:
    if transforms is None:
        return (None,) * len(models)
    if not isinstance(transforms, list | tuple) or len(transforms) != len(models):
        got = shown(transforms)
        raise InputError("transforms", f"None, or one for each of {len(models)} networks", got)
    for model, transform in zip(models, transforms, strict=True):
        for_prediction(model, transform)  # looks at it
    return tuple(transforms)


def _check_alike(each: Sequence[Any]) -> None:
    """Raises unless all networks give arrays of the same shapes."""
    shapes = [jax.tree.map(jnp.shape, one) for one in each]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise InputError(f"models[{number}]", f"outputs {shapes[0]} as of models[0]", shape)


def _log_probabilities(model: nnx.Module, outputs: jax.Array) -> jax.Array:
    if getattr(model, "output", None) == "softmax":  # probabilities already
        return jnp.log(outputs)
    return jax.nn.log_softmax(outputs)
