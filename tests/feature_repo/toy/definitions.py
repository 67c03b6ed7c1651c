from seaway.features import FeatureSpec, Latest, Request, Window

SPEC = FeatureSpec(
    version="toy_v1",
    time="at",
    inputs=("person", "shop", "price", "at"),
    requests=(
        Request("price", "price"),  # named like its input
        Request("weekend", "at", "weekend"),
        Request("night", "at", "hour_at_most", 6),
    ),
    windows=(
        Window(
            view="spending",
            entity="person",
            key="person",
            value="price",
            count="visits_{n}d",
            mean="price_{n}d",
            windows=("1d", "3d"),
            quantum=0.01,
            include_current=True,
        ),
        Window(
            view="returns",
            entity="shop",
            key="shop",
            value="returned",
            count="shop_visits_{n}d",
            mean="shop_returns_{n}d",
            windows=("1d", "4d"),
            delay="2d",
        ),
    ),
    latest=(
        Latest(
            view="rating",
            entity="shop",
            key="shop",
            source="ratings",
            columns={"stars": "stars"},
            ttl="3d",
            default=-1.0,
        ),
    ),
)
