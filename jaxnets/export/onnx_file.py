"""Writes a network as ONNX, for onnxruntime and many other programs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from jax.extend import core

from jaxnets.arrays import InputError, check_path
from jaxnets.data.spec import named
from jaxnets.disk import replacing
from jaxnets.export import onnx_elementwise, onnx_products, onnx_shapes
from jaxnets.export.onnx_graph import IR_VERSION, OPSET, Builder, Held
from jaxnets.export.program import Program, description_of, outputs_named
from jaxnets.kernels.graph import Graph, Node
from jaxnets.optional import require

#: The key of ``Program.description()`` in the metadata of a file.
ABOUT = "about"

#: The translation of each operation, by JAX's name.
RULES = {**onnx_elementwise.RULES, **onnx_shapes.RULES, **onnx_products.RULES}
#: Operations that are never computed in advance, as they depend on the size of the batch.
_OF_BATCH = ("dim_as_value",)
_CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def save_onnx(program: Program, path: Path | str) -> None:
    """Writes a network as ONNX, in operators of version 18.

    The traced function is translated operation by operation. The size of the batch is a free
    dimension. Operations that depend only on the weights are computed in advance. The entry
    ``about`` of the file's metadata contains ``Program.description()`` as JSON.

    Args:
        program: the network with its preprocessing.
        path: the file, which is replaced if it exists.

    Raises:
        InputError: if the network cannot be traced, or has an operation without a translation; the
            message names the operation.
        ImportError: if onnx is not installed.

    Examples:
        >>> save_onnx(Program(model, inputs), "network.onnx")  # doctest: +SKIP
    """
    path = check_path("path", path, "a file to write")
    onnx = require("onnx", extra="onnx", feature="an ONNX file")
    model = _model(program, description_of(program))
    onnx.checker.check_model(model)
    with replacing(path) as partial:
        onnx.save(model, str(partial))


def _model(program: Program, about: str) -> Any:
    traced, outputs = program.traced
    graph, g = Graph(traced), Builder()
    helper = g.onnx.helper
    names = list(named("inputs", program.specs))
    given = [g.declared(*each) for each in zip(names, graph.inputs, strict=True)]
    if program.batch is None:
        g.read_batch(names[0])
    translate(g, graph, names)
    made = g.outputs(graph.outputs, list(outputs_named(outputs)))
    used = _read(g.nodes)
    constants = [one for one in g.initializers if one.name in used]
    whole = helper.make_graph(g.nodes, type(program.model).__name__, given, made, constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version, model.producer_name = IR_VERSION, "jaxnets"
    helper.set_model_props(model, {ABOUT: about})
    return model


def _read(nodes: Iterable[Any]) -> set[str]:
    """Returns the names of all arrays that nodes and the graphs within them read."""
    names = {name for node in nodes for name in node.input}
    for node in nodes:
        for attribute in node.attribute:
            names |= _read(attribute.g.node)
    return names


def translate(g: Builder, graph: Graph, given: Sequence[Held]) -> None:
    """Adds the operations of a traced function to a graph.

    Args:
        g: the builder of the ONNX graph.
        graph: the graph of the traced function.
        given: the inputs of the function: names of arrays, or values.
    """
    g.held.update(zip(graph.inputs, given, strict=True))
    g.held.update((value, _plain(array)) for value, array in graph.constants.items())
    for node in graph.nodes:
        g.held.update(zip(node.outputs, _made(g, node), strict=True))


def _plain(array: Any) -> Any:
    """Converts a constant to a NumPy array, except for a random key."""
    is_key = jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
    return array if is_key else np.asarray(array)


def _made(g: Builder, node: Node) -> Sequence[Held]:
    """Translates an operation; if all its inputs are known, computes its outputs instead.

    Returns:
        The name or the values of each output.
    """
    inner = _called(node)
    if inner is not None:
        translate(g, inner, [g.value(each) for each in node.inputs])
        return [g.value(each) for each in inner.outputs]
    held = [g.value(each) for each in node.inputs]
    if _is_known(node, held):
        return [_plain(each) for each in node.run(*held)]
    if node.kind == "scan":
        return _scan(g, node)
    if node.kind == "cond":
        return _choice(g, node, held[0])
    rule = RULES.get(node.kind)
    if rule is None:
        expected = "operations that can be translated to ONNX"
        raise InputError("model", expected, f"{node.kind} (--to stablehlo supports it)")
    made = rule(g, node, *map(g.name, node.inputs))
    return [made] if isinstance(made, str) else made


def _is_known(node: Node, held: Sequence[Held]) -> bool:
    known = not any(isinstance(each, str) for each in held)
    sizes = [size for value in node.outputs for size in value.shape]
    static = not any(map(export.is_symbolic_dim, sizes))
    return known and static and node.kind not in _OF_BATCH


def _called(node: Node) -> Graph | None:
    """Returns the function that a call operation, such as ``jit``, calls; None for others."""
    if node.kind in ("scan", "cond", "while"):
        return None
    for name in _CALLED:
        found = node.parameters.get(name)
        if isinstance(found, core.ClosedJaxpr):
            return Graph(found)
        if isinstance(found, core.Jaxpr):
            return Graph(core.ClosedJaxpr(found, ()))
    return None


def _scan(g: Builder, node: Node) -> Sequence[Held]:
    """Translates ``lax.scan`` to the operator Scan."""
    given = node.parameters
    consts, carried = given["num_consts"], given["num_carry"]
    if not given["length"] and carried == len(node.outputs):  # onnxruntime rejects empty loops
        return [g.value(each) for each in node.inputs[consts : consts + carried]]
    inner, body = Graph(given["jaxpr"]), Builder(g)
    states = [body.fresh("state") for _ in range(carried)]
    elements = [body.fresh("element") for _ in node.inputs[consts + carried :]]
    translate(body, inner, [*(g.value(each) for each in node.inputs[:consts]), *states, *elements])
    returned = body.outputs(inner.outputs)
    declared = [
        body.declared(*each)
        for each in zip([*states, *elements], inner.inputs[consts:], strict=True)
    ]
    read = [g.name(each) for each in node.inputs[consts:]]
    if not elements:  # Scan needs at least one array to iterate over
        declared.append(_counted(body))
        read.append(g.constant(np.zeros(given["length"], np.int32)))
    graph = g.onnx.helper.make_graph(body.nodes, body.fresh("body"), declared, returned)
    count, collected = max(len(elements), 1), len(node.outputs) - carried
    options: dict[str, Any] = {"body": graph, "num_scan_inputs": count}
    if given["reverse"]:
        options["scan_input_directions"] = [1] * count
        if collected:  # ONNX does not allow an empty list
            options["scan_output_directions"] = [1] * collected
    return g.add_several("Scan", len(node.outputs), *read, **options)


def _counted(body: Builder) -> Any:
    kind = body.type_of(np.int32)
    return body.onnx.helper.make_tensor_value_info(body.fresh("element"), kind, [])


def _choice(g: Builder, node: Node, which: Held) -> Sequence[Held]:
    """Translates ``lax.cond`` and ``lax.switch`` with two branches to the operator If."""
    branches = [Graph(each) for each in node.parameters["branches"]]
    arrays = [g.value(each) for each in node.inputs[1:]]
    if not isinstance(which, str):
        chosen = branches[int(np.clip(which, 0, len(branches) - 1))]
        translate(g, chosen, arrays)
        return [g.value(each) for each in chosen.outputs]
    if len(branches) != 2:
        raise InputError("model", "a conditional with two branches", f"{len(branches)} branches")
    parts = [_branch(g, branch, arrays) for branch in branches]
    flag = g.cast(which, bool)
    return g.add_several("If", len(node.outputs), flag, then_branch=parts[1], else_branch=parts[0])


def _branch(g: Builder, graph: Graph, arrays: Sequence[Held]) -> Any:
    part = Builder(g)
    translate(part, graph, arrays)
    made = part.outputs(graph.outputs)
    return g.onnx.helper.make_graph(part.nodes, part.fresh("branch"), [], made)
