"""The command line: the table of commands, and how errors are reported."""

import contextlib
import importlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import click
import jax

from jaxnets.arrays import InputError, printable
from jaxnets.commands.suggestions import with_near_options
from jaxnets.compilation import VARIABLE, keep_programs
from jaxnets.disk import KEPT
from jaxnets.kernels import native
from jaxnets.training import Interrupted

_LONGEST = 290  # characters of a message about flags
_INTERRUPTED = 130  # the exit code of a shell's command after SIGINT: 128 + 2


def console() -> None:
    """The program ``jaxnets``: runs the command of ``sys.argv`` and ends the process."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # when Orbax fails, asyncio would also log its abandoned tasks; main() reports the failure
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _ignore_interrupt
    warnings.showwarning = _show_warning
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done
    code = _flushed(code)
    # After a signal, a compilation in progress can crash an orderly exit. After an error, JAX's
    # exit handler would wait for the other processes.
    if code >= 128 or (code and jax.distributed.is_initialized()):
        os._exit(code)
    sys.exit(code)


def _ignore_interrupt(lost: Any) -> None:
    """Ignores a KeyboardInterrupt that a finalizer swallowed, as ``fit`` handles the signal."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)


def _show_warning(message: Any, category: Any, *place: Any, **more: Any) -> None:
    """Prints a warning in the form of an error message, without its source line."""
    kind = "" if category is UserWarning else f"{category.__name__}: "
    with contextlib.suppress(OSError):
        line = f"jaxnets: {kind}{' '.join(str(message).split())}"
        print(printable(line, limit=None), file=sys.stderr)


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError as error:
        # otherwise Python flushes again at exit and prints a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not code and not isinstance(error, BrokenPipeError):
            _fail(str(error), 1)  # with another code, a message has been printed already
        code = code or 1
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, and reports errors in one sentence on standard error.

    Args:
        arguments: the command line; ``sys.argv[1:]`` by default.

    Returns:
        The exit code: 2 for a bad argument, 1 for any other failure, 130 if interrupted.
    """
    try:
        result = cli.main(arguments, prog_name="jaxnets", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.NoSuchOption as error:
        return _fail(with_near_options(error), 2, error)
    except click.ClickException as error:
        return _fail(printable(error.format_message(), limit=_LONGEST), 2, error)
    except InputError as error:
        return _fail(str(error), 2, error)
    except (FloatingPointError, ImportError, MemoryError, OSError) as error:
        return _fail(str(error) or "out of memory", 1, error)
    except click.Abort as error:  # Click's, of KeyboardInterrupt and of EOFError
        if isinstance(error.__cause__, EOFError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, Interrupted):
            return _fail(f"{error.__cause__}; --resume continues", error.__cause__.exit_code)
        return _fail("interrupted", _INTERRUPTED, error.__cause__)
    except Exception as error:
        message = _backend_message(error)
        if message is None:
            raise
        return _fail(message, 1, error)


def _backend_message(error: Exception) -> str | None:
    """Returns JAX's message about a device or a NaN, or None for any other error."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return str(error)
    if type(error) is RuntimeError and str(error).startswith("Unable to initialize backend"):
        return str(error)
    if type(error).__name__ == "InternalFloatingPointError":  # with JAX_DEBUG_NANS
        return f"{error.args[1]} in {error.args[0]}"
    return None


def _fail(message: str, code: int, error: BaseException | None = None) -> int:
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(KEPT)]
    line = " ".join("; ".join([message, *notes]).split())
    print(printable(f"jaxnets: {line}", limit=None), file=sys.stderr)
    return code


class Entry(NamedTuple):
    """A command in the table.

    Attributes:
        section: the heading under which ``jaxnets --help`` lists the command.
        place: the command as ``module:name`` in ``jaxnets.commands``. The module is imported when
            the command is called, so that each command imports only its own dependencies.
        summary: one line that describes the command.
    """

    section: str
    place: str
    summary: str


_TRAIN, _USE = "Train", "Use a trained network"
_CHANGE, _PYTORCH = "Change a trained network", "With PyTorch"

COMMANDS = {
    "train": Entry(_TRAIN, "train:train_command", "Train a network and test it."),
    "recipes": Entry(_TRAIN, "train:recipes_command", "List the documented experiments."),
    "summary": Entry(_TRAIN, "train:summary_command", "Show a network's layers and sizes."),
    "data": Entry(_TRAIN, "data:data_group", "Find, describe, show and check data sets."),
    "lr-find": Entry(_TRAIN, "lr_find:lr_find_command", "Suggest a learning rate."),
    "search": Entry(_TRAIN, "search:search_command", "Search for the best hyperparameters."),
    "predict": Entry(_USE, "predict:predict_command", "Predict for images, texts or rows."),
    "evaluate": Entry(_USE, "evaluate:evaluate_command", "Measure accuracy, errors, calibration."),
    "explain": Entry(_USE, "explain:explain_command", "Show which inputs a prediction depends on."),
    "visualize": Entry(_USE, "visualize:visualize_command", "Draw weights, activations and more."),
    "export": Entry(_USE, "export:export_command", "Write a network for other programs."),
    "serve": Entry(_USE, "serve:serve_command", "Serve predictions over HTTP, with a page."),
    "prune": Entry(_CHANGE, "prune:prune_command", "Remove weights, units or layers."),
    "quantize": Entry(_CHANGE, "quantize:quantize_command", "Store weights as small integers."),
    "combine": Entry(_CHANGE, "combine:combine_command", "Combine several runs into one network."),
    "port": Entry(_PYTORCH, "port:port_command", "Rewrite a PyTorch network as Flax source."),
    "compare": Entry(_PYTORCH, "compare:compare_command", "Train in both frameworks and compare."),
    "convert": Entry(_PYTORCH, "weights:convert_command", "Convert weights from or to PyTorch."),
    "inspect": Entry(_PYTORCH, "weights:inspect_command", "Show the arrays in a file or a run."),
}


class _Commands(click.Group):
    """The commands in ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].place.partition(":")
        return getattr(importlib.import_module(f"jaxnets.commands.{module}"), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands by section, without importing them."""
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            rows = [(name, of.summary) for name, of in COMMANDS.items() if of.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="jaxnets")
@click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep compiled programs in ~/.cache/jaxnets, or in the folder JAXNETS_CACHE.",
)
def cli(cache: bool) -> None:
    """Train and use neural networks in JAX, with the weights and results of PyTorch."""
    native.check_switch()
    if cache:
        keep_programs()
    else:
        os.environ[VARIABLE] = "off"
