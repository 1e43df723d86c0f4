"""Power sensors of a device: INA219, INA3221, the Raspberry Pi's PMIC, a battery, RAPL, in that order; then the model."""

from edge_client.power.base import Scope, Sensor, SensorError
from edge_client.power.meter import PowerMeter, Span, Spent, find_sensors

__all__ = ["PowerMeter", "Scope", "Sensor", "SensorError", "Span", "Spent", "find_sensors"]
