"""The source that the port writes for small classes."""

# ruff: noqa: B008, B905, RUF007, RUF059 - networks as users of PyTorch write them

import functools
import importlib
import textwrap

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jaxnets.arrays import InputError
from jaxnets.port import PortError, from_torch, port

IMAGE = torch.zeros(2, 3, 8, 8)
ROWS = torch.zeros(2, 4)


def body(factory, *inputs, name=None, **kwargs):
    """The source of a class in the file that is written for it."""
    done = port(factory, inputs, kwargs=kwargs)
    assert not done.refusals, "\n".join(map(str, done.refusals))
    text = done.source.partition(f"class {name or factory.__name__}(")[2]
    return text[text.index("def __init__") :].partition("\n\n\n")[0]


def same(text, expected):
    assert textwrap.dedent("    " + text).strip() == textwrap.dedent(expected).strip()


class Block(nn.Module):
    """A comment, an image, a size."""

    def __init__(self, channels: int, act=nn.ReLU):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, kernel_size=3, padding=1)  # one size
        self.act = act()
        self.fc = nn.Linear(4 * 8 * 8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # all of it
        B, C, H, W = x.shape
        x = self.act(self.conv(x))
        x = torch.cat([x, x], dim=1)[:, :4]
        return self.fc(x.view(B, -1))


def test_names_comments_and_layout_stay():
    same(
        body(Block, IMAGE, channels=3),
        """
        def __init__(self, channels: int, act=layers.ReLU, *, rngs: nnx.Rngs):
            self.conv = layers.Conv2d(channels, 4, kernel_size=3, padding=1, rngs=rngs)  # one size
            self.act = act()
            self.fc = layers.Linear(4 * 8 * 8, 2, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            # all of it
            B, H, W, C = x.shape
            x = self.act(self.conv(x))
            x = jnp.concatenate([x, x], axis=-1)[..., :4]
            return self.fc(layers.flatten(x))
        """,
    )


class Tower(nn.Module):
    def __init__(self, sizes=(4, 4), norm=functools.partial(nn.LayerNorm, eps=1e-3)):
        super().__init__()
        layers = []
        for a, b in zip(sizes, sizes[1:]):
            layers.append(nn.Linear(a, b))
            layers.append(norm(b))
        self.layers = nn.Sequential(*layers)
        self.extra = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 1)})
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.zeros_(m.weight)

    def forward(self, x):
        for i, layer in enumerate(self.extra):
            x = x + i * layer(x)
        return {name: head(self.layers(x)) for name, head in self.heads.items()}


def test_a_variable_named_as_a_library_keeps_its_name():
    text = body(Tower, ROWS)
    assert "layers = []" in text
    assert "layers.append(nn.Linear(a, b, rngs=rngs))" in text
    assert "self.layers = nn.Sequential(*layers)" in text
    assert "self.extra = nnx.List([nn.Linear(4, 4, rngs=rngs) for _ in range(2)])" in text
    assert 'self.heads = nn.ModuleDict({"a": nn.Linear(4, 1, rngs=rngs)})' in text
    assert "init" not in text.replace("__init__", "")


def test_what_is_left_out_is_told():
    notes = "\n".join(port(Tower, ROWS).notes)
    assert "initialization is not ported" in notes


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(4))
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        x = x.clone()
        x[:, 0] = 0
        x[:, 1:] *= 2
        x += self.scale
        x.mul_(self.mask)
        if self.training:
            x = x * 2
        return F.dropout(x, 0.5, self.training)


def test_changes_in_place_become_new_values():
    text = body(InPlace, ROWS)
    assert "self.mask = nnx.Variable(jnp.ones((4,)))" in text
    assert "self.scale = nnx.Param(jnp.ones((4,)))" in text
    assert "self.deterministic = False" in text
    assert "self.dropout = layers.Dropout(0.5, rngs=rngs)" in text
    assert "x = x.at[:, 0].set(0)" in text
    assert "x = x.at[:, 1:].set(x[:, 1:] * 2)" in text
    assert "x += self.scale[...]" in text
    assert "x = x * self.mask[...]" in text
    assert "if not self.deterministic:" in text
    assert "return self.dropout(x)" in text


class Branches(nn.Module):
    def __init__(self, mode="plain", width=4):
        super().__init__()
        if mode == "plain":
            self.layer = nn.Linear(4, width)
        else:
            self.layer = nn.Bilinear(4, 4, width)
        self.mode = mode

    def forward(self, x):
        if torch.jit.is_scripting():
            x = x + 1
        if self.mode == "strange":
            return torch.svd(x)
        assert not torch.isnan(x).any(), "numbers"
        return self.helper(x, scale=2.0)

    def helper(self, x, scale: float = 1.0):
        return F.relu(self.layer(x)) * scale

    def unused(self, x):
        return x


def test_code_that_did_not_run():
    text = body(Branches, ROWS)
    assert "is_scripting" not in text
    assert "isnan" not in text
    assert "unused" not in text
    assert 'raise NotImplementedError("not run by the example input")' in text
    assert "def helper(self, x, scale: float = 1.0):" in text


def conv_block(a, b, **kwargs):
    return nn.Sequential(nn.Conv2d(a, b, 3, **kwargs), nn.ReLU(inplace=True))


class UsesFunctions(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = conv_block(3, 4, padding=1)

    def forward(self, x):
        return self.block(x).mean((2, 3))


def test_functions_that_make_layers_take_rngs():
    done = port(UsesFunctions, IMAGE)
    assert "def conv_block(a, b, *, rngs, **kwargs):" in done.source
    assert "layers.Conv2d(a, b, 3, **kwargs, rngs=rngs)" in done.source
    assert "self.block = conv_block(3, 4, padding=1, rngs=rngs)" in done.source
    assert ".mean((1, 2))" in done.source
    assert done.inputs == ((0, 2, 3, 1),)
    assert done.outputs == (0, 1)


class Unportable(nn.Module):
    def forward(self, x):
        q, r = torch.geqrf(x)
        return q + torch.igamma(x, x)


def test_all_refusals_at_once():
    with pytest.raises(PortError, match="geqrf") as error:
        from_torch(Unportable, ROWS)
    first = error.value.refusals[0]
    assert first.where == "Unportable.forward"
    assert first.place.startswith("test_port_rewrite.py:")
    assert len(error.value.refusals) > 1


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Derived(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = Scaled(4, 4)

    def forward(self, x):
        with torch.no_grad():
            shift = x.mean(1, keepdim=True)
        return self.layer(x.permute(1, 0).permute(1, 0)) - shift


def test_classes_derived_from_layers_and_no_grad():
    done = port(Derived, ROWS)
    assert "class Scaled(layers.Linear):" in done.source
    assert "return 2 * super().__call__(x)" in done.source
    assert "shift = jax.lax.stop_gradient(x.mean(1, keepdims=True))" in done.source
    assert "return self.layer(x) - shift" in done.source


def test_an_instance_of_known_arguments():
    model = from_torch(Branches(), ROWS)
    assert model(ROWS.numpy()).shape == (2, 4)
    assert from_torch(Branches(width=6), ROWS)(ROWS.numpy()).shape == (2, 6)
    assert from_torch(lambda: Branches(width=6), ROWS)(ROWS.numpy()).shape == (2, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: port(int, ROWS), "factory: expected a function that returns a torch.nn.Module, "),
        (lambda: from_torch("net", ROWS), "module: expected a torch.nn.Module or a function that"),
        (lambda: port(lambda: 0, ROWS), "expected a function that returns a torch.nn.Module, got"),
        (lambda: port(Branches, ROWS, args=(1, 2, 3, 4)), "torch.nn.Module, got TypeError"),
        (lambda: port(Branches, 3), "example_inputs: expected a tensor of PyTorch, or a tuple"),
        (lambda: port(Branches, torch.ones(2, 9)), "inputs that the network takes, got RuntimeErr"),
        (lambda: port(Branches, ROWS, args=[3]), r"args: expected a tuple, got \[3\]"),
        (lambda: port(Branches, ROWS, kwargs={1: 2}), "kwargs: expected a mapping from names, got"),
        (lambda: from_torch(Keeps(object()), ROWS), "attribute '<object object.* cannot be w"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()


class Keeps(torch.nn.Module):
    def __init__(self, mark=None):
        super().__init__()
        self.mark = mark

    def forward(self, x):
        return x, self.mark


class Stage(nn.Module):
    def __init__(self, skip):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.skip = skip
        self.noise = nn.Dropout(0.0)

    def forward(self, x):
        y = self.noise(self.fc(x))
        return y if self.skip is None else y + self.skip(x)


class Repeats(nn.Module):
    def __init__(self, parts, act=F.relu):
        super().__init__()
        self.parts = parts
        self.act = act
        self.table = nn.Parameter(torch.ones(4))
        self.register_buffer("order", torch.tensor([3, 1, 0, 2]), persistent=False)
        self.checkpointing = False
        self.unread = object()

    def forward(self, x):
        for part in self.parts:
            if self.checkpointing and not torch.jit.is_scripting():
                x = torch.svd(x)
            x = self.act(part(x))
        return (x * self.table)[:, self.order]


class Wide(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


def test_a_constructor_of_what_the_network_has():
    parts = [Wide(4), Wide(4), Wide(4), nn.Linear(4, 6), Wide(6), nn.Linear(6, 4)]
    done = port(Repeats(nn.ModuleList(parts)), ROWS)
    assert not done.refusals
    assert done.notes == ["constructors written from the network's layers: Repeats, Wide"]
    same(
        done.source.partition("class Wide(nnx.Module):")[2].partition("\n\n\n")[0],
        """
        def __init__(self, in_features, *, rngs):
            self.fc1 = layers.Linear(in_features, 4 * in_features, rngs=rngs)
            self.act = layers.GELU()
            self.fc2 = layers.Linear(4 * in_features, in_features, rngs=rngs)

        def __call__(self, x):
            return self.fc2(self.act(self.fc1(x)))
        """,
    )
    assert "*(Wide(4, rngs=rngs) for _ in range(3))," in done.source
    assert "self.act = jax.nn.relu" in done.source
    assert "self.table = nnx.Param(jnp.ones((4,)))" in done.source
    assert "self.order = nnx.Cache(jnp.array([3, 1, 0, 2]))" in done.source
    assert "checkpointing" not in done.source
    assert "unread" not in done.source


def test_layers_that_some_objects_lack_are_arguments():
    parts = nn.ModuleList([Stage(None), Stage(nn.Linear(4, 4)), Stage(None)])
    text = port(Repeats(parts), ROWS).source
    assert "def __init__(self, skip=None, *, rngs):" in text
    assert "self.skip = skip" in text
    assert "Stage(skip=layers.Linear(4, 4, rngs=rngs), rngs=rngs)" in text
    assert "noise" not in text


def test_a_buffer_of_many_numbers_is_packed():
    net = Repeats(nn.ModuleList([nn.Linear(4, 4)]))
    net.order = torch.arange(100).flip(0) % 4
    model = from_torch(net, ROWS)
    assert (model.order[...] == net.order.numpy()).all()


class Hooked(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def test_a_layer_with_hooks_is_refused():
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda module, given, result: result + 1)
    with pytest.raises(InputError, match="a Linear with hooks or parametrizations"):
        from_torch(Hooked(layer), ROWS)


class Lacks(nn.Module):
    def __init__(self, has):
        super().__init__()
        if has:
            self.extra = 2.0

    def forward(self, x):
        return x * self.extra if hasattr(self, "extra") else x


def test_an_attribute_that_some_objects_lack_is_refused_where_that_decides():
    with pytest.raises(InputError, match="lack an attribute that hasattr looks up"):
        from_torch(nn.Sequential(Lacks(True), Lacks(False)), ROWS)


def test_several_statements_on_a_line(tmp_path, monkeypatch):
    (tmp_path / "semicolons.py").write_text(
        textwrap.dedent("""
        import torch
        from torch import nn

        class Several(nn.Module):
            def __init__(self): super().__init__(); self.a = nn.Linear(4, 4); self.on = True
            def forward(self, x):
                n = len(x); x = self.a(x); x = torch.relu(x);  # first
                if self.on: x = x * 2; x = x + 1 if self.on else x.nonzero().view(4, -1)
                if torch.jit.is_scripting(): x = x * 5
                else: x = x - 1; x = x * 3
                return x;
            def unused(self, x): y = x + 1; return y
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    same(
        body(importlib.import_module("semicolons").Several, ROWS),
        """
        def __init__(self, *, rngs):
            self.a = layers.Linear(4, 4, rngs=rngs)
            self.on = True

        def __call__(self, x):
            x = self.a(x)
            x = jax.nn.relu(x)  # first
            if self.on:
                x = x * 2
                if not self.on:
                    raise NotImplementedError("not run by the example input")
                x = x + 1
            x = x - 1
            x = x * 3
            return x
        """,
    )


class GrowingRates(nn.Module):
    def __init__(self, rate=0.2, depth=3):
        super().__init__()
        rates = [x.item() for x in torch.linspace(0, rate, depth)]
        self.drops = nn.ModuleList(nn.Dropout(p) for p in rates)

    def forward(self, x):
        return self.drops[-1](x)


def test_rates_are_numbers_also_while_jax_traces_the_constructor():
    assert "for x in np.linspace(0, rate, depth, dtype=np.float32)]" in body(GrowingRates, ROWS)


def test_a_class_without_source_is_refused():
    names = {"nn": torch.nn, "__name__": "__main__"}
    exec("class Doubled(nn.Module):\n    def forward(self, x):\n        return 2 * x", names)
    for module in (names["Doubled"], names["Doubled"]()):
        with pytest.raises(InputError, match="a network whose classes are in a file or a notebook"):
            from_torch(module, ROWS)
