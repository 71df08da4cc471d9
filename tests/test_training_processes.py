"""Several processes train the same as one, and none waits for a lost process."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from flax import nnx

from jaxnets import runs
from jaxnets.arrays import InputError
from jaxnets.cli import main
from jaxnets.training.processes import _is_of_a_collective, joined, launched
from tests.quick_compilation import environment

QUICK = ["linear-regression", "--devices", "4", "--save-every", "7"]  # 16 steps an epoch


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def start(*arguments):
    """Starts a command in a process that caches compiled programs."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
    return subprocess.Popen(
        [sys.executable, "-m", "jaxnets", "train", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment() | cache,
    )  # fmt: skip


def start_two(*arguments):
    together = ["--coordinator", f"localhost:{free_port()}", "--processes", 2, "--process-id"]
    return [start(*arguments, *together, number) for number in range(2)]


def saved_steps(folder):
    return sorted(int(path.name[5:]) for path in folder.glob("checkpoints/step-*"))


NETWORK = ["mnist-mlp", "--epochs", "1", "--batch-size", "512", "--quiet"]
NETWORK += ["--data-option", "train=train[:10000]", "--data-option", "test=test[:1000]"]


def weights(folder):
    return jax.tree.leaves(nnx.state(runs.read(folder).model))


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    """The results are equal except for the order of sums between processes."""
    both = start_two(*NETWORK, "--devices", 4, "--out", tmp_path / "two")
    assert main(["train", *NETWORK, "--out", str(tmp_path / "one")]) == 0
    for process in both:
        error = process.communicate(timeout=120)[1]
        assert process.returncode == 0, error
    for ours, expected in zip(*map(weights, (tmp_path / "two", tmp_path / "one")), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_two_processes_save_and_one_goes_on_where_they_stopped(tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    first, second = start_two(*QUICK, "--epochs", "2", "--out", two, "--json")
    out, error = first.communicate(timeout=120)
    assert first.returncode == 0, error
    assert second.communicate(timeout=120) == ("", "")
    assert second.returncode == 0
    assert json.loads(out)["device"].startswith("4 ×")
    assert error.count("\n") == 2  # one line per epoch, from the first process only
    assert saved_steps(two)[-1] == 32
    assert main(["train", QUICK[0], "--epochs", "3", "--out", str(one), "--quiet"]) == 0
    resumed = ["--resume", str(two), "--epochs", "3", "--quiet", "--devices", "1"]
    with pytest.warns(
        UserWarning, match=r"the resumed run may differ in some bits .*: cores: \d+, before"
    ):
        assert main(["train", *resumed]) == 0
    for expected, got in zip(weights(one), weights(two), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("who", "number"), [(0, signal.SIGKILL), (1, signal.SIGTERM)])
def test_a_lost_process_ends_the_others_and_one_that_is_stopped_stops_them(tmp_path, who, number):
    folder = tmp_path / "run"
    both = start_two(*QUICK, "--epochs", "100000", "--out", folder, "--quiet")
    while not saved_steps(folder):
        assert all(process.poll() is None for process in both), both[0].communicate()
        time.sleep(0.1)
    both[who].send_signal(number)
    errors = [process.communicate(timeout=50)[1] for process in both]
    other = both[1 - who]
    if number == signal.SIGKILL:
        assert other.returncode == 1
        assert errors[1].splitlines() == [
            "jaxnets: process 0 has ended before the others: see its messages"
        ]
        return
    assert [process.returncode for process in both] == [143, 143]
    step = saved_steps(folder)[-1]
    for error in errors:
        assert f"stopped by SIGTERM after step {step}, saved in" in error


def failures(*processes, patience=20):
    """The errors of processes, (number of processes, id), that try to join one after the other."""
    port, said = free_port(), {}

    def join(place, count, number):
        address = f"localhost:{port}"
        failing = pytest.raises((InputError, OSError))
        with failing as error, joined(address, count, number, patience=patience):
            pass
        said[place] = str(error.value)

    threads = []
    for place, (count, number) in enumerate(processes):
        threads.append(threading.Thread(target=join, args=(place, count, number)))
        threads[-1].start()
        time.sleep(0.3)
    for thread in threads:
        thread.join()
    return [said[place] for place in range(len(processes))]


def test_who_does_not_come_is_named_in_time():
    late, other = failures((3, 0), (3, 1), patience=1.5)
    assert late.startswith("of 3 processes, 2 did not connect to localhost:")
    assert other == late
    (lost,) = failures((2, 1), patience=0.5)
    assert "process 0 was not found at localhost:" in lost


def test_a_process_with_wrong_arguments_gets_an_error():
    said = failures((3, 0), (3, 1), (3, 1), (2, 1), (3, 0), patience=3)
    assert said[2].startswith("process_id: expected a different one for each process, got 1, which")
    assert said[3] == "processes: expected 3, as on process 0, got 2"
    assert said[4].startswith("coordinator: expected a port that is free on the machine of process")


def test_another_program_is_no_process_0():
    message = "no process 0 is waiting for others"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def answer():
            with server.accept()[0] as line:
                line.sendall(b"HTTP/1.1 400\r\n\r\n")

        threading.Thread(target=answer).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=message), joined(address, 2, 1, patience=5):
            pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("here", 2, 0), "coordinator: expected HOST:PORT, such as 10.0.0.1:29500, got 'here'"),
        (("here:0", 2, 0), "coordinator: expected HOST:PORT"),
        (("here:1", 0, 0), "processes: expected a positive integer, got 0"),
        (("here:1", 2, 2), "process_id: expected an integer from 0 to 1, got 2"),
        ((), "coordinator: expected HOST:PORT, as no known launcher has started this process"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, message):
    with pytest.raises(InputError, match=message), joined(*arguments):
        pass


def test_flags_come_together(capfd):
    assert main(["train", "linear-regression", "--processes", "2"]) == 2
    assert (
        "--coordinator, --processes and --process-id require each other" in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    ],
)
def test_a_launcher_of_several_is_noticed(variables, several):
    assert launched(variables) is several


def test_errors_of_a_collective_are_recognized_also_within_others():
    saving = OSError("step-14 could not be saved: UNKNOWN: Gloo all-reduce failed")
    within = OSError("not saved")
    within.__cause__ = jax.errors.JaxRuntimeError("lost")
    assert [_is_of_a_collective(e) for e in (saving, within)] == [True, True]
    assert not _is_of_a_collective(OSError("the disk is full"))
