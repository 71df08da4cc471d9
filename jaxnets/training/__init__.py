"""Training any ``nnx.Module``: a pure step, compiled epochs, and the loop on the host."""

from jaxnets.training.callbacks import (
    Callback,
    EarlyStopping,
    LossSpikes,
    ReduceLROnPlateau,
    RunSoFar,
    StopTraining,
)
from jaxnets.training.course import NonFiniteLossError
from jaxnets.training.evaluation import evaluate, predict
from jaxnets.training.fit import fit
from jaxnets.training.interrupts import Interrupted
from jaxnets.training.predictor import predictor
from jaxnets.training.records import (
    EpochRecord,
    Evaluation,
    Timings,
    TrainingRun,
    count_parameters,
    plot_history,
    write_history,
)
from jaxnets.training.replicates import MemberRun, Summary, TrainingRuns
from jaxnets.training.saving import Saving
from jaxnets.training.sharding import Sharding
from jaxnets.training.state import Program, TrainState, initialize
from jaxnets.training.step import StepMetrics, train_step

__all__ = [
    "Callback",
    "EarlyStopping",
    "EpochRecord",
    "Evaluation",
    "Interrupted",
    "LossSpikes",
    "MemberRun",
    "NonFiniteLossError",
    "Program",
    "ReduceLROnPlateau",
    "RunSoFar",
    "Saving",
    "Sharding",
    "StepMetrics",
    "StopTraining",
    "Summary",
    "Timings",
    "TrainState",
    "TrainingRun",
    "TrainingRuns",
    "count_parameters",
    "evaluate",
    "fit",
    "initialize",
    "plot_history",
    "predict",
    "predictor",
    "train_step",
    "write_history",
]
