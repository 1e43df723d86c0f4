"""Each line that the doctor may say of a machine, and the subprocess that dies."""

import os
import signal
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from edge_client.doctor import Machine
from edge_client.doctor.machine import MODEL_HEX, architecture, c_library, memory, onnxruntime, power, python, telemetry
from fedge.telemetry import TELEMETRY_SWITCHES

NO_PMIC = ("fedge-no-such-program",)


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("name", "bits", "outcome"),
    [
        ("x86_64", 64, "ok"),
        ("aarch64", 64, "ok"),
        ("aarch64", 32, "fail"),  # a 64-bit kernel under a 32-bit Raspberry Pi OS
        ("armv7l", 32, "fail"),
        ("riscv64", 64, "warn"),
    ],
)
def test_the_architecture_must_have_64_bits(name, bits, outcome):
    assert architecture(Machine(architecture=name, pointer_bits=bits)).outcome == outcome


@pytest.mark.parametrize(
    ("libc", "outcome"),
    [
        (("glibc", "2.36"), "ok"),
        (("glibc", "2.28"), "ok"),
        (("glibc", "2.27"), "fail"),
        (("glibc", "3.0"), "ok"),
        (("", ""), "fail"),
    ],
)
def test_glibc_must_be_there_and_new_enough(libc, outcome):
    assert c_library(Machine(libc=libc, system="Linux")).outcome == outcome


def test_macos_has_no_glibc_and_needs_none():
    assert c_library(Machine(libc=("", ""), system="Darwin")).outcome == "ok"


@pytest.mark.parametrize(("version", "outcome"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "fail")])
def test_python_must_be_one_with_wheels_and_uv_is_the_way_out(version, outcome):
    finding = python(Machine(python=version))
    assert finding.outcome == outcome
    assert ("uv" in finding.remedy) is (outcome == "fail")


def test_onnxruntime_is_imported_and_run_on_this_machine():
    import onnxruntime as installed

    finding = onnxruntime(Machine())
    assert (finding.outcome, finding.says) == ("ok", f"version {installed.__version__} imported and run")


def test_the_model_that_is_run_is_the_one_that_onnx_writes():
    value = helper.make_tensor_value_info
    x, y = (value(name, TensorProto.FLOAT, [4]) for name in "xy")
    model = helper.make_model(
        helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [x], [y]),
        opset_imports=[helper.make_opsetid("", 18)],
        producer_name="",
    )
    model.ir_version = 10
    assert model.SerializeToString().hex() == MODEL_HEX


def test_an_illegal_instruction_is_a_line_with_its_remedy():
    finding = onnxruntime(Machine(trial="import os, signal; os.kill(os.getpid(), signal.SIGILL)"))
    assert finding.outcome == "fail"
    assert "SIGILL" in finding.says and "onnxruntime>=" in finding.remedy


def test_an_illegal_instruction_under_a_shell_is_recognised_too():
    finding = onnxruntime(Machine(trial=f"raise SystemExit({128 + signal.SIGILL})"))
    assert "SIGILL" in finding.says


def test_any_other_signal_is_named():
    finding = onnxruntime(Machine(trial="import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    assert (finding.outcome, "SIGSEGV" in finding.says) == ("fail", True)


def test_a_missing_module_is_said_with_pythons_own_last_line():
    finding = onnxruntime(Machine(trial="import fedge_no_such_module"))
    assert finding.outcome == "fail"
    assert "ModuleNotFoundError: No module named 'fedge_no_such_module'" in finding.says


def test_a_wrong_sum_is_no_success():
    assert "1 + 1 is 3" in onnxruntime(Machine(trial='raise AssertionError("1 + 1 is 3 here")')).says


def test_an_import_that_never_ends_is_ended():
    finding = onnxruntime(Machine(trial="import time; time.sleep(600)", trial_timeout_s=0.2))
    assert (finding.outcome, "more than" in finding.says) == ("fail", True)


def test_an_interpreter_that_is_gone_is_named(tmp_path):
    finding = onnxruntime(Machine(interpreter=(str(tmp_path / "python"),)))
    assert (finding.outcome, str(tmp_path) in finding.says) == ("fail", True)


@pytest.mark.parametrize(("available_mb", "outcome"), [(100, "fail"), (200, "warn"), (2000, "ok")])
def test_memory_is_what_is_available(tmp_path, available_mb, outcome):
    write(tmp_path / "meminfo", f"MemTotal:  4000000 kB\nMemFree: 10 kB\nMemAvailable: {available_mb * 1024} kB")
    finding = memory(Machine(proc=tmp_path))
    assert (finding.outcome, f"{available_mb} MB" in finding.says) == (outcome, True)


@pytest.mark.parametrize("text", [None, "MemTotal: 10 kB"])
def test_a_system_that_says_nothing_of_memory_is_no_fault(tmp_path, text):
    if text is not None:
        write(tmp_path / "meminfo", text)
    assert memory(Machine(proc=tmp_path)).outcome == "ok"


def test_without_sensors_the_model_speaks(tmp_path):
    (finding,) = power(Machine(sysfs=tmp_path, pmic=NO_PMIC))
    assert (finding.outcome, "model" in finding.says) == ("ok", True)


def test_each_sensor_has_its_line_and_one_without_a_figure_says_why(tmp_path):
    hwmon, rapl = tmp_path / "class/hwmon/hwmon0", tmp_path / "class/powercap/intel-rapl:0"
    write(hwmon / "name", "ina219")
    write(hwmon / "power1_input", 2_000_000)
    write(rapl / "name", "package-0")  # its counter is root's alone: not even listed here
    good, bad = power(Machine(sysfs=tmp_path, pmic=NO_PMIC))
    assert (good.outcome, "ina219" in good.says, str(hwmon) in good.says) == ("ok", True, True)
    assert (bad.outcome, "rapl" in bad.says, "energy_uj" in bad.says) == ("warn", True, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_counter_that_only_root_may_read_is_a_warning(tmp_path):
    zone = tmp_path / "class/powercap/intel-rapl:0"
    write(zone / "name", "package-0")
    write(zone / "energy_uj", 1)
    (zone / "energy_uj").chmod(0)
    assert power(Machine(sysfs=tmp_path, pmic=NO_PMIC))[0].outcome == "warn"


@pytest.mark.parametrize(("alarm", "warned"), [("1", True), ("0", False)])
def test_low_voltage_on_a_raspberry_pi_is_a_warning(tmp_path, alarm, warned):
    write(tmp_path / "class/hwmon/hwmon1/name", "rpi_volt")
    write(tmp_path / "class/hwmon/hwmon1/in0_lcrit_alarm", alarm)
    checks = {finding.check: finding.outcome for finding in power(Machine(sysfs=tmp_path, pmic=NO_PMIC))}
    assert ("supply" in checks) is warned


def test_the_doctor_itself_loads_neither_onnxruntime_nor_grpc():
    """Where their code cannot run, the doctor must."""
    import subprocess

    code = (
        "import sys, edge_client.doctor as d, pathlib, edge_client.settings as s; "
        "d.examine(s.DeviceHome(pathlib.Path('/nonexistent'))); "
        "print({'onnxruntime', 'grpc', 'numpy', 'flwr'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "set()"


def test_telemetry_is_reported_off_and_named_where_the_environment_turns_it_on():
    assert telemetry(Machine()).outcome == "ok"
    finding = telemetry(Machine(environment={**TELEMETRY_SWITCHES, "ORT_DISABLE_TELEMETRY": "0"}))
    assert finding.outcome == "warn"
    assert "ORT_DISABLE_TELEMETRY=0" in finding.says and "ORT_DISABLE_TELEMETRY" in finding.remedy
