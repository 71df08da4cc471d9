"""The Transformers of ``jaxnets.models`` in PyTorch: what ours are compared with."""

from typing import Any

from jaxnets.models import GPT, Seq2Seq, TransformerClassifier, TransformerSeq2Seq, ViT
from jaxnets.models.positions import sinusoidal_positions


def gpt(torch: Any, model: GPT) -> Any:
    """NanoGPT's network, whose head is tied to the token embedding if ours is."""
    nn, sizes = torch.nn, model.options
    width, dropout, bias = sizes["n_embd"], sizes["dropout"], sizes["bias"]

    class Attention(torch.nn.Module):
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

    class FeedForward(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_fc = nn.Linear(width, 4 * width, bias)
            self.gelu = nn.GELU(sizes["approximate"])
            self.c_proj = nn.Linear(4 * width, width, bias)
            self.dropout = nn.Dropout(dropout)

        def forward(self, x: Any) -> Any:
            return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1 = nn.LayerNorm(width, bias=bias)
            self.attn = Attention()
            self.ln_2 = nn.LayerNorm(width, bias=bias)
            self.mlp = FeedForward()

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class Network(torch.nn.Module):
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


def classifier(torch: Any, model: TransformerClassifier) -> Any:
    """An embedding, ``nn.TransformerEncoder``, a mean over the tokens and a linear layer."""
    nn, sizes = torch.nn, model.options

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, dropout = sizes["d_model"], sizes["dropout"]
            self.embedding = nn.Embedding(sizes["vocab_size"], width, padding_idx=0)
            layer = nn.TransformerEncoderLayer(
                *(width, sizes["nhead"], sizes["dim_feedforward"], dropout),
                batch_first=True,
                norm_first=sizes["norm_first"],
            )
            self.encoder = nn.TransformerEncoder(
                layer, sizes["num_layers"], enable_nested_tensor=False
            )
            self.dropout = nn.Dropout(dropout)
            self.fc = nn.Linear(width, sizes["output_dim"])

        def forward(self, tokens: Any) -> Any:
            padding = _padding(torch, tokens)
            x = self.dropout(_embedded(torch, self.embedding, tokens))
            x = self.encoder(x, src_key_padding_mask=padding)
            x = x.masked_fill(padding[..., None], 0.0).sum(1) / (~padding).sum(1, keepdim=True)
            x = self.fc(self.dropout(x))
            return torch.sigmoid(x) if sizes["output"] == "sigmoid" else x

    return Network()


def vit(torch: Any, model: ViT) -> Any:
    """The structure and names of torchvision's ``VisionTransformer``."""
    nn, sizes = torch.nn, model.options
    width, dropout = sizes["hidden_dim"], sizes["dropout"]

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1 = nn.LayerNorm(width, eps=1e-6)
            heads = sizes["num_heads"]
            self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
            self.dropout = nn.Dropout(dropout)
            self.ln_2 = nn.LayerNorm(width, eps=1e-6)
            self.mlp = nn.Sequential(
                nn.Linear(width, sizes["mlp_dim"]),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(sizes["mlp_dim"], width),
                nn.Dropout(dropout),
            )

        def forward(self, x: Any) -> Any:
            y = self.ln_1(x)
            y, _ = self.self_attention(y, y, y, need_weights=False)
            x = x + self.dropout(y)
            return x + self.mlp(self.ln_2(x))

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            tokens = (sizes["image_size"] // sizes["patch_size"]) ** 2 + 1
            self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width).normal_(std=0.02))
            self.dropout = nn.Dropout(dropout)
            blocks = {f"encoder_layer_{i}": Block() for i in range(sizes["num_layers"])}
            self.layers = nn.Sequential()
            for name, block in blocks.items():
                self.layers.add_module(name, block)
            self.ln = nn.LayerNorm(width, eps=1e-6)

        def forward(self, x: Any) -> Any:
            return self.ln(self.layers(self.dropout(x + self.pos_embedding)))

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            patch = sizes["patch_size"]
            self.conv_proj = nn.Conv2d(sizes["in_channels"], width, patch, patch)
            self.class_token = nn.Parameter(torch.zeros(1, 1, width))
            self.encoder = Encoder()
            self.heads = nn.Sequential()
            self.heads.add_module("head", nn.Linear(width, sizes["num_classes"]))

        def forward(self, images: Any) -> Any:
            x = self.conv_proj(images).flatten(2).transpose(1, 2)
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
            return self.heads(self.encoder(x)[:, 0])

    return Network()


def seq2seq(torch: Any, model: Seq2Seq) -> Any:
    """A bidirectional GRU, and a GRU cell with additive attention, one step at a time."""
    nn, sizes = torch.nn, model.options
    tokens, width, hidden = (sizes[n] for n in ("vocab_size", "embedding_dim", "hidden_dim"))

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(tokens, width, padding_idx=0)
            self.dropout = nn.Dropout(sizes["dropout"])
            self.gru = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
            self.init = nn.Linear(hidden, hidden)

        def forward(self, source: Any) -> Any:
            rnn, lengths = nn.utils.rnn, (source != 0).sum(1).clamp(min=1).cpu()
            x = self.dropout(self.embedding(source))
            packed = rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
            outputs, last = self.gru(packed)
            outputs, _ = rnn.pad_packed_sequence(outputs, True, total_length=source.shape[1])
            return torch.tanh(self.init(last[1])), outputs

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.Wa = nn.Linear(hidden, hidden)
            self.Ua = nn.Linear(2 * hidden, hidden)
            self.Va = nn.Linear(hidden, 1)

        def forward(self, query: Any, keys: Any, padding: Any) -> Any:
            scores = self.Va(torch.tanh(self.Wa(query)[:, None] + self.Ua(keys)))[..., 0]
            weights = torch.softmax(scores.masked_fill(padding, -torch.inf), dim=-1)
            return (weights[:, None] @ keys)[:, 0]

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(tokens, width)
            self.dropout = nn.Dropout(sizes["dropout"])
            self.attention = Attention()
            self.gru = nn.GRUCell(width + 2 * hidden, hidden)
            self.out = nn.Linear(hidden, tokens)

        def forward(self, target: Any, state: Any, keys: Any, padding: Any) -> Any:
            x, states = self.dropout(self.embedding(target)), []
            for place in range(target.shape[1]):
                context = self.attention(state, keys, padding)
                state = self.gru(torch.cat([x[:, place], context], dim=1), state)
                states.append(state)
            return self.out(torch.stack(states, dim=1))

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = Encoder(), Decoder()

        def forward(self, source: Any, target: Any) -> Any:
            return self.decoder(target, *self.encoder(source), _padding(torch, source))

    return Network()


def transformer_seq2seq(torch: Any, model: TransformerSeq2Seq) -> Any:
    """``nn.Transformer`` between two embeddings and a linear layer."""
    nn, sizes = torch.nn, model.options

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            tokens, width, layers = sizes["vocab_size"], sizes["d_model"], sizes["num_layers"]
            self.src_tok_emb = nn.Embedding(tokens, width, padding_idx=0)
            self.tgt_tok_emb = nn.Embedding(tokens, width)
            self.dropout = nn.Dropout(sizes["dropout"])
            self.transformer = nn.Transformer(
                *(width, sizes["nhead"], layers, layers),
                *(sizes["dim_feedforward"], sizes["dropout"]),
                batch_first=True,
                norm_first=sizes["norm_first"],
            )
            self.generator = nn.Linear(width, tokens)

        def forward(self, source: Any, target: Any) -> Any:
            padding = _padding(torch, source)
            later = torch.ones(2 * target.shape[1:], dtype=torch.bool).triu(1)
            x = self.transformer(
                self.dropout(_embedded(torch, self.src_tok_emb, source)),
                self.dropout(_embedded(torch, self.tgt_tok_emb, target)),
                tgt_mask=later,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
            )
            return self.generator(x)

    return Network()


def _padding(torch: Any, tokens: Any) -> Any:
    """Whether each place is after the end of its row."""
    lengths = (tokens != 0).sum(1, keepdim=True).clamp(min=1)
    return torch.arange(tokens.shape[1])[None] >= lengths


def _embedded(torch: Any, embedding: Any, tokens: Any) -> Any:
    """The vectors of tokens times √d plus sinusoidal positions."""
    positions = sinusoidal_positions(tokens.shape[1], embedding.embedding_dim)
    x = embedding(tokens) * embedding.embedding_dim**0.5
    return x + torch.from_numpy(positions).to(x.dtype)
