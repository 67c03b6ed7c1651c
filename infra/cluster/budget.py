"""The cloud's own alert on what an environment really costs. It tells; what stops are pools' maxima and quotas."""

from __future__ import annotations

from infra.cluster.cloud import Cloud
from seaway.errors import SeawayError


def of_aws(cloud: Cloud, monthly_usd: float) -> None:
    wanted = cloud.settings
    if not _asked(cloud, "emails"):
        return
    told = {"comparison_operator": "GREATER_THAN", "threshold_type": "PERCENTAGE"}
    told["subscriber_email_addresses"] = list(wanted.alerts.emails)
    cloud.make(
        "budgets.Budget",
        "budget",
        name=wanted.name,
        budget_type="COST",
        limit_amount=f"{monthly_usd:g}",
        limit_unit="USD",
        time_unit="MONTHLY",
        # the tag counts once it is activated as a cost allocation tag
        cost_filters=[{"name": "TagKeyValue", "values": [f"user:seaway${wanted.name}"]}],
        notifications=[
            *({**told, "notification_type": "ACTUAL", "threshold": p} for p in wanted.alerts.percent),
            {**told, "notification_type": "FORECASTED", "threshold": 100},
        ],
    )


def of_gcp(cloud: Cloud, monthly_usd: float) -> None:
    wanted = cloud.settings
    if not _asked(cloud, "billing_account"):
        return
    rules = [{"threshold_percent": p / 100} for p in wanted.alerts.percent]
    cloud.make(
        "billing.Budget",
        "budget",
        billing_account=wanted.alerts.billing_account,
        display_name=wanted.name,
        amount={"specified_amount": {"currency_code": "USD", "units": str(round(monthly_usd))}},
        budget_filter={"projects": [f"projects/{wanted.project}"], "labels": {"seaway": wanted.name}},
        threshold_rules=[*rules, {"threshold_percent": 1.0, "spend_basis": "FORECASTED_SPEND"}],
    )


def _asked(cloud: Cloud, key: str) -> bool:
    if cloud.settings.protect and not getattr(cloud.settings.alerts, key):
        raise SeawayError(f"alerts.{key} is missing, and nobody would hear of a bill beyond the budget: add it")
    return bool(getattr(cloud.settings.alerts, key))
