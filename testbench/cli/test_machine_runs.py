"""What commands make of a machine: `run` with the interpreter in place of the Verilog."""

import json
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from acceltran.arch.commands import COMMAND_BYTES
from acceltran.arch.config import ConfigError
from acceltran.arch.presets import TINY
from acceltran.arch.registers import COUNTERS, ErrorCause
from acceltran_cli import encoder_run
from acceltran_sim.program.assembler import decode_program
from acceltran_sim.program.interpreter import Interpreter
from acceltran_sim.rtl import machine as rtl_machine
from acceltran_sim.rtl.simulator import SimulationError, SimulationResult


@pytest.fixture
def machine(monkeypatch):
    """A machine whose results a test may change."""
    changes = types.SimpleNamespace(cause=ErrorCause.NONE, command=0, flip=None, seen={})

    def simulate_in_turn(simulator, calls, *, image, base, seed, stall, progress):
        changes.seen = {"seed": seed, "stall": stall}
        run = Interpreter(TINY, base, image)
        results, done = [], 0
        for n, call in enumerate(calls):
            start = call.address - base
            run.run(decode_program(image[start : start + call.commands * COMMAND_BYTES]))
            done += call.commands
            progress(done, 1000 * (n + 1))
            memory = bytearray(run.dram)
            if changes.flip is not None:
                memory[start + changes.flip] ^= 1
            results.append(
                SimulationResult(
                    image=bytes(memory),
                    counters={name: 1000 * (n + 1) + k for k, (name, _) in enumerate(COUNTERS)},
                    error_cause=changes.cause,
                    error_command=changes.command,
                    commands_done=call.commands,
                )
            )
        return results

    module = types.ModuleType("acceltran.generate")
    module.generate_verilog = lambda config: "module acceltran; endmodule"  # type: ignore
    monkeypatch.setitem(sys.modules, "acceltran.generate", module)
    monkeypatch.setattr(encoder_run, "find_simulator", lambda config: None)
    monkeypatch.setattr(encoder_run, "make_simulator", lambda config, verilog: None)
    monkeypatch.setattr(encoder_run, "simulate_in_turn", simulate_in_turn)
    return changes


@pytest.fixture
def rtl(arguments):
    """A run on the machine."""
    return [*arguments[:-2], "--backend", "rtl", *arguments[-2:]]


def test_output(acceltran, arguments, rtl, machine):
    assert acceltran(*arguments).code == 0
    with np.load(arguments[-1]) as y:
        expected = {name: y[name] for name in y.files}
    answer = acceltran(*rtl, "--seed", 7, "--stall", 0.25)
    assert (answer.code, answer.stderr) == (0, "")
    assert machine.seen == {"seed": 7, "stall": 0.25}
    with np.load(arguments[-1]) as y:
        names = [f"counter_{name}" for name, _ in COUNTERS]
        assert set(y.files) == {*expected, *names, "counter_products_dense"}
        for name, array in expected.items():
            assert (y[name] == array).all()
        for n, name in enumerate(names):
            assert y[name].dtype == np.uint64 and y[name].shape == () and y[name] == n + 1000
        assert y["counter_products_dense"].dtype == np.uint64


def test_summary(acceltran, rtl, machine):
    lines = acceltran(*rtl).stdout.splitlines()
    assert lines[0] == "2 x 9 x 32, 2 layers, rtl, tiny, 4.16"
    assert lines[1] == "cycles       1,000 (0.001 ms at 700 MHz)"
    assert lines[2] == "multipliers  64, used 1.6% of the time"
    counts = {name: 1000 + n for n, (name, _) in enumerate(COUNTERS)}
    read, written = (counts[f"dma_{way}_bytes"] for way in ("read", "write"))
    assert lines[6] == f"DRAM         {read:,} bytes read, {written:,} bytes written"
    assert lines[7] == "check        RTL = golden, bit for bit"
    content = json.loads(acceltran(*rtl, "--json").stdout)
    assert content["cycles"] == 1000 and content["rtl_equals_golden"] is True
    assert content["multiplier_utilisation"] == 1001 / 64000
    assert content["counters"] == counts


def test_resident(acceltran, arguments, rtl, machine):
    """The second of three programs counts."""
    assert acceltran(*arguments).code == 0
    with np.load(arguments[-1]) as y:
        expected = y["raw"]
    answer = acceltran(*rtl, "--resident")
    assert (answer.code, answer.stderr) == (0, "")
    lines = answer.stdout.splitlines()
    assert lines[1] == "cycles       2,000 (0.003 ms at 700 MHz)"
    assert "buffers      loaded in 1,000 cycles, stored in 3,000" in lines
    with np.load(arguments[-1]) as y:
        assert (y["raw"] == expected).all()
        assert (y["counter_load_cycles"], y["counter_store_cycles"]) == (1000, 3000)


def test_difference(acceltran, rtl, machine):
    machine.flip = -64
    answer = acceltran(*rtl)
    assert (answer.code, answer.stdout) == (1, "")
    assert answer.stderr.startswith(
        "Error: RTL and golden models differ in 1 of 576 values, the first at batch 1, row 3,"
    )
    assert answer.stderr.count("\n") == 1 and not rtl[-1].exists()


def test_machine_error(acceltran, rtl, machine):
    machine.cause, machine.command = ErrorCause.DRAM_REGION, 0
    answer = acceltran(*rtl)
    assert (answer.code, answer.stdout) == (3, "")
    assert answer.stderr.startswith(
        "Error: The machine stopped with DRAM_REGION at command 0: LOAD signal=0 dram_address="
    )
    assert answer.stderr.count("\n") == 1 and not rtl[-1].exists()


def test_simulator_error(acceltran, rtl, machine, monkeypatch):
    def fail(*_, **__):
        raise SimulationError("Verilator failed:\n%Error: x")

    monkeypatch.setattr(encoder_run, "make_simulator", fail)
    answer = acceltran(*rtl)
    assert (answer.code, answer.stdout) == (1, "")
    assert answer.stderr == (
        "Error: Verilator failed: %Error: x"
        " (this is a bug; acceltran --traceback COMMAND ... shows where)\n"
    )


def test_machines_that_cannot_be_generated(acceltran, rtl, machine, monkeypatch):
    def refuse(config):
        raise ConfigError("array.pes must be x")

    monkeypatch.setattr(sys.modules["acceltran.generate"], "generate_verilog", refuse)
    answer = acceltran(*rtl)
    assert (answer.code, answer.stderr) == (2, "Error: array.pes must be x\n")


def test_missing_compiler(acceltran, rtl, machine, monkeypatch):
    monkeypatch.setattr(encoder_run.shutil, "which", lambda name: None)
    answer = acceltran(*rtl)
    message = "Error: The backend rtl needs g++, which this machine lacks\n"
    assert (answer.code, answer.stderr) == (2, message)


def test_processes_that_remember_one_machine(monkeypatch, tmp_path):
    simulator = tmp_path / "simulator"
    simulator.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rtl_machine, "build_simulator", lambda *_, **__: simulator)

    def make(_):
        return rtl_machine.make_simulator(TINY, "module acceltran; endmodule")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(make, range(100))) == {simulator}
    assert rtl_machine.find_simulator(TINY) == simulator
    assert len(list((tmp_path / "acceltran" / "machines").iterdir())) == 1
