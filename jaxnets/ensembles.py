"""Ensembles: several networks combined to one."""

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
    """A network that combines the outputs of several networks, which may be of different classes.

    An ensemble works with ``evaluate``, ``predict`` and ``predictor`` like any network. The
    argument ``how`` selects how the outputs are combined:

    - ``"probabilities"``: log (1/n Σ softmax(outputs)), the logarithm of the mean probabilities,
      which a loss or a softmax treats as logits.
    - ``"outputs"``: the mean of the outputs, which may be logits, values or probabilities.
    - ``"votes"``: for each class, the fraction of the networks that predict it. If several classes
      have the most votes, ``argmax`` takes the first.

    Args:
        models: the networks, which take the same examples and return outputs of the same shape
            [batch, …, classes]. With ``"outputs"`` a network may return several arrays.
        how: how the outputs are combined; see above.
        transforms: for each network, the transform that is applied to its inputs, or None. If all
            networks have the same transform, you can pass it to ``evaluate`` instead.

    Raises:
        InputError: if an argument is invalid; on a call, if the networks' outputs differ in shape,
            or are not scores of classes as ``how`` requires.

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
        self.output = self._output_kind()

    def _output_kind(self) -> str | None:
        """Returns the kind of the outputs for the attribute ``output``; None if unknown."""
        if self.how == "outputs":
            of_members = {getattr(model, "output", None) for model in self.models}
            only = of_members.pop() if len(of_members) == 1 else None
            return only if isinstance(only, str) else None
        return "logits" if self.how == "probabilities" else "softmax"

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Computes the combined outputs of all networks.

        Args:
            *inputs: the positional arguments of each network.
            **named: the keyword arguments of each network.
        """
        given: Any = named or (inputs[0] if len(inputs) == 1 else inputs)
        each = [
            outputs_of(model, applied(transform, given))
            for model, transform in zip(self.models, self.transforms, strict=True)
        ]
        _check_same_shapes(each)
        if self.how == "outputs":
            return jax.tree.map(lambda *some: sum(some[1:], some[0]) / len(some), *each)
        if any(not isinstance(one, jax.Array) or one.shape[-1:] in ((), (1,)) for one in each):
            got = ", ".join(describe(x) for x in jax.tree.leaves(each[0]))
            expected = f"networks with outputs [batch, classes] for how={self.how!r}"
            raise InputError("models", expected, got)
        if self.how == "votes":
            votes = [jax.nn.one_hot(one.argmax(-1), one.shape[-1], dtype=one.dtype) for one in each]
            return sum(votes[1:], votes[0]) / len(votes)
        logs = [
            _log_probabilities(model, one) for model, one in zip(self.models, each, strict=True)
        ]
        return jax.nn.logsumexp(jnp.stack(logs), axis=0) - jnp.log(len(logs)).astype(logs[0].dtype)


def ensemble(members: Any, how: How = "probabilities") -> Ensemble:
    """Makes an ensemble of several runs, each with its own transform.

    The transforms are part of the ensemble, so do not pass a transform to ``evaluate`` or
    ``predict``.

    Args:
        members: a list of runs, as ``fit`` and ``jaxnets.load`` return them, and networks; or the
            ``TrainingRuns`` of many seeds, of which those that diverged are left out.
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
    """Makes an ensemble of copies of a network, to load the weights of a run directory into.

    Args:
        model: a network of the members' structure.
        settings: the number of members ``count``, and ``how``; see ``Ensemble``.
    """
    count = check_positive("count", settings["count"])
    return Ensemble([nnx.clone(model) for _ in range(count)], settings["how"])


def _is_run(member: Any) -> bool:
    return not isinstance(member, nnx.Module) and isinstance(
        getattr(member, "model", None), nnx.Module
    )


def _transform(member: Any) -> Transform | None:
    """Returns the transform of a run; a ``TrainingRun`` has it in its task."""
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
        for_prediction(model, transform)  # only for its checks of the arguments
    return tuple(transforms)


def _check_same_shapes(each: Sequence[Any]) -> None:
    """Checks that the outputs of all networks have the same shapes."""
    shapes = [jax.tree.map(jnp.shape, one) for one in each]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise InputError(f"models[{number}]", f"outputs {shapes[0]} like models[0]", shape)


def _log_probabilities(model: nnx.Module, outputs: jax.Array) -> jax.Array:
    if getattr(model, "output", None) == "softmax":  # probabilities already
        return jnp.log(outputs)
    return jax.nn.log_softmax(outputs)
