"""What is scored: a table of features as partitions, and the rows of one of them.

A folder is one partition a file; a file of this machine with the events' time is one a day (UTC), any other file is
one. A folder of the feature step holds ``features.parquet``, which is either, and beside it a table a view.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.score.places import Place
from seaway.errors import SeawayError
from seaway.features import HASH_KEY, FeatureSpec

if TYPE_CHECKING:
    import polars as pl

MAIN, SUFFIX = "features.parquet", ".parquet"


@dataclass(frozen=True)
class Part:
    """One partition: the file ``file`` of ``place``, or its rows of one ``day`` by the column ``time``.

    ``tag`` is the same as long as the file is; of a file of this machine it may be left to ``tagged``. ``views``:
    tables of the feature step's that are joined to the rows.
    """

    name: str
    place: Place
    file: str
    tag: str
    day: date | None = None
    time: str = ""
    rows: int | None = None
    views: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.place.name(self.file)}{f' of {self.day}' if self.day else ''}"


def partitions(place: Place, spec: FeatureSpec, start: date | None = None, end: date | None = None) -> list[Part]:
    """The partitions of a file or folder in the order of their names, those of days from ``start`` up to ``end``.

    SeawayError where there is none, or two have one name, or a range of days is asked of what has no days.
    """
    if not place.remote and (Path(place.root) / MAIN).exists():
        views = {v.view: place.name(f"{v.view}{SUFFIX}") for v in spec.latest}
        main = Place(place.name(MAIN))
        return [replace(part, views=views) for part in partitions(main, spec, start, end)]
    if not place.remote and not Path(place.root).is_dir():
        found = _of_file(place, spec)
    else:
        files = {name: tag for name, tag in place.found().items() if name.endswith(SUFFIX)}
        tags = files if place.remote else dict.fromkeys(files, "")
        found = [Part(name.removesuffix(SUFFIX).replace("/", "-"), place, name, tag) for name, tag in tags.items()]
        if not found and place.root.endswith(SUFFIX):
            folder, _, name = place.root.rpartition("/")
            parent = replace(place, root=folder)
            tags = {n: t for n, t in parent.found().items() if n == name}
            found = [Part(name.removesuffix(SUFFIX), parent, name, tag) for name, tag in tags.items()]
    if not found:
        raise SeawayError(f"{place.name()} holds no Parquet file to score: give a file or folder of feature rows")
    _distinct(found)
    if start is None and end is None:
        return sorted(found, key=lambda part: part.name)
    chosen = [part for part in found if (start is None or _day(part) >= start) and (end is None or _day(part) < end)]
    if not chosen:
        days = sorted(map(_day, found))
        raise SeawayError(f"{place.name()} has days from {days[0]} to {days[-1]}, none of those that are asked for")
    return sorted(chosen, key=lambda part: part.name)


def tagged(part: Part) -> Part:
    """With its tag, for which a file is read once."""
    return part if part.tag else replace(part, tag=part.place.sha256(part.file))


def _of_file(place: Place, spec: FeatureSpec) -> list[Part]:
    import polars as pl

    path = Path(place.root)
    if not path.is_file():
        raise SeawayError(f"{path} does not exist: --data is a Parquet file or a folder of them")
    folder = Place(str(path.parent))
    tag = folder.sha256(path.name)
    with told(str(path)):
        if not isinstance(pl.read_parquet_schema(path).get(spec.time), pl.Datetime):
            return [Part(path.stem, folder, path.name, tag)]
        days = pl.scan_parquet(path).group_by(pl.col(spec.time).dt.date().alias("day")).len().collect()
    if days["day"].null_count():
        raise SeawayError(f"{path} has rows without {spec.time!r}: give them one, or a file without that column")
    return [Part(day.isoformat(), folder, path.name, tag, day, spec.time, n) for day, n in days.sort("day").iter_rows()]


def _distinct(found: Iterable[Part]) -> None:
    known: dict[str, Part] = {}
    for part in found:
        if part.name in known:
            raise SeawayError(f"{part} and {known[part.name]} would be one partition: name their files differently")
        known[part.name] = part


def _day(part: Part) -> date:
    try:
        return part.day or date.fromisoformat(part.name)
    except ValueError:
        raise SeawayError(
            f"{part} is not named by its day, such as 2018-04-01{SUFFIX}: leave --from and --to"
        ) from None


@contextmanager
def told(what: str) -> Iterator[None]:
    """Tells of what cannot be read as a SeawayError that names it."""
    import polars as pl

    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        text = " ".join(str(error).split())[:200]
        raise SeawayError(f"{what} cannot be read ({text}): is it a whole Parquet file?") from None


def read(
    part: Part, spec: FeatureSpec, feature_hash: str, also: Iterable[str], must: Iterable[str] = ()
) -> pl.DataFrame:
    """A partition's rows: the spec's features as float32, those of the columns ``also`` that are there, and ``must``.

    Raises SeawayError for a file that cannot be read, features of other definitions, and a column that is missing.
    """
    import polars as pl

    source = part.place.source(part.file)
    with told(str(part)):
        claimed = pl.read_parquet_metadata(source).get(HASH_KEY, feature_hash)
        schema = pl.read_parquet_schema(source)
    if claimed != feature_hash:
        raise SeawayError(
            f"{part} holds features of hash {claimed[:12]}..., the version was trained on {feature_hash[:12]}...: "
            "compute them with its definitions, or score with a version of these"
        )
    joins = [v for v in spec.latest if v.view in part.views and not set(v.names) <= set(schema)]
    later = {name for v in joins for name in v.names}
    keys = [name for v in joins for name in (v.key, "event_timestamp")]
    names = [name for name in spec.names if name not in later]
    if missing := [name for name in (*names, *keys) if name not in schema]:
        few = f"{', '.join(missing[:5])}{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}"
        raise SeawayError(f"{part} lacks the column {few}: it is no table of this version's features")
    if apart := [name for name in must if name not in schema and name not in spec.names]:
        raise SeawayError(f"{part} lacks the column {apart[0]}, by which the version's rows go to models of slices")
    if odd := [name for name in names if not (schema[name].is_numeric() or schema[name] == pl.Boolean)]:
        raise SeawayError(f"{part}: the column {odd[0]!r} is {schema[odd[0]]}, no number")
    wanted = list(dict.fromkeys(name for name in (*names, *keys, *also, *must, part.time) if name in schema))
    with told(str(part)):
        rows = pl.scan_parquet(source)
        if part.day:
            rows = rows.filter(pl.col(part.time).dt.date() == part.day)
        frame = rows.select(wanted).collect()
    for view in joins:
        frame = _join(frame, view, part.views[view.view])
    return frame.with_columns(pl.col(n).cast(pl.Float32) for n in spec.names if frame.schema[n] != pl.Float32)


def _join(frame: pl.DataFrame, view: Any, table: str) -> pl.DataFrame:
    """The rows with the newest values of another source as of each of them, as the data set has them."""
    from datetime import timedelta

    import polars as pl

    from seaway.asof_join import as_utc, join, prepare
    from seaway.features import MICRO, micros
    from seaway.parts import scan

    moment = as_utc("event_timestamp", frame.schema)
    left = frame.with_columns(moment.alias("__moment")).with_row_index("__row").sort("__moment", maintain_order=True)
    keys, ttl = [(view.key, view.key)], timedelta(microseconds=micros(view.ttl) + MICRO)
    rows = prepare(scan(Path(table)), [view.key], "event_timestamp", "created_timestamp", (None, None)).collect()
    found = join(left, "__moment", rows, keys, {name: name for name in view.names}, ttl, True)
    found = found.sort("__row").drop("__row", "__moment")
    return found.with_columns(pl.col(name).fill_null(view.default) for name in view.names)
