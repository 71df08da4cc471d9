"""Training of any ``nnx.Module``: objectives, training steps as pure functions, and ``fit``."""

from jaxnets.training.callbacks import (
    Callback,
    EarlyStopping,
    LossSpikes,
    ReduceLROnPlateau,
    RunSoFar,
    StopTraining,
)
from jaxnets.training.evaluation import Evaluation, evaluate, predict
from jaxnets.training.fit import fit
from jaxnets.training.fixmatch import fixmatch
from jaxnets.training.in_turn import in_turn
from jaxnets.training.interrupts import Interrupted
from jaxnets.training.loop import NonFiniteLossError
from jaxnets.training.minimize import minimize
from jaxnets.training.objective import supervised
from jaxnets.training.placement import Sharding
from jaxnets.training.predictor import predictor
from jaxnets.training.reconstruction import reconstruction
from jaxnets.training.records import (
    EpochRecord,
    Timings,
    TrainingRun,
    count_parameters,
    plot_history,
    write_history,
)
from jaxnets.training.saving import Saving
from jaxnets.training.seeds import MemberRun, Summary, TrainingRuns
from jaxnets.training.state import TrainState, initialize
from jaxnets.training.steps import Step, StepMetrics, train_step

__all__ = [
    "Callback",
    "EarlyStopping",
    "EpochRecord",
    "Evaluation",
    "Interrupted",
    "LossSpikes",
    "MemberRun",
    "NonFiniteLossError",
    "ReduceLROnPlateau",
    "RunSoFar",
    "Saving",
    "Sharding",
    "Step",
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
    "fixmatch",
    "in_turn",
    "initialize",
    "minimize",
    "plot_history",
    "predict",
    "predictor",
    "reconstruction",
    "supervised",
    "train_step",
    "write_history",
]
