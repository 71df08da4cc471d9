"""Recipes for numbers: tables and series."""

from jaxnets.recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="linear-regression",
        document=(
            "002, section 3: one Linear from normal(0, 0.01), mean squared error, SGD 0.01; "
            "the document's inputs are not given, here they are a noisy line"
        ),
        expect="a test loss of 0.010, the variance of the noise, in about 2 s",
        data="linear",
        model="linear-regression",
        model_options={"init_std": 0.01},
        loss="mse",
        optimizer_options={"lr": 0.01},
        epochs=50,
    ),
    Recipe(
        name="engel-linear",
        document=(
            "002, section 3: one Linear from normal(0, 0.01), here from the income of 235 "
            "households to what they spend on food, standardised, by gradient descent on all "
            "of the training part at once"
        ),
        expect=(
            "a test loss of 0.1158 (RMSE 98.5 francs; that of the mean is 216.1): the line of "
            "least squares itself, to 1e-6, in about 2 s"
        ),
        data="engel",
        data_options={"standardize": True},
        model="linear-regression",
        model_options={"init_std": 0.01},
        loss="mse",
        optimizer_options={"lr": 0.25},
        epochs=30,
        batch_size=256,
    ),
    Recipe(
        name="elnino-lstm",
        document=(
            "002, section 3: the LSTM, here with one layer of 32 and an output that is a "
            "number: from two years of a sea's temperatures the next month's; the last fifth "
            "of the months held out"
        ),
        expect=(
            "a test loss of 0.044 to 0.054, which is 0.47 to 0.53 °C (seeds 0 to 4), where the "
            "month before has 1.18 °C, in about 3 s on 2 CPU cores"
        ),
        data="elnino",
        data_options={"standardize": True, "window": 24},
        model="recurrent-classifier",
        model_options={"hidden_dim": 32, "output": "logits"},
        loss="mse",
        optimizer="adam",
        optimizer_options={"lr": 0.01},
        epochs=30,
    ),
)
