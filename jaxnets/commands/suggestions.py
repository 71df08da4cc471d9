"""Suggestions for options that do not exist."""

import difflib

import click

#: Names of options in other programs, and the corresponding options here.
_ELSEWHERE = {
    "--learning-rate": "--lr",
    "--max-lr": "--lr",
    "--wd": "--weight-decay",
    "--l2": "--weight-decay",
    "--batch": "--batch-size",
    "--bs": "--batch-size",
    "--num-epochs": "--epochs",
    "--max-epochs": "--epochs",
    "--n-epochs": "--epochs",
    "--iterations": "--epochs",
    "--opt": "--optimizer",
    "--criterion": "--loss",
    "--arch": "--model",
    "--network": "--model",
    "--dataset": "--data",
    "--data-path": "--data-dir",
    "--data-root": "--data-dir",
    "--root": "--data-dir",
    "--output": "--out",
    "--output-dir": "--out",
    "--out-dir": "--out",
    "--save": "--out",
    "--save-dir": "--out",
    "--checkpoint": "--resume",
    "--continue": "--resume",
    "--gpu": "--devices",
    "--gpus": "--devices",
    "--device": "--devices",
    "--num-gpus": "--devices",
    "--ngpus": "--devices",
    "--amp": "--compute-dtype",
    "--fp16": "--compute-dtype",
    "--bf16": "--compute-dtype",
    "--precision": "--compute-dtype",
    "--dtype": "--compute-dtype",
    "--half": "--compute-dtype",
    "--patience": "--early-stopping",
    "--early-stop": "--early-stopping",
    "--monitor": "--metric",
    "--best": "--restore-best",
    "--schedule": "--scheduler",
    "--lr-scheduler": "--scheduler",
    "--lr-schedule": "--scheduler",
    "--augmentation": "--augment",
    "--augmentations": "--augment",
    "--random-seed": "--seed",
    "--random-state": "--seed",
    "--manual-seed": "--seed",
    "--logdir": "--tensorboard",
    "--log-dir": "--tensorboard",
    "--log-interval": "--log-every",
    "--grad-accum": "--accumulate",
    "--gradient-accumulation-steps": "--accumulate",
    "--accumulate-grad-batches": "--accumulate",
    "--world-size": "--processes",
    "--rank": "--process-id",
    "--silent": "--quiet",
    "--topk": "--top",
    "--top-k": "--top",
    "--idx": "--index",
    "--text": "--prompt",
    "--hidden": "--model-option",
    "--hidden-dim": "--model-option",
    "--hidden-size": "--model-option",
    "--layers": "--model-option",
    "--num-layers": "--model-option",
    "--dropout": "--model-option",
    "--nesterov": "--optimizer-option",
    "--betas": "--optimizer-option",
    "--eps": "--optimizer-option",
}


def with_near_options(error: click.NoSuchOption) -> str:
    """Returns the message for an unknown option, with up to three similar options.

    Args:
        error: Click's error, with the context of the command.
    """
    name = error.option_name.lower().replace("_", "-")
    parameters = [] if error.ctx is None else error.ctx.command.get_params(error.ctx)
    known = [option for each in parameters for option in (*each.opts, *each.secondary_opts)]
    known = [option for option in known if option.startswith("--")]
    alike = difflib.get_close_matches(name, _ELSEWHERE, cutoff=0.85)
    near = [_ELSEWHERE[other] for other in alike if _ELSEWHERE[other] in known]
    near += [option for option in known if len(name) > 4 and option.startswith(name)]
    near += difflib.get_close_matches(name, known, cutoff=0.7)
    message = click.NoSuchOption(error.option_name).format_message()
    some = list(dict.fromkeys(near))[:3]
    return f"{message} Did you mean {' or '.join(some)}?" if some else message
