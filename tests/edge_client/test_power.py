"""Power sensors over sysfs trees in the kernel's layout, and what is made of them for the ledger."""

import itertools
import threading
from pathlib import Path

import pytest

from edge_client.power import PowerMeter, SensorError, Spent, find_sensors
from edge_client.power.accounting import EnergyMeter
from edge_client.power.battery import supply
from edge_client.power.pmic import rails_w
from edge_client.store import open_memory
from fedge.costs import Kind, PriceBook, load_profiles

NO_PMIC = ("fedge-no-such-program",)
PI_5 = """ 3V7_WL_SW_A current(0)=0.09757125A
   3V3_SYS_A current(1)=0.05855325A
  VDD_CORE_A current(7)=0.88200000A
 3V7_WL_SW_V volt(8)=3.69963100V
   3V3_SYS_V volt(9)=3.30956900V
  VDD_CORE_V volt(15)=0.72143330V
     EXT5V_V volt(24)=5.15100100V
      BATT_V volt(25)=0.00000000V
"""


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def ina219(number: int = 2, *, milliwatts: int = 4000) -> dict[str, object]:
    at = f"class/hwmon/hwmon{number}"
    return {
        f"{at}/name": "ina219",
        f"{at}/in0_input": 8,  # the shunt
        f"{at}/in1_input": 5100,
        f"{at}/curr1_input": 800,
        f"{at}/power1_input": milliwatts * 1000,
    }


def ina3221(labels: tuple[str, str, str] = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")) -> dict[str, object]:
    at = "class/hwmon/hwmon1"
    files: dict[str, object] = {f"{at}/name": "ina3221"}
    for n, (label, milliamperes) in enumerate(zip(labels, (1000, 300, 200), strict=True), start=1):
        files |= {f"{at}/in{n}_label": label, f"{at}/in{n}_input": 5000, f"{at}/curr{n}_input": milliamperes}
    return files


def battery(status: str = "Discharging") -> dict[str, object]:
    at = "class/power_supply"
    return {
        f"{at}/BAT0/type": "Battery",
        f"{at}/BAT0/status": status,
        f"{at}/BAT0/current_now": -1_000_000,
        f"{at}/BAT0/voltage_now": 11_000_000,
        f"{at}/mouse/type": "Battery",
        f"{at}/mouse/scope": "Device",
        f"{at}/mouse/status": "Discharging",
        f"{at}/mouse/power_now": 9_000_000,
        f"{at}/AC/type": "Mains",
        f"{at}/AC/online": 0,
    }


def rapl(package_uj: int, *, platform_uj: int | None = None, largest: int = 999_999_999) -> dict[str, object]:
    at = "class/powercap"
    files: dict[str, object] = {
        f"{at}/intel-rapl/enabled": 1,
        f"{at}/intel-rapl:0/name": "package-0",
        f"{at}/intel-rapl:0/energy_uj": package_uj,
        f"{at}/intel-rapl:0/max_energy_range_uj": largest,
        f"{at}/intel-rapl:0:0/name": "core",
        f"{at}/intel-rapl:0:0/energy_uj": 5_000_000,
    }
    if platform_uj is not None:
        files |= {
            f"{at}/intel-rapl:1/name": "psys",
            f"{at}/intel-rapl:1/energy_uj": platform_uj,
            f"{at}/intel-rapl:1/max_energy_range_uj": largest,
        }
    return files


def joules_of_two_seconds(sysfs: Path, index: int = 0) -> float:
    sensor = find_sensors(sysfs, pmic=NO_PMIC)[index]
    sensor.begin(10.0)
    return sensor.advance(12.0)


class Time:
    """A stopwatch that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# Each sensor, in the kernel's units.


def test_an_ina219_says_its_power_register_in_microwatts(tmp_path):
    assert joules_of_two_seconds(tree(tmp_path, ina219(milliwatts=4080))) == pytest.approx(2 * 4.08)


def test_an_ina219_without_that_register_is_bus_volts_times_amperes(tmp_path):
    tree(tmp_path, ina219())
    (tmp_path / "class/hwmon/hwmon2/power1_input").unlink()
    assert joules_of_two_seconds(tmp_path) == pytest.approx(2 * 5.1 * 0.8)


def test_of_a_jetsons_ina3221_the_input_rail_counts_alone(tmp_path):
    assert joules_of_two_seconds(tree(tmp_path, ina3221())) == pytest.approx(2 * 5.0)


def test_an_ina3221_without_an_input_rail_is_the_sum_of_the_channels_in_use(tmp_path):
    tree(tmp_path, {**ina3221(("a", "b", "c")), "class/hwmon/hwmon1/in3_enable": 0})
    assert joules_of_two_seconds(tmp_path) == pytest.approx(2 * (5.0 + 1.5))


def test_a_battery_counts_while_it_discharges_whatever_the_sign_and_mice_do_not(tmp_path):
    assert joules_of_two_seconds(tree(tmp_path, battery())) == pytest.approx(2 * 11.0)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_a_battery_that_is_not_the_supply_says_nothing(tmp_path, status):
    with pytest.raises(SensorError, match=status):
        joules_of_two_seconds(tree(tmp_path, battery(status)))


def test_rapl_counts_packages_not_the_zones_inside_them(tmp_path):
    sensor = find_sensors(tree(tmp_path, rapl(1_000_000)), pmic=NO_PMIC)[0]
    sensor.begin(0.0)
    tree(tmp_path, rapl(8_500_000))
    assert (sensor.source, sensor.scope, sensor.advance(1.0)) == ("rapl", "processor", pytest.approx(7.5))


def test_a_rapl_counter_that_wrapped_around_went_on_from_zero(tmp_path):
    sensor = find_sensors(tree(tmp_path, rapl(999_000_000)), pmic=NO_PMIC)[0]
    sensor.begin(0.0)
    tree(tmp_path, rapl(500_000))
    assert sensor.advance(1.0) == pytest.approx(1.5)
    tree(tmp_path, rapl(600_000))
    assert sensor.advance(2.0) == pytest.approx(0.1)


def test_where_the_platform_is_counted_the_packages_are_within_it(tmp_path):
    sensor = find_sensors(tree(tmp_path, rapl(0, platform_uj=0)), pmic=NO_PMIC)[0]
    sensor.begin(0.0)
    tree(tmp_path, rapl(4_000_000, platform_uj=9_000_000))
    assert (sensor.scope, sensor.advance(1.0)) == ("board", pytest.approx(9.0))


def test_the_pmics_rails_count_where_both_figures_are_shown():
    assert rails_w(PI_5) == pytest.approx(0.09757125 * 3.699631 + 0.05855325 * 3.309569 + 0.882 * 0.7214333)


@pytest.mark.parametrize("text", ["", 'error=1 error_msg="Command not registered"', "EXT5V_V volt(24)=5.1V"])
def test_a_board_without_that_chip_says_nothing(text):
    with pytest.raises(SensorError):
        rails_w(text)


def program(path: Path, script: str) -> tuple[str, ...]:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return (str(path), "pmic_read_adc")


def test_the_pmic_is_asked_through_its_program(tmp_path):
    (tmp_path / "said").write_text(PI_5)
    (sensor,) = find_sensors(
        tmp_path, pmic=program(tmp_path / "vcgencmd", f'test "$1" = pmic_read_adc && cat {tmp_path}/said')
    )
    sensor.begin(0.0)
    assert (sensor.source, sensor.advance(1.0)) == ("pmic", pytest.approx(rails_w(PI_5)))


def test_a_program_that_fails_is_a_sensor_without_a_figure(tmp_path):
    (sensor,) = find_sensors(tmp_path, pmic=program(tmp_path / "vcgencmd", "exit 255"))
    with pytest.raises(SensorError, match="code 255"):
        sensor.begin(0.0)


@pytest.mark.parametrize("content", ["", "many", "1.5"])
def test_a_file_that_holds_no_whole_number_is_no_figure(tmp_path, content):
    tree(tmp_path, {**ina219(), "class/hwmon/hwmon2/power1_input": content})
    with pytest.raises(SensorError, match="power1_input"):
        joules_of_two_seconds(tmp_path)


# The chain.


def test_the_chain_has_its_order_and_names_every_source(tmp_path):
    tree(tmp_path, {**rapl(0), **battery(), **ina3221(), **ina219()})
    found = find_sensors(tmp_path, pmic=program(tmp_path / "vcgencmd", "exit 1"))
    assert [sensor.source for sensor in found] == ["ina219", "ina3221", "pmic", "battery", "rapl"]
    assert all(sensor.where for sensor in found)


def test_an_empty_or_missing_sysfs_has_no_sensors(tmp_path):
    assert find_sensors(tmp_path, pmic=NO_PMIC) == []
    assert find_sensors(tmp_path / "nowhere", pmic=NO_PMIC) == []


def test_a_sensor_that_falls_silent_hands_over_and_takes_over_again(tmp_path):
    time = Time()
    meter = PowerMeter(find_sensors(tree(tmp_path, {**battery(), **ina219()}), pmic=NO_PMIC), time)
    heard = []
    for unplugged in (False, True, False):
        tree(tmp_path, {"class/hwmon/hwmon2/power1_input": "" if unplugged else 4_000_000})
        time.now += 1
        meter.rest()
        heard.append(meter.source)
    assert heard == ["ina219", "battery", "ina219"]


# What a piece of work cost.


def at_rest(tmp_path: Path, time: Time, *, milliwatts: int = 2700) -> PowerMeter:
    meter = PowerMeter(find_sensors(tree(tmp_path, ina219(milliwatts=milliwatts)), pmic=NO_PMIC), time)
    for _ in range(4):
        time.now += 5
        meter.rest()
    return meter


def test_work_costs_what_was_drawn_beyond_rest(tmp_path):
    time = Time()
    meter = at_rest(tmp_path, time)
    assert meter.rest_w == pytest.approx(2.7)
    with meter.span() as span:
        tree(tmp_path, ina219(milliwatts=6400))
        time.now += 10
        meter.rest()  # not at rest now, and not counted as such
    # Ten seconds from 2.7 W at the first look to 6.4 W at the last.
    assert span.spent is not None
    assert (span.spent.source, span.spent.joules) == ("ina219", pytest.approx(10 * (2.7 + 6.4) / 2 - 10 * 2.7))
    assert meter.rest_w == pytest.approx(2.7)


def test_long_work_is_looked_at_while_it_runs(tmp_path):
    """The stopwatch moves a second a look, so the figure shows how often the sensor was read."""
    ticks = itertools.count()
    enough = threading.Event()

    def stopwatch() -> float:
        now = next(ticks)
        if now >= 12:
            enough.set()
        return float(now)

    meter = PowerMeter(find_sensors(tree(tmp_path, ina219(milliwatts=1000)), pmic=NO_PMIC), stopwatch)
    for _ in range(4):
        meter.rest()
    with meter.span() as span:
        tree(tmp_path, ina219(milliwatts=3000))
        assert enough.wait(60)
    assert span.spent is not None
    # All looks but the first are at 3 W: one second at the mean of 1 and 3, the others at 3, less 1 W throughout.
    seconds = next(ticks) - 1 - 4
    assert span.spent.joules == pytest.approx(1 + 2 * (seconds - 1))


def test_work_is_not_measured_without_a_figure_for_rest_nor_when_it_was_short(tmp_path):
    time = Time()
    unrested = PowerMeter(find_sensors(tree(tmp_path, ina219()), pmic=NO_PMIC), time)
    with unrested.span() as span:
        time.now += 10
    assert span.spent is None
    rested = at_rest(tmp_path, time)
    with rested.span() as span:
        time.now += 0.4
    assert span.spent is None


def test_work_is_not_measured_when_another_source_took_over_in_between(tmp_path):
    time = Time()
    meter = at_rest(tree(tmp_path, battery()), time)
    with meter.span() as span:
        tree(tmp_path, {"class/hwmon/hwmon2/power1_input": ""})
        time.now += 10
    assert (span.spent, meter.source) == (None, "battery")


def test_two_pieces_of_work_at_once_are_not_told_apart(tmp_path):
    time = Time()
    meter = at_rest(tmp_path, time)
    with meter.span() as outer:
        time.now += 5
        with meter.span() as inner:
            time.now += 5
    assert (outer.spent, inner.spent) == (None, None)
    with meter.span() as alone:
        time.now += 5
    assert alone.spent is not None


def test_without_sensors_nothing_is_measured(tmp_path):
    meter = PowerMeter([], Time())
    meter.rest()
    with meter.span() as span:
        pass
    assert (span.spent, meter.source, meter.rest_w) == (None, None, None)


def test_a_draw_below_rest_costs_nothing_and_never_less(tmp_path):
    time = Time()
    meter = at_rest(tmp_path, time)
    with meter.span() as span:
        tree(tmp_path, ina219(milliwatts=1000))
        time.now += 10
    assert span.spent == Spent(0.0, "ina219")


# The ledger.


def test_measured_work_is_divided_as_the_model_would_and_names_the_sensor():
    meter = EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"])
    modelled = meter.work(steps=100, scored=50, at=1.0)
    assert {row.source for row in modelled} == {"model"}
    measured = meter.work(steps=100, scored=50, at=1.0, spent=Spent(6.0, "ina219"))
    assert [(row.kind, row.source) for row in measured] == [
        (Kind.DEVICE_TRAINING, "ina219"),
        (Kind.DEVICE_INFERENCE, "ina219"),
    ]
    assert sum(row.quantity for row in measured) == pytest.approx(6.0)
    assert measured[0].quantity / measured[1].quantity == pytest.approx(modelled[0].quantity / modelled[1].quantity)
    assert sum(row.amount_usd for row in measured) == pytest.approx(6.0 * meter.book.device_electricity_usd_per_j)


def test_the_store_sums_energy_by_who_says_so_before_and_after_folding(tmp_path):
    time = Time()
    power = at_rest(tmp_path, time)
    meter = EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"], power)
    store = open_memory()
    with meter.watch() as watched:
        tree(tmp_path, ina219(milliwatts=4700))
        time.now += 10
    store.ledger.append(meter.work(steps=10, scored=0, at=1.0, spent=watched.spent))
    store.ledger.append([meter.inference(queries=1, at=2.0)])
    joules = store.ledger.energy_j()
    assert joules == {"ina219": pytest.approx(10.0), "model": pytest.approx(meter.profile.inference_j(1))}
    store.ledger.fold(store.ledger.mark())
    assert store.ledger.energy_j() == pytest.approx(joules)


OUTSIDE = {"class/power_supply/AC/type": "Mains", "class/power_supply/AC/online": 1}
USB_C = {"class/power_supply/tcpm/type": "USB", "class/power_supply/tcpm/online": 2}
MOUSE = {
    "class/power_supply/mouse/type": "Battery",
    "class/power_supply/mouse/scope": "Device",
    "class/power_supply/mouse/status": "Discharging",
}


@pytest.mark.parametrize(
    ("files", "runs_on"),
    [
        ({}, "unknown"),
        (MOUSE, "unknown"),
        ({"class/power_supply/AC/type": "Mains", "class/power_supply/AC/online": 0}, "unknown"),
        (OUTSIDE, "mains"),
        (USB_C, "mains"),
        (battery(), "battery"),
        (battery() | OUTSIDE, "battery"),  # a weak supply: what is plugged in does not carry the machine
        (battery("Charging"), "mains"),
        (battery("Full"), "mains"),
        (battery("Not charging") | OUTSIDE, "mains"),
        (battery("Unknown"), "unknown"),
        ({"class/power_supply/BAT0/type": "Battery"}, "unknown"),
    ],
)
def test_what_a_machine_runs_on_is_what_its_kernel_says_and_else_not_known(files, runs_on, tmp_path):
    assert supply(tree(tmp_path, files)) == runs_on
