"""The Transformers among the documented networks as source files of PyTorch, for inference."""

from jaxnets.models import GPT, TransformerClassifier, ViT

#: The layers of a network, and the steps of its forward function.
Written = tuple[list[str], list[str]]


def of_gpt(model: GPT) -> Written:
    """The source of a ``GPT``."""
    sizes = model.options
    width, heads, bias = sizes["n_embd"], sizes["n_head"], sizes["bias"]
    layers = [
        "block = lambda: nn.ModuleDict({",
        f"    'ln_1': nn.LayerNorm({width}, bias={bias}),",
        "    'attn': nn.ModuleDict({",
        f"        'c_attn': nn.Linear({width}, {3 * width}, {bias}),",
        f"        'c_proj': nn.Linear({width}, {width}, {bias}),",
        "    }),",
        f"    'ln_2': nn.LayerNorm({width}, bias={bias}),",
        "    'mlp': nn.ModuleDict({",
        f"        'c_fc': nn.Linear({width}, {4 * width}, {bias}),",
        f"        'c_proj': nn.Linear({4 * width}, {width}, {bias}),",
        "    }),",
        "})",
        "self.transformer = nn.ModuleDict({",
        f"    'wte': nn.Embedding({sizes['vocab_size']}, {width}),",
        f"    'wpe': nn.Embedding({sizes['block_size']}, {width}),",
        f"    'h': nn.ModuleList([block() for _ in range({sizes['n_layer']})]),",
        f"    'ln_f': nn.LayerNorm({width}, bias={bias}),",
        "})",
        f"self.lm_head = nn.Linear({width}, {sizes['vocab_size']}, bias=False)",
    ]
    if sizes["tie_weights"]:
        layers.append("self.lm_head.weight = self.transformer['wte'].weight")
    attention = "nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)"
    steps = [
        "parts = self.transformer",
        "x = parts['wte'](x) + parts['wpe'](torch.arange(x.shape[1]))",
        f"cut = (*x.shape[:2], {heads}, {width // heads})",
        "for block in parts['h']:",
        f"    y = block['attn']['c_attn'](block['ln_1'](x)).split({width}, dim=2)",
        "    q, k, v = (each.view(cut).transpose(1, 2) for each in y)",
        f"    y = {attention}",
        "    x = x + block['attn']['c_proj'](y.transpose(1, 2).reshape(x.shape))",
        "    y = block['mlp']['c_fc'](block['ln_2'](x))",
        f"    y = nn.functional.gelu(y, approximate='{sizes['approximate']}')",
        "    x = x + block['mlp']['c_proj'](y)",
        "return self.lm_head(parts['ln_f'](x))",
    ]
    return layers, steps


def of_classifier(model: TransformerClassifier) -> Written:
    """The source of a ``TransformerClassifier``."""
    sizes = model.options
    width, options = sizes["d_model"], f"batch_first=True, norm_first={sizes['norm_first']}"
    layer = f"{width}, {sizes['nhead']}, {sizes['dim_feedforward']}, {sizes['dropout']}, {options}"
    layers = [
        f"self.embedding = nn.Embedding({sizes['vocab_size']}, {width}, padding_idx=0)",
        f"layer = nn.TransformerEncoderLayer({layer})",
        f"self.encoder = nn.TransformerEncoder(layer, {sizes['num_layers']},"
        " enable_nested_tensor=False)",
        f"self.fc = nn.Linear({width}, {sizes['output_dim']})",
    ]
    steps = [
        "lengths = (x != 0).sum(1, keepdim=True).clamp(min=1)",
        "places = torch.arange(x.shape[1])[:, None]",
        "padding = places.T >= lengths",
        f"value = torch.arange({width})",
        f"angles = places.double() / 10000 ** (value // 2 * 2 / {width}).double()",
        "positions = torch.where(value % 2 == 1, angles.cos(), angles.sin())",
        f"x = self.embedding(x) * {width}**0.5",
        "x = self.encoder(x + positions.to(x.dtype), src_key_padding_mask=padding)",
        "x = self.fc(x.masked_fill(padding[..., None], 0.0).sum(1) / lengths)",
        "return torch.sigmoid(x)" if sizes["output"] == "sigmoid" else "return x",
    ]
    return layers, steps


def of_vit(model: ViT) -> Written:
    """The source of a ``ViT``."""
    sizes = model.options
    width, patch, mlp = sizes["hidden_dim"], sizes["patch_size"], sizes["mlp_dim"]
    tokens = (sizes["image_size"] // patch) ** 2 + 1
    layers = [
        f"self.conv_proj = nn.Conv2d({sizes['in_channels']}, {width}, {patch}, {patch})",
        f"self.class_token = nn.Parameter(torch.zeros(1, 1, {width}))",
        "block = lambda: nn.ModuleDict({",
        f"    'ln_1': nn.LayerNorm({width}, eps=1e-6),",
        f"    'self_attention': nn.MultiheadAttention({width}, {sizes['num_heads']},"
        " batch_first=True),",
        f"    'ln_2': nn.LayerNorm({width}, eps=1e-6),",
        f"    'mlp': nn.Sequential(nn.Linear({width}, {mlp}), nn.GELU(), nn.Identity(),",
        f"                         nn.Linear({mlp}, {width})),",
        "})",
        f"names = [f'encoder_layer_{{i}}' for i in range({sizes['num_layers']})]",
        "self.encoder = nn.ModuleDict({",
        "    'layers': nn.ModuleDict({name: block() for name in names}),",
        f"    'ln': nn.LayerNorm({width}, eps=1e-6),",
        "})",
        f"self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, {tokens}, {width}))",
        f"self.heads = nn.ModuleDict({{'head': nn.Linear({width}, {sizes['num_classes']})}})",
    ]
    steps = [
        "x = self.conv_proj(x).flatten(2).transpose(1, 2)",
        "x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)",
        "x = x + self.encoder.pos_embedding",
        "for block in self.encoder['layers'].values():",
        "    y = block['ln_1'](x)",
        "    x = x + block['self_attention'](y, y, y, need_weights=False)[0]",
        "    x = x + block['mlp'](block['ln_2'](x))",
        "return self.heads['head'](self.encoder['ln'](x)[:, 0])",
    ]
    return layers, steps
