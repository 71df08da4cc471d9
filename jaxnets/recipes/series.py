"""Recipes for numbers: tables and series."""

from jaxnets.recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="linear-regression",
        document=(
            "002, section 3: one Linear from normal(0, 0.01), mean squared error, SGD 0.01; "
            "the document's inputs are not given, here they are a noisy line"
        ),
        expect="the standard deviation of the noise is 0.1",
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
        expect="the RMSE is in francs, and that of the mean of the labels is 216.1",
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
        expect="the RMSE is in °C, and that of the month before is 1.18",
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
