"""The Transformers of ``jaxnets.models`` in PyTorch: what ours are compared with."""

from typing import Any

from jaxnets.models import GPT


def gpt(torch: Any, model: GPT) -> Any:
    """NanoGPT's network, whose head is tied to the token embedding if ours is."""
    nn, sizes = torch.nn, model.options
    width, dropout, bias = sizes["n_embd"], sizes["dropout"], sizes["bias"]

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_attn = nn.Linear(width, 3 * width, bias)
            self.c_proj = nn.Linear(width, width, bias)
            self.resid_dropout = nn.Dropout(dropout)

        def forward(self, x: Any) -> Any:
            batch, time, _ = x.shape
            heads = (batch, time, sizes["n_head"], width // sizes["n_head"])
            q, k, v = (y.view(heads).transpose(1, 2) for y in self.c_attn(x).split(width, dim=2))
            y = nn.functional.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout if self.training else 0.0, is_causal=True
            )
            return self.resid_dropout(self.c_proj(y.transpose(1, 2).reshape(batch, time, width)))

    class FeedForward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_fc = nn.Linear(width, 4 * width, bias)
            self.gelu = nn.GELU(sizes["approximate"])
            self.c_proj = nn.Linear(4 * width, width, bias)
            self.dropout = nn.Dropout(dropout)

        def forward(self, x: Any) -> Any:
            return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1 = nn.LayerNorm(width, bias=bias)
            self.attn = Attention()
            self.ln_2 = nn.LayerNorm(width, bias=bias)
            self.mlp = FeedForward()

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = nn.ModuleDict(
                {
                    "wte": nn.Embedding(sizes["vocab_size"], width),
                    "wpe": nn.Embedding(sizes["block_size"], width),
                    "drop": nn.Dropout(dropout),
                    "h": nn.ModuleList([Block() for _ in range(sizes["n_layer"])]),
                    "ln_f": nn.LayerNorm(width, bias=bias),
                }
            )
            self.lm_head = nn.Linear(width, sizes["vocab_size"], bias=False)
            if sizes["tie_weights"]:
                self.lm_head.weight = self.transformer["wte"].weight

        def forward(self, tokens: Any) -> Any:
            parts, positions = self.transformer, torch.arange(tokens.shape[1])
            x = parts["drop"](parts["wte"](tokens) + parts["wpe"](positions))
            for block in parts["h"]:
                x = block(x)
            return self.lm_head(parts["ln_f"](x))

    return Network()
