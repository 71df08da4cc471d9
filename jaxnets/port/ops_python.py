"""Rules for Python's builtin functions with tensors or lists of tensors."""

from jaxnets.port.rules import Given, rule, several, tensor, written
from jaxnets.port.values import Binding, Context, Items, Plain, Tensor, Value, bound


def _kept(name: str) -> None:
    @rule(f"builtins.{name}")
    def apply(context: Context, *args: Value, **kwargs: Value) -> Value:
        texts = [written(arg) for arg in args]
        texts += [f"{key}={written(value)}" for key, value in kwargs.items()]
        text = f"{name}({', '.join(texts)})"
        if name in ("list", "tuple") and len(args) == 1 and isinstance(args[0], Items):
            return Items(args[0].items, text, list if name == "list" else tuple)
        return Plain(text, context.result)


for _name in (
    *("bool", "callable", "dict", "enumerate", "float", "hasattr", "id", "int", "isinstance"),
    *("iter", "list", "next", "print", "range", "repr", "reversed", "str", "tuple", "type", "zip"),
):
    _kept(_name)


@rule("builtins.sum")
def sum_(context: Context, iterable: Value, start: Given = None) -> Value:
    """Ports the sum of a list of tensors."""
    from jaxnets.port.ops_elementwise import elementwise

    if isinstance(iterable, Plain):
        return Plain(f"sum({written(iterable)})", context.result)
    items = [tensor(item) for item in several((iterable,))]
    first = items[0]
    same = all(isinstance(x, Tensor) and x.order == first.order for x in items)
    if isinstance(iterable, Items) and iterable.text is None and not same:
        items = [context.convert(x, first.order) for x in items]
    text = " + ".join(bound(x, Binding.SUM + (i > 0)) for i, x in enumerate(items))
    if isinstance(iterable, Items) and iterable.text is not None:
        return elementwise(context, f"sum({iterable.text})", first)
    return elementwise(context, text, first, Binding.SUM)
