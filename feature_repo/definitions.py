"""The features of the card model: what each one is, once, for the table and for the request alike.

These are the fifteen published inputs of the public simulator's data set: the amount and two flags of
the request, count and mean amount of the customer's last 1, 7 and 30 days including the current
transaction, and count and fraud share of the terminal over 1, 7 and 30 days that end one label delay
before it. This module imports no feature store, so that every process can read it.
"""

from __future__ import annotations

from seaway.features import FeatureSpec, Request, Window

FEATURES = FeatureSpec(
    version="card_fraud_v1",
    time="TX_DATETIME",
    inputs=("CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_DATETIME"),
    requests=(
        Request("TX_AMOUNT", column="TX_AMOUNT", reason="amount of this payment"),
        Request("TX_DURING_WEEKEND", column="TX_DATETIME", op="weekend", reason="made at the weekend"),
        Request(
            "TX_DURING_NIGHT", column="TX_DATETIME", op="hour_at_most", argument=6, reason="made at night, before 7 h"
        ),
    ),
    windows=(
        Window(
            view="customer",
            entity="customer",
            key="CUSTOMER_ID",
            value="TX_AMOUNT",
            count="CUSTOMER_ID_NB_TX_{n}DAY_WINDOW",
            mean="CUSTOMER_ID_AVG_AMOUNT_{n}DAY_WINDOW",
            quantum=0.01,
            include_current=True,
            reason_count="payments of this customer in {n} days",
            reason_mean="mean payment of this customer in {n} days",
        ),
        Window(
            view="terminal",
            entity="terminal",
            key="TERMINAL_ID",
            value="TX_FRAUD",
            count="TERMINAL_ID_NB_TX_{n}DAY_WINDOW",
            mean="TERMINAL_ID_RISK_{n}DAY_WINDOW",
            delay="7d",
            reason_count="payments at this terminal in {n} days, a week ago",
            reason_mean="share of fraud at this terminal in {n} days, a week ago",
        ),
    ),
)
OWNER = "card-risk"
