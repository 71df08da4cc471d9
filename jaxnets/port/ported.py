"""Ports a PyTorch network with example inputs to Flax NNX source code or a Flax NNX model."""

import ast
import contextlib
import copy
import functools
import inspect
import itertools
import linecache
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from flax import nnx

from jaxnets import layers
from jaxnets.arrays import InputError, entries
from jaxnets.interop import load_torch
from jaxnets.networks import why
from jaxnets.port.compilers import eager, without_compiled_functions
from jaxnets.port.emit import Emitter, formatted
from jaxnets.port.instances import Instances, same_making
from jaxnets.port.job import Job, Refusal
from jaxnets.port.observe import Call, Observer
from jaxnets.port.seen import orders as all_orders
from jaxnets.port.sources import Sources, is_users, number_of, plain_function
from jaxnets.port.values import Refused, Tensor, channels_last, natural

_MOST_RUNS = 10
_numbers = itertools.count()


class PortError(InputError):
    """Raised if a network has constructs that cannot be ported.

    Attributes:
        refusals: all constructs that cannot be ported.
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
    """A PyTorch network rewritten in Flax NNX.

    Attributes:
        source: the source code of a Python file that defines the network.
        class_name: the name of the class or function in the file that creates the network.
        arguments: the source code of the arguments of ``class_name``, without ``rngs``.
        weights: PyTorch's state_dict.
        inputs: the order of the axes of each input, nested like the inputs. Entry i of an order is
            PyTorch's axis that is axis i of the ported network.
        outputs: the order of the axes of each output, nested like the outputs.
        notes: remarks for the user.
        refusals: the constructs that cannot be ported; empty for a complete port.
        takes_rngs: whether ``class_name`` takes ``rngs``.
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
        """The global names that executing ``source`` defines."""
        number = next(_numbers)
        path = f"<ported {self.class_name} {number}>"
        # With an entry in linecache, tracebacks and inspect.getsource work for the file.
        linecache.cache[path] = (len(self.source), None, self.source.splitlines(True), path)
        module = types.ModuleType(f"ported_{number}")
        sys.modules[module.__name__] = module  # where dataclasses look up annotations
        exec(compile(self.source, path, "exec"), vars(module))
        return vars(module)

    def build(self, rngs: nnx.Rngs | None = None) -> nnx.Module:
        """Creates the network with initial weights.

        Args:
            rngs: the random number generators of the weights; None for the seed 0.

        Raises:
            PortError: if there are refusals.
        """
        if self.refusals:
            raise PortError(self.refusals)
        names = {"partial": functools.partial, "layers": layers, "nnx": nnx, **self.namespace}
        given = {"rngs": nnx.Rngs(0) if rngs is None else rngs} if self.takes_rngs else {}
        args, kwargs = eval(  # the arguments are source code that may name classes of the file
            f"(lambda *args, **kwargs: (args, kwargs))({self.arguments})", names, dict(names)
        )
        return names[self.class_name](*args, **kwargs, **given)

    def model(self) -> nnx.Module:
        """Creates the network with PyTorch's weights.

        Raises:
            PortError: if there are refusals.
            WeightsError: if the weights of PyTorch and of the ported network do not match.
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
    orders: Sequence[tuple[int, ...]] = (),
) -> Ported:
    """Rewrites a PyTorch network as Flax NNX source.

    Args:
        factory: the class of the network, a function that returns the network, or the network.
        example_inputs: a tensor, or a tuple of the inputs of the network's ``forward``. The network
            runs once on them in evaluation mode and once in training mode.
        args: positional arguments of ``factory``.
        kwargs: keyword arguments of ``factory``.
        orders: for each input the order of its axes in the port: for each axis, the number of
            PyTorch's axis, such as (0, 2, 3, 1) for channels-last images. The orders of inputs
            without an entry are chosen to fit the network.

    Returns:
        The source code with PyTorch's weights, notes and refusals.

    Raises:
        InputError: if an argument is invalid, or the network cannot be created or run.
    """
    if not isinstance(args, tuple):
        raise InputError("args", "a tuple", args)
    named = {} if kwargs is None else kwargs
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        raise InputError("kwargs", "a mapping from names", kwargs)
    for order in [()] if entries(orders) is None else orders:
        axes = entries(order) or ("none",)
        if set(axes) != set(range(len(axes))):
            raise InputError("orders", "a permutation of the axes for each input", orders)
    return _ported("factory", factory, example_inputs, args, dict(named), orders)


def from_torch(module: Any, example_inputs: Any) -> nnx.Module:
    """Converts a PyTorch network to a channels-last ``nnx.Module`` with the same weights.

    Args:
        module: the network, or a function that returns it.
        example_inputs: a tensor, or a tuple of the inputs of the network's ``forward``.

    Returns:
        The ported network.

    Raises:
        PortError: an ``InputError`` that lists everything that cannot be ported.
        InputError: if the network cannot be created or run.
    """
    return _ported("module", module, example_inputs, (), {}).model()


def _ported(
    argument: str,
    factory: Any,
    example_inputs: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    orders: Sequence[tuple[int, ...]] = (),
) -> Ported:
    import torch

    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if not any(isinstance(leaf, torch.Tensor) for leaf in jax.tree.leaves(inputs)):
        expected = "a tensor of PyTorch, or a tuple of tensors and Python values"
        raise InputError("example_inputs", expected, example_inputs)
    instance = factory if isinstance(factory, torch.nn.Module) else None
    if instance is not None:
        factory, args, kwargs = _recovered(instance) or (None, (), {})
    elif not callable(factory):
        raise InputError(argument, "a torch.nn.Module or a function that returns one", factory)
    network = _Network(argument, factory, args, kwargs, inputs, instance, orders)
    try:
        with without_compiled_functions():
            written = _best(network, Sources())
        return _ported_of(
            written, written.text if written.job.refusals else formatted(written.text)
        )
    except Refused as refused:  # the source is from python -c, exec or an interactive shell
        expected = "a network whose classes are in a file or a notebook"
        raise InputError(argument, expected, refused.why) from refused


@dataclass
class _Written:
    """The source code of a port, with the observations and notes of porting."""

    text: str
    root: Any
    arguments: str
    inputs: Any
    seen: "_Seen"
    job: Job


def _best(network: "_Network", sources: Sources) -> _Written:
    """Returns the first of three attempts to write the network that succeeds.

    The attempts are: the user's factory, the class of the network, and the class with generated
    constructors. An attempt is repeated with more fixed orders of axes while functions cannot be
    written once for all their calls. If all attempts fail, the result is the first one, or a later
    one whose refusals are a subset.
    """
    pins = _Pins()
    observed = _observed(network, sources, pins)
    tried: list[_Written] = []
    for way in (_from_source, _from_class, _from_instances):
        while (written := way(network, sources, *observed)) is not None:
            if not written.job.refusals:
                _check_constructor(written)
            if not written.job.refusals:
                return written
            tried.append(written)
            if not pins.grow(written.job):
                break
            observed = _observed(network, sources, pins)
    best = tried[0]
    for one in tried:
        best = one if one.job.refusals.keys() < best.job.refusals.keys() else best
    return best


@dataclass
class _Pins:
    """Orders of axes that are fixed so that functions can be written once for all their calls.

    Attributes:
        entries: numbers of the functions that take each argument in the same order in all calls.
        orders: these orders where the first call's are not used, by function, argument and rank.
        exits: the fixed orders of return values, by function and rank.
        moved: numbers of the functions in which permutations transpose the array instead of only
            changing its recorded order.
        assigned: the fixed orders of values assigned to variables, by statement and rank.
    """

    entries: set[int] = field(default_factory=set)
    orders: dict[Any, tuple[int, ...]] = field(default_factory=dict)
    exits: dict[Any, tuple[int, ...]] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)
    assigned: dict[Any, tuple[int, ...]] = field(default_factory=dict)

    @property
    def chosen(self) -> dict[Any, tuple[int, ...]]:
        """All fixed orders by place."""
        return self.orders | self.exits | self.assigned

    def grow(self, job: Job) -> bool:
        """Fixes more orders for the functions that could not be written.

        Returns:
            Whether anything new was fixed.
        """
        if new := job.conflicts - self.entries:
            self.entries |= new
            self.orders |= _entry_orders(job, new)
        elif not (returned := _exits(job)).items() <= self.exits.items():
            self.exits |= returned
        elif not (variables := _assigned(job)).items() <= self.assigned.items():
            self.assigned |= variables
        elif new := job.conflicts - self.moved:
            self.moved |= new
        else:
            return False
        return True


def _entry_orders(job: Job, numbers: Collection[int]) -> dict[Any, tuple[int, ...]]:
    """Returns channels last for the arguments that some calls of a function pass in this order."""
    found = {}
    for call in itertools.chain.from_iterable(each.values() for each in job.facts.calls.values()):
        function, number = _called(job, call)
        if function is None or number not in numbers:
            continue
        target = getattr(call.function, "forward", call.function)
        names = function.__code__.co_varnames[isinstance(target, types.MethodType) :]
        given = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
        for name, value in given.items():
            if isinstance(value, Tensor) and value.order == channels_last(value.ndim):
                found["entry", number, name, value.ndim] = value.order
    return found


def _called(job: Job, call: Call) -> tuple[types.FunctionType | None, int]:
    """Returns the user's function that a call runs and its number, or None and -1."""
    target = getattr(call.function, "forward", call.function)
    function = None if isinstance(target, type) else plain_function(target)
    if function is None or not is_users(function):
        return None, -1
    return function, number_of(job.sources.function(function))


def _exits(job: Job) -> dict[Any, tuple[int, ...]]:
    """Returns fixed orders for the return values of functions in callers that cannot be written.

    A caller with fixed argument orders may still call different functions at one place that
    return different orders, such as one module that swaps two axes and one that does nothing.
    """
    found = {}
    for number in job.conflicts:
        for node in ast.walk(job.sources.nodes[number]):
            calls = job.facts.calls_at(node)
            if len({call.value.order for call in calls if isinstance(call.value, Tensor)}) < 2:
                continue
            for call in calls:
                function, called = _called(job, call)
                value = call.value
                if function is None or not isinstance(value, Tensor):
                    continue
                if value.order not in all_orders(call):
                    found["exit", called, value.ndim] = natural(value.ndim)
    return found


def _assigned(job: Job) -> dict[Any, tuple[int, ...]]:
    """Returns fixed orders for variables that a function reads at one place in several orders.

    In a loop, a variable may start in PyTorch's order and be channels last after the first pass.
    """
    found = {}
    for number in job.conflicts:
        nodes = list(ast.walk(job.sources.nodes[number]))
        wanted: dict[Any, dict[int, tuple[int, ...]]] = {}
        for node in nodes:
            if isinstance(node, ast.Name) and (orders := _other_orders(job, node)):
                wanted.setdefault(node.id, {}).update(orders)
        for node in nodes:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                for ndim, order in wanted.get(node.targets[0].id, {}).items():
                    found["assigned", number_of(node), ndim] = order
    return found


def _other_orders(job: Job, node: ast.Name) -> dict[int, tuple[int, ...]]:
    """Returns by rank the order that is read at a node beside PyTorch's, if it is the only one."""
    seen: dict[int, set[tuple[int, ...]]] = {}
    for value in job.facts.values_at(node):
        if isinstance(value, Tensor):
            seen.setdefault(value.ndim, set()).add(value.order)
    return {
        ndim: next(iter(orders - {natural(ndim)}))
        for ndim, orders in seen.items()
        if len(orders) == 2 and natural(ndim) in orders
    }


def _check_constructor(written: _Written) -> None:
    """Adds a refusal if the rewritten constructor does not run."""
    try:
        nnx.eval_shape(_ported_of(written, written.text).build)
    except Exception as error:  # the user's code may raise anything
        root, sources = written.root, written.job.sources
        node = sources.class_node(root) if isinstance(root, type) else sources.function(root)
        place, name = sources.of(node).place(node), root.__name__
        refusal = Refusal(place, name, "its constructor", f"does not run: {why(error)}")
        written.job.refusals[place, name] = refusal


def _ported_of(written: _Written, source: str) -> Ported:
    job, seen = written.job, written.seen
    return Ported(
        source,
        written.root.__name__,
        written.arguments,
        seen.weights,
        written.inputs,
        seen.outputs,
        job.notes,
        list(job.refusals.values()),
        _takes_rngs(job, written.root),
    )


def _from_source(
    network: "_Network", sources: Sources, observer: Observer, seen: "_Seen"
) -> _Written | None:
    """Writes the user's function or class; returns None if ``factory`` has no usable name."""
    factory = network.factory
    plain = isinstance(factory, type) or (
        isinstance(factory, types.FunctionType)
        and is_users(factory)
        and inspect.unwrap(factory) is factory
        and factory.__name__ != "<lambda>"
    )
    if not plain:
        return None
    return _written(network, sources, observer, seen, factory, network.args, network.kwargs)


def _from_class(
    network: "_Network", sources: Sources, observer: Observer, seen: "_Seen"
) -> _Written | None:
    """Writes the class of the network with the arguments that the user's function passed to it."""
    _, cls, args, kwargs = observer.made.get(id(seen.module), (None, None, (), {}))
    if cls is None or cls is network.factory or not is_users(cls):
        return None
    return _written(network, sources, observer, seen, cls, args, kwargs)


def _from_instances(
    network: "_Network", sources: Sources, observer: Observer, seen: "_Seen"
) -> _Written | None:
    """Writes the class of the network with constructors generated from its objects."""
    facts = observer.facts
    stored = {name for number in facts.called for name in _stored(sources.nodes[number])}
    instances = Instances(seen.module, facts.outside, stored)
    return _written(network, sources, observer, seen, type(seen.module), (), {}, instances)


def _stored(function: Any) -> Iterator[str]:
    """Yields the names of the attributes that a function assigns to."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _written(
    network: "_Network",
    sources: Sources,
    observer: Observer,
    seen: "_Seen",
    root: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    instances: Instances | None = None,
) -> _Written:
    """Writes a network after it was observed."""
    job = Job(sources, observer.facts, instances=instances)
    job.notes += seen.notes
    emitter = Emitter(job, [root], observer.made)
    try:
        text = emitter.text([*(("", value) for value in args), *kwargs.items()])
    except Refused as refused:
        text, found = "", Refusal("", root.__name__, "its arguments", refused.why)
        job.refusals[("", "arguments")] = found
    if instances is not None:
        names = ", ".join(instances.written)
        job.note(f"constructors written from the network's layers: {names}")
    inputs = _orders(observer, network.inputs)
    return _Written(text, root, emitter.arguments, inputs, seen, job)


@dataclass
class _Network:
    """A network to port: its factory with arguments, its inputs, and the network if given."""

    argument: str
    factory: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Any, ...]
    instance: Any
    orders: Sequence[tuple[int, ...]]


@dataclass
class _Seen:
    """A network that was run: its weights before the run and the orders of its outputs."""

    module: Any
    outputs: Any
    weights: dict[str, Any]
    notes: list[str]


def _observed(network: _Network, sources: Sources, pins: _Pins) -> tuple[Observer, _Seen]:
    """Runs a network repeatedly until the orders of inputs and new tensors are settled."""
    chosen: dict[Any, tuple[int, ...]] = _image_orders(network.inputs) | pins.chosen
    chosen |= {("input", number): tuple(order) for number, order in enumerate(network.orders)}
    for _ in range(_MOST_RUNS):
        observer = Observer(sources, chosen, pins.entries, pins.moved)
        seen = _seen(observer, network)
        new = {k: v for k, v in observer.facts.wishes.items() if k not in chosen}
        if not new:
            break
        chosen |= new
    return observer, seen


def _seen(observer: Observer, network: _Network) -> _Seen:
    """Creates the network and runs it in evaluation and training mode."""
    import torch

    with observer.observing(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _made(observer, network)
        if not is_users(type(module)):
            module.__class__ = observer.sources.define("Network", type(module).__name__)
        observer.settle([*module.parameters(), *module.buffers()])
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        observer.calling = True
        with torch.no_grad(), _restored(module), eager():
            outputs = _run(observer, module.eval(), network.inputs)
            notes = []
            try:
                _run(observer, module.train(), _larger(network.inputs))
            except InputError as error:
                notes.append(f"training mode was not run: {error.got}")
    return _Seen(module, outputs, weights, notes)


def _made(observer: Observer, network: _Network) -> Any:
    """Creates the network to observe: a copy of the given network, or the factory's result."""
    import torch

    if network.factory is None:
        return copy.deepcopy(network.instance)
    module = _checked_call(
        network.argument,
        "a function that returns a torch.nn.Module",
        observer.call,
        (None, network.factory, *network.args),
        network.kwargs,
    )
    if not isinstance(module, torch.nn.Module):
        got = type(module).__name__
        raise InputError(network.argument, "a function that returns a torch.nn.Module", got)
    if network.instance is not None:
        module.load_state_dict(network.instance.state_dict())
    return module


@contextlib.contextmanager
def _restored(module: Any) -> Iterator[None]:
    """Restores all attributes and buffers of a network after the context."""
    # Modules may cache results in attributes, or in dicts and lists that are attributes.
    before = [(one, dict(vars(one)), dict(one._buffers)) for one in module.modules()]
    caches = [v for _, held, _ in before for v in held.values() if type(v) in (dict, list)]
    kept = [copy.copy(one) for one in caches]
    clones = [{n: b.clone() for n, b in held.items() if b is not None} for *_, held in before]
    yield
    for (one, attributes, buffers), values in zip(before, clones, strict=True):
        vars(one).clear()
        vars(one).update(attributes)
        one._buffers.clear()
        one._buffers.update(buffers)
        for name, value in values.items():
            buffers[name].copy_(value)
    for cache, old in zip(caches, kept, strict=True):
        cache.clear()
        cache.update(old) if isinstance(cache, dict) else cache.extend(old)


def _run(observer: Observer, module: Any, inputs: tuple[Any, ...]) -> Any:
    """Calls a network and returns the orders of its outputs."""
    _mark_inputs(observer, inputs)
    expected = "inputs that the network takes"
    result = _checked_call("example_inputs", expected, observer.call, (None, module, *inputs), {})
    return _orders(observer, result)


def _checked_call(argument: str, expected: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Calls a function of the user.

    Raises:
        InputError: if the function raises anything.
    """
    try:
        return function(*args, **kwargs)
    except Refused:
        raise
    except Exception as error:
        raise InputError(argument, expected, why(error)) from error


def _larger(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the inputs with one more example each if all have the same batch size.

    Batch norm raises in training mode for a batch of one example.
    """
    import torch

    tensors = [x for x in inputs if isinstance(x, torch.Tensor) and x.ndim > 0]
    if not tensors or len({len(x) for x in tensors}) > 1 or len(inputs) > len(tensors):
        return inputs
    return tuple(torch.cat([x, x[:1]]) for x in inputs)


def _mark_inputs(observer: Observer, inputs: Any, place: tuple[Any, ...] = ("input",)) -> None:
    import torch

    if isinstance(inputs, torch.Tensor):
        observer.input(inputs, place)
    elif isinstance(inputs, list | tuple):
        for number, one in enumerate(inputs):
            _mark_inputs(observer, one, (*place, number))
    elif isinstance(inputs, Mapping):
        for name, one in inputs.items():
            _mark_inputs(observer, one, (*place, name))


def _image_orders(inputs: Any) -> dict[Any, tuple[int, ...]]:
    """Returns the order channels last for each input that looks like an image.

    An image has 4 axes, 1 or 3 channels, and more than 4 pixels along each spatial axis.
    """
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
    return number_of(job.sources.function(root)) in job.needs


def _recovered(module: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    """Returns the class of a network and arguments that create an equal one, or None.

    The arguments are guessed: they are the attributes with the names of the parameters.
    """
    import torch

    cls = type(module)
    given: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if isinstance(getattr(module, name, None), int | float | str | bool | tuple | list):
            given[name] = getattr(module, name)
        elif parameter.default is parameter.empty:
            return None
    if not is_users(cls):
        return None
    with torch.random.fork_rng(devices=[]):
        try:
            made = cls(**given)
        except Exception:
            return None
    return (cls, (), given) if same_making(made, module) else None
