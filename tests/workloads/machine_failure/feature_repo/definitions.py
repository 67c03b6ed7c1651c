"""The features of the failure model: what each one is, once, for the table and for the request alike."""

from __future__ import annotations

from seaway.features import FeatureSpec, Latest, Request, Window

FEATURES = FeatureSpec(
    version="machine_failure_v1",
    time="measured_at",
    inputs=("machine_id", "site_id", "vibration", "temperature", "load", "measured_at"),
    requests=(
        Request("vibration_now", column="vibration", reason="vibration measured now, mm/s"),
        Request("temperature_now", column="temperature", reason="temperature measured now, in degrees"),
        Request("load_now", column="load", reason="load of the machine now"),
        Request("night_shift", column="measured_at", op="hour_at_most", argument=5, reason="before 6 h"),
    ),
    windows=(
        Window(
            view="machine_readings",
            entity="machine",
            key="machine_id",
            value="vibration",
            count="machine_readings_{n}h",
            mean="machine_vibration_{n}h",
            windows=("6h", "24h", "72h"),
            quantum=0.01,
            include_current=True,
            reason_count="readings of this machine in {n} hours",
            reason_mean="mean vibration of this machine in {n} hours",
        ),
        Window(
            view="site_failures",
            entity="site",
            key="site_id",
            value="failed_within_24h",
            count="site_readings_{n}d",
            mean="site_failure_share_{n}d",
            windows=("1d", "3d", "7d"),
            delay="2d",
            reason_count="readings at this site in {n} days, two days ago",
            reason_mean="share of readings before a failure at this site in {n} days, two days ago",
        ),
    ),
    latest=(
        Latest(
            view="machine_maintenance",
            entity="machine",
            key="machine_id",
            source="maintenance",
            columns={"wear_at_inspection": "wear", "hours_since_service": "operating_hours"},
            ttl="30d",
            default=0.0,
            reason="at the machine's last inspection",
        ),
    ),
)
OWNER = "plant-reliability"
