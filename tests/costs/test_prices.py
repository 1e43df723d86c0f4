"""The price book and the profiles: sourced, dated, strict."""

import json
import os
import re
from pathlib import Path

import pytest

from fedge.costs import DeviceProfile, PriceBook, load_profiles, profiles_from_toml
from fedge.costs.figures import packaged_text
from fedge.costs.prices import DEFAULT_BOOK
from fedge.costs.profiles import DEFAULT_PROFILES
from fedge.errors import InputError

BOOK = packaged_text(DEFAULT_BOOK)
PROFILES = packaged_text(DEFAULT_PROFILES)
NANO = "[models.nano]\ninput_usd_per_mtok = 0.20"
EGRESS = "[figures.server_egress_usd_per_gb]\nvalue = 0.09"


def test_the_default_answer_costs_seventy_five_cents_a_thousand():
    book = PriceBook.load_default()
    assert book.version == "2026-08"
    assert book.central_model == "small"
    assert book.central_price_usd * 1000 == pytest.approx(0.75)


@pytest.mark.parametrize(("model", "usd_per_1k"), [("nano", 0.1525), ("small", 0.75), ("middle", 2.25), ("frontier", 3.80)])
def test_each_class_at_700_and_10_tokens(model, usd_per_1k):
    assert PriceBook.load_default().with_model(model).central_price_usd * 1000 == pytest.approx(usd_per_1k)


def test_unit_prices_follow_from_the_figures():
    book = PriceBook.load_default()
    assert book.device_electricity_usd_per_j * 3.6e6 == pytest.approx(0.1872)
    assert book.server_egress_usd_per_byte * 1e9 == pytest.approx(0.09)
    assert book.server_ingress_usd_per_byte == 0
    assert book.device_network_usd_per_byte == 0
    assert book.central_core_usd_per_s * 3600 == pytest.approx(0.04048)
    assert book.central_energy_j_per_query == pytest.approx(864)
    metered = PriceBook.from_toml(BOOK.replace('value = 0.0\nsource = "assumption', 'value = 2.5\nsource = "assumption'))
    assert metered.device_network_usd_per_byte == pytest.approx(2.5e-9)


def test_every_figure_has_a_source_and_a_date():
    book = PriceBook.load_default()
    dated = [*book.figures.values(), *book.models.values()]
    for profile in load_profiles().values():
        dated += profile.figures.values()
    for figure in dated:
        assert len(figure.source) > 10
        assert re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", figure.date)


def test_an_unknown_model_is_refused_by_name():
    with pytest.raises(InputError, match="giant"):
        PriceBook.load_default().with_model("giant")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('version = "2026-08"', 'version = "2026-08"\ncolour = 1', "colour"),
        ('version = "2026-08"', "", "version"),
        ('version = "2026-08"', "version = 3", "version"),
        ("tokens_in = 700", "tokens_in = -1", "tokens_in"),
        ("tokens_in = 700", "tokens_in = true", "tokens_in"),
        ("tokens_in = 700", "tokens_in = 7.5", "tokens_in"),
        ('model = "small"', 'model = "giant"', "giant"),
        (NANO, NANO.replace("0.20", "-0.20"), "models.nano.input_usd_per_mtok"),
        (NANO, "[models.nano]", "input_usd_per_mtok"),
        (EGRESS, EGRESS.replace("0.09", "nan"), "figures.server_egress"),
        (EGRESS, EGRESS.replace("0.09", "'1'"), "figures.server_egress"),
        ("[figures.server_egress_usd_per_gb]", "[figures.egress]", "egress"),
        ('date = "2026-04"', 'date = "last year"', "date"),
        ('date = "2026-04"', "date = 2026-04-01", "date"),
        ('source = "US residential average', 'source = ""#', "source"),
        ("[figures.", "[[figures.", "TOML"),
        (EGRESS, EGRESS.replace("0.09", "9" * 400), "figures.server_egress"),
        (EGRESS, EGRESS.replace("0.09", "9" * 5_000), "TOML"),
        ('version = "2026-08"', "version = " + "[" * 2_000, "nests too deep"),
    ],
)
def test_a_book_is_read_strictly(old, new, named):
    assert old in BOOK
    with pytest.raises(InputError, match=named):
        PriceBook.from_toml(BOOK.replace(old, new, 1))


def test_a_book_without_models_or_with_flat_parts_is_refused():
    for text in ("version='x'\ncentral=1\nmodels={}\nfigures={}", BOOK.replace("[central]", "[central.deep]"), "models = 3"):
        with pytest.raises(InputError):
            PriceBook.from_toml(text)


def test_four_boards_and_a_card_to_compare_with_ship():
    profiles = load_profiles()
    assert set(profiles) == {"raspberry-pi-4", "raspberry-pi-5", "jetson-orin-nano", "laptop", "data-centre-gpu"}
    for name, profile in profiles.items():
        assert profile.name == name
        assert profile.active_w > 0


def test_energy_of_work_on_a_raspberry_pi_4_in_closed_form():
    """(6.4 - 2.7) W over 4 cores is 0.925 W a core: about 1 mJ for a millisecond."""
    pi = load_profiles()["raspberry-pi-4"]
    assert pi.active_w == pytest.approx(0.925)
    assert pi.inference_j(1000) == pytest.approx(1000 * 8 * 98e-6 * 0.925)
    assert pi.training_j(10) == pytest.approx(10 * 8 * 0.33e-3 * 0.925)
    assert pi.radio_j(1_000_000, 0) == pytest.approx(1.9)
    assert pi.radio_j(0, 1_000_000) == pytest.approx(0.42)
    assert pi.idle_w == 2.7
    assert pi.hardware_usd_per_s * 365.25 * 86_400 == pytest.approx(11.0)


def test_each_kind_of_model_was_timed_once_and_is_scaled_to_each_device() -> None:
    """Pixels: 48 us and 54 us on x86, a Raspberry Pi 4 is 8 times slower; the source says what was measured and what not."""
    text, pixels = load_profiles()["raspberry-pi-4"], load_profiles("pixels")["raspberry-pi-4"]
    assert pixels.inference_j(1000) == pytest.approx(1000 * 8 * 48e-6 * 0.925)
    assert pixels.training_j(10) == pytest.approx(10 * 8 * 54e-6 * 0.925)
    assert pixels.secagg_j(1) == text.secagg_j(1)
    assert load_profiles("pixels")["laptop"].value("inference_s") == pytest.approx(48e-6)
    for profile in load_profiles().values():
        assert profile.figures["inference_s"].source.startswith("scaled by")
        assert "measured on x86" in profile.figures["inference_s"].source
    with pytest.raises(InputError, match="speech"):
        load_profiles("speech")


@pytest.mark.skipif("FEDGE_DATA" not in os.environ, reason="needs the price list in $FEDGE_DATA")
def test_list_prices_are_those_of_the_list_that_they_name() -> None:
    path = Path(os.environ["FEDGE_DATA"]) / "prices_energy" / "prices_2026-08.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    document = json.loads(path.read_text())
    listed = {entry["id"]: entry for entry in document["prices"]}
    for model in PriceBook.load_default().models.values():
        named = model.source.removeprefix("list price of ").split(" ")[0].rstrip(",")
        assert model.input_usd_per_mtok == listed[named]["input_usd_per_mtok"]
        assert model.output_usd_per_mtok == listed[named]["output_usd_per_mtok"]
        assert model.source.partition("@ ")[2] in document["source"]
        assert model.date in document["source"]


def test_the_attributed_share_scales_what_merely_stands_there():
    laptop = load_profiles()["laptop"]
    assert laptop.idle_w == pytest.approx(0.05 * 5.9)
    assert laptop.hardware_usd_per_s * 365.25 * 86_400 == pytest.approx(0.05 * 800 / 4)
    assert isinstance(laptop, DeviceProfile)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("idle_w = { value = 2.7,", "idle_w = { value = 7.0,", "load_w"),
        ("cores = { value = 4,", "cores = { value = 0,", "cores"),
        ("life_years = { value = 5.0,", "life_years = { value = 0,", "life_years"),
        ("attributed_share = { value = 1.0,", "attributed_share = { value = 1.1,", "attributed_share"),
        ("idle_w = { value = 2.7,", "idle_w = { worth = 2.7,", "worth"),
        ("idle_w = { value = 2.7,", "idle_watts = { value = 2.7,", "idle_watts"),
        ("idle_w = { value = 2.7,", "idle_w = { value = true,", "idle_w"),
        ('version = "2026-11"', 'version = ""', "version"),
        ("[models.text]", "[models.speech]", "speech"),
        ("inference_s = { value = 9.8e-05,", "inference_s = { value = -1,", "models.text.inference_s"),
        ("training_step_s = { value = 5.4e-05,", "training_s = { value = 5.4e-05,", "training_s"),
        ("slower = { value = 8,", "slower = { value = inf,", "slower"),
    ],
)
def test_profiles_are_read_strictly(old, new, named):
    assert old in PROFILES
    with pytest.raises(InputError, match=named):
        profiles_from_toml(PROFILES.replace(old, new, 1))


def test_profiles_must_be_tables():
    head = 'version = "x"\n' + PROFILES[PROFILES.index("[models.text]") : PROFILES.index("[profiles.raspberry-pi-4]")]
    for text in (head + "profiles = 3", head + "[profiles]", head + "[profiles]\npi = 3", "profiles = {}"):
        with pytest.raises(InputError):
            profiles_from_toml(text)
