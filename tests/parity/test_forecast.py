"""Losses and forecasts of the forecaster compared with PyTorch, trained on a real series.

Six epochs of the recipe ``elnino-lstm`` in float64, with the smaller last batch of each epoch.
"""

import dataclasses

import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.compare import twin
from jaxnets.data import Split, epoch_plan, load
from jaxnets.models import RecurrentClassifier
from jaxnets.training import fit, predict
from tests.parity.oracle import copy_weights, record, relative_difference

EPOCHS, BATCH = 6, 64


@pytest.mark.slow
def test_a_forecaster_trains_as_its_torch_twin_does():
    found = load("elnino", standardize=True)
    train, test = (
        Split(part.inputs.astype(np.float64), part.labels.astype(np.float64))
        for part in (found.train, found.test)
    )
    model = RecurrentClassifier(1, 32, output="logits", rngs=nnx.Rngs(0), param_dtype=np.float64)
    torch.manual_seed(0)
    network = twin(model).to(torch.float64)
    copy_weights(model, network)
    run = fit(
        model,
        dataclasses.replace(found, train=train, test=test),
        loss=losses.mse_loss,
        optimizer=optimizers.adam(lr=0.01),
        epochs=EPOCHS,
        batch_size=BATCH,
        seed=1,
        progress="none",
    )

    theirs, torch_losses = torch.optim.Adam(network.parameters(), lr=0.01), []
    for epoch in range(EPOCHS):
        plan = epoch_plan(len(train), BATCH, seed=1, epoch=epoch)
        for indices in [*plan.full, plan.rest]:
            theirs.zero_grad()
            outputs = network(torch.tensor(train.inputs[indices]))
            loss = torch.nn.functional.mse_loss(outputs, torch.tensor(train.labels[indices]))
            loss.backward()
            theirs.step()
            torch_losses.append(loss.item())

    assert len(torch_losses) == len(run.step_losses) == EPOCHS * 9
    assert record(np.float64, np.abs(run.step_losses / torch_losses - 1).max()) < 1e-8
    with torch.no_grad():
        forecasts = network(torch.tensor(test.inputs)).numpy()
    assert relative_difference(predict(run.model, test.inputs), forecasts) < 1e-6
    assert np.mean((forecasts - test.labels) ** 2) < 0.2
