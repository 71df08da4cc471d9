"""Recipes for texts."""

from jaxnets.recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="sentiment-lstm",
        document=(
            "002, section 3: the LSTM with a sigmoid, on words; the document names no data, "
            "here they are sentences of film reviews (rt-polarity), a tenth held out by chance"
        ),
        data="rt-polarity",
        model="text-classifier",
        model_options={
            "embedding_dim": 128,
            "hidden_dim": 64,
            "dropout": 0.6,
            "bidirectional": True,
        },
        loss="binary-cross-entropy",
        optimizer="adamw",
        optimizer_options={"lr": 0.002, "weight_decay": 0.5},
        epochs=12,
        layout="tokens",
        buckets=2,
    ),
    Recipe(
        name="names-gru",
        document=(
            "002, section 3: the GRU in the LSTM's place, on the letters of family names in 18 "
            "languages, those of PyTorch's tutorial; each name counts once, a tenth is held out"
        ),
        data="names",
        model="text-classifier",
        model_options={
            "embedding_dim": 64,
            "hidden_dim": 128,
            "dropout": 0.3,
            "output_dim": 18,
            "cell": "gru",
        },
        optimizer="adam",
        optimizer_options={"lr": 0.002},
        epochs=10,
        layout="tokens",
        buckets=2,
    ),
    Recipe(
        name="char-lstm",
        document=(
            "002, section 3: the LSTM, as PyTorch's word_language_model with characters for "
            "words, windows of 64 from a zero state; the last tenth of the text held out"
        ),
        expect=(
            "on tinyshakespeare 1.58 to 1.59 nats a character, 53 % of characters right, in "
            "about 2 minutes on 2 CPU cores"
        ),
        data="text",
        model="language-model",
        model_options={"embedding_dim": 64, "hidden_dim": 256},
        optimizer="adam",
        optimizer_options={"lr": 0.003},
        epochs=5,
        batch_size=32,
        layout="tokens",
    ),
)
