"""From a PyTorch network and an example to the source of its Flax twin, and to the twin itself."""

import functools
import inspect
import itertools
import linecache
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flax import nnx

from jaxnets import layers
from jaxnets.arrays import InputError
from jaxnets.interop import load_torch
from jaxnets.port.emit import Emitter, formatted
from jaxnets.port.examples import why
from jaxnets.port.job import Job, Refusal
from jaxnets.port.observe import Observer
from jaxnets.port.sources import Sources, is_users
from jaxnets.port.values import Refused, natural

_MOST_RUNS = 10
_numbers = itertools.count()


class PortError(InputError):
    """A network has constructs that cannot be ported.

    Attributes:
        refusals: all of them.
    """

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        lines = "\n".join(f"  {refusal}" for refusal in refusals)
        super().__init__("module", f"a network that can be ported:\n{lines}", None, whole=True)

    def __str__(self) -> str:
        lines = "\n".join(f"  {refusal}" for refusal in self.refusals)
        return f"module: cannot be ported\n{lines}"


@dataclass
class Ported:
    """A network's source in Flax NNX.

    Attributes:
        source: the file.
        class_name: the class, or function, that makes the network.
        arguments: the text of its arguments, without ``rngs``.
        weights: PyTorch's state_dict.
        inputs: the orders of the axes of each input, nested as the inputs are.
        outputs: those of the outputs.
        notes: what the user should know.
        refusals: what cannot be ported; empty if all is.
        takes_rngs: whether the constructor takes ``rngs``.
    """

    source: str
    class_name: str
    arguments: str
    weights: Mapping[str, Any]
    inputs: Any
    outputs: Any
    notes: list[str]
    refusals: list[Refusal]
    takes_rngs: bool
    _args: tuple[Any, ...] = ()
    _kwargs: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def namespace(self) -> dict[str, Any]:
        """The names of the executed file."""
        number = next(_numbers)
        path = f"<ported {self.class_name} {number}>"
        linecache.cache[path] = (len(self.source), None, self.source.splitlines(True), path)
        module = types.ModuleType(f"ported_{number}")
        exec(compile(self.source, path, "exec"), vars(module))
        return vars(module)

    def build(self, rngs: nnx.Rngs | None = None) -> nnx.Module:
        """A network with initial weights.

        Raises:
            PortError: if there are refusals.
        """
        if self.refusals:
            raise PortError(self.refusals)
        names = {"partial": functools.partial, "layers": layers, "nnx": nnx, **self.namespace}
        given = {"rngs": nnx.Rngs(0) if rngs is None else rngs} if self.takes_rngs else {}
        args, kwargs = eval(  # the arguments as text, with the classes of the file
            f"(lambda *args, **kwargs: (args, kwargs))({self.arguments})", names, dict(names)
        )
        return names[self.class_name](*args, **kwargs, **given)

    def model(self) -> nnx.Module:
        """A network with PyTorch's weights.

        Raises:
            PortError: if there are refusals.
            WeightsError: if a weight has no place, or a place has no weight.
        """
        model = self.build()
        load_torch(model, dict(self.weights))
        return model


def port(
    factory: Callable[[], Any] | Any,
    example_inputs: Any,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Ported:
    """Rewrites a PyTorch network as Flax NNX source.

    Args:
        factory: the class, or a function that returns the network; or a network.
        example_inputs: a tensor, or a tuple of the inputs of its ``forward``.
        args: the arguments of the class.
        kwargs: those by name.

    Returns:
        The source and what belongs to it.

    Raises:
        InputError: if an argument is no such thing, or the network cannot be built or run.
    """
    import torch

    _check_factory("factory", factory)
    args, named = _checked_arguments(args, {} if kwargs is None else kwargs)
    inputs = _checked_inputs(example_inputs)
    instance = factory if isinstance(factory, torch.nn.Module) else None
    if instance is not None:
        factory, args, named = _recovered(instance)
    sources = Sources()
    chosen: dict[Any, tuple[int, ...]] = _guessed(inputs)
    for _ in range(_MOST_RUNS):
        observer = Observer(sources, chosen)
        seen = _seen(observer, factory, args, named, inputs, instance)
        new = {k: v for k, v in observer.facts.wishes.items() if k not in chosen}
        if not new:
            break
        chosen |= new
    module, outputs, weights = seen
    job = Job(sources, observer.facts)
    root, args, named = _root(observer, factory, args, named, module)
    emitter = Emitter(job, [root], observer.made)
    try:
        text = emitter.text(_written(args, named))
    except Refused as refused:
        raise InputError("args", "arguments that can be written", refused.why) from refused
    if not job.refusals:
        text = formatted(text)
    arguments = emitter.arguments
    takes = _takes_rngs(job, root)
    return Ported(
        text,
        root.__name__,
        arguments,
        weights,
        _orders(observer, inputs),
        outputs,
        job.notes,
        list(job.refusals.values()),
        takes,
    )


def from_torch(module: Any, example_inputs: Any) -> nnx.Module:
    """A PyTorch network as a running ``nnx.Module`` with its weights, channels last.

    Args:
        module: the network, or a function that makes it.
        example_inputs: a tensor, or a tuple of the inputs of its ``forward``.

    Raises:
        InputError: if an argument is no such thing, or the network cannot be built or run.
        PortError: an InputError that names everything that cannot be ported.
    """
    _check_factory("module", module)
    return port(module, example_inputs).model()


def _check_factory(argument: str, value: Any) -> None:
    """Checks for a network, a class of one, or a function; the call shows what that makes."""
    import torch

    network = issubclass(value, torch.nn.Module) if isinstance(value, type) else callable(value)
    if not network:
        expected = "a torch.nn.Module, a class of one, or a function that makes one"
        raise InputError(argument, expected, value)


def _checked_arguments(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not isinstance(args, tuple):
        raise InputError("args", "a tuple", args)
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise InputError("kwargs", "a mapping from names", kwargs)
    return args, dict(kwargs)


def _checked_inputs(example_inputs: Any) -> tuple[Any, ...]:
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if not _has_tensor(inputs):
        expected = "a tensor of PyTorch, or a tuple of tensors and Python values"
        raise InputError("example_inputs", expected, example_inputs)
    return inputs


def _has_tensor(value: Any) -> bool:
    """Whether a value is a tensor, or holds one."""
    import torch

    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(map(_has_tensor, value))
    return isinstance(value, torch.Tensor)


def _seen(
    observer: Observer,
    factory: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    inputs: tuple[Any, ...],
    instance: Any,
) -> tuple[Any, Any, dict[str, Any]]:
    """Builds and runs the network in both modes; the module, the orders of its outputs, weights."""
    import torch

    with observer.observing(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _built(functools.partial(observer.call, None), factory, args, kwargs)
        if instance is not None:
            module.load_state_dict(instance.state_dict())
        observer.settle([*module.parameters(), *module.buffers()])
        outputs = None
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        observer.calling = True
        with torch.no_grad():
            for training, batch in ((False, inputs), (True, _larger(inputs))):
                network = module.train(training)
                _mark(observer, batch)
                try:
                    result = observer.call(None, network, *batch)
                except Exception as error:
                    if not training:
                        expected = "inputs that the network takes"
                        raise InputError("example_inputs", expected, why(error)) from error
                    observer.facts.training_failed = error  # type: ignore[attr-defined]
                    continue
                if not training:
                    outputs = _orders(observer, result)
    return module, outputs, weights


def _built(call: Any, factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The network that a factory makes."""
    import torch

    try:
        module = call(factory, *args, **kwargs)
    except Exception as error:  # whatever the user's code raises
        raise InputError("factory", "a function that makes a network", why(error)) from error
    if not isinstance(module, torch.nn.Module):
        raise InputError("factory", "a function that returns a torch.nn.Module", module)
    return module


def _larger(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs with one more example each, where they have a batch in common."""
    import torch

    tensors = [x for x in inputs if isinstance(x, torch.Tensor) and x.ndim > 0]
    if not tensors or len({len(x) for x in tensors}) > 1 or len(inputs) > len(tensors):
        return inputs
    return tuple(torch.cat([x, x[:1]]) for x in inputs)


def _mark(observer: Observer, inputs: Any, place: tuple[Any, ...] = ("input",)) -> None:
    import torch

    if isinstance(inputs, torch.Tensor):
        observer.input(inputs, place)
    elif isinstance(inputs, list | tuple):
        for number, one in enumerate(inputs):
            _mark(observer, one, (*place, number))
    elif isinstance(inputs, Mapping):
        for name, one in inputs.items():
            _mark(observer, one, (*place, name))


def _guessed(inputs: Any) -> dict[Any, tuple[int, ...]]:
    """Images are known by their few channels, whoever is the first to take them."""
    import torch

    return {
        ("input", number): (0, 2, 3, 1)
        for number, x in enumerate(inputs)
        if isinstance(x, torch.Tensor)
        and x.ndim == 4
        and x.is_floating_point()
        and x.shape[1] in (1, 3)
        and min(x.shape[2:]) > 4
    }


def _orders(observer: Observer, value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return observer.order(value)
    if isinstance(value, Mapping):
        return {name: _orders(observer, one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        kind = list if isinstance(value, list) else tuple
        return kind(_orders(observer, one) for one in value)
    return None


def _takes_rngs(job: Job, root: Any) -> bool:
    if isinstance(root, type):
        from jaxnets.port.rewrite import Renderer

        node = job.sources.class_node(root)
        return Renderer(job, job.sources.of(node), node).class_needs(root)
    return job.sources.function(root).number in job.needs  # type: ignore[union-attr]


def _root(
    observer: Observer, factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any], module: Any
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """What is written: the user's function, or the class with the arguments that it was given.

    A function is written if it is a plain one; of one that is decorated, or a lambda, the class
    that it calls says all there is.
    """
    plain = is_users(factory) and (
        isinstance(factory, type)
        or (
            isinstance(factory, types.FunctionType)
            and inspect.unwrap(factory) is factory
            and factory.__name__ != "<lambda>"
        )
    )
    if plain:
        return factory, args, kwargs
    _, cls, args, kwargs = observer.made[id(module)]
    _check_own("factory", cls)
    return cls, args, kwargs


def _check_own(argument: str, cls: type) -> None:
    """Checks that a class is the user's, as only those are written."""
    if not is_users(cls):
        expected = "a network of your own class, or your function (by def) that makes one"
        raise InputError(argument, expected, f"{cls.__module__}.{cls.__name__}")


def _written(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
    """The arguments by name; those by place have an empty one."""
    return [*(("", value) for value in args), *kwargs.items()]


def _recovered(module: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The class of a network, and arguments that make one with the same weights.

    Raises:
        InputError: if none are found.
    """
    cls = type(module)
    _check_own("module", cls)
    signature = inspect.signature(cls.__init__)
    given: dict[str, Any] = {}
    for name, parameter in list(signature.parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if hasattr(module, name) and isinstance(
            getattr(module, name), int | float | str | bool | tuple | list
        ):
            given[name] = getattr(module, name)
        elif parameter.default is parameter.empty:
            raise InputError(
                "module",
                f"a function that makes the network, as {name} of {cls.__name__} is not known "
                f"(pass lambda: {cls.__name__}(…))",
                None,
                whole=True,
            )
    import torch

    with torch.random.fork_rng(devices=[]):
        made = _built(lambda make, **named: make(**named), cls, (), given)
    shapes = {name: value.shape for name, value in made.state_dict().items()}
    if shapes != {name: value.shape for name, value in module.state_dict().items()}:
        raise InputError(
            "module",
            f"a function that makes the network (pass lambda: {cls.__name__}(…))",
            f"a {cls.__name__} of other arguments than {given}",
        )
    return cls, (), given


__all__ = ["PortError", "Ported", "Refused", "from_torch", "natural", "port"]
