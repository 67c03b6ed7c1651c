"""The first record of each id, kept in sorted arrays: 8 bytes for the id and what the columns need."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np


def key_of(identity: str) -> int:
    """64 bits of an id: in a million ids two meet with a chance of 3 in 100 million."""
    return int.from_bytes(hashlib.blake2b(identity.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Put:
    """What one call changed: keys that are new, and whether a kept record changed."""

    new: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    differing: int = 0  # records of a known key with another ``value``
    replaced: bool = False


class Firsts:
    """By key the record with the least ``rank``, then the least ``value``; the order of arrival does not matter.

    So the content is a function of what was ever put, not of when: a reader that starts anew has the same.
    """

    def __init__(self) -> None:
        self.key = np.zeros(0, np.uint64)
        self.rank = np.zeros(0, np.float64)
        self.value = np.zeros(0, np.float32)
        self.mark = np.zeros(0, np.int8)

    def __len__(self) -> int:
        return self.key.size

    def put(self, key: Any, rank: Any, value: Any, mark: Any) -> Put:
        """Add records, given as equally long sequences."""
        if not len(key):
            return Put()
        key = np.asarray(key, np.uint64)
        rank, value, mark = np.asarray(rank, np.float64), np.asarray(value, np.float32), np.asarray(mark, np.int8)
        order = np.lexsort((value, rank, key))
        key, rank, value, mark = key[order], rank[order], value[order], mark[order]
        first = np.ones(key.size, bool)
        first[1:] = key[1:] != key[:-1]
        leader = np.maximum.accumulate(np.where(first, np.arange(key.size), 0))
        differing = int((value != value[leader]).sum())
        key, rank, value, mark = key[first], rank[first], value[first], mark[first]
        at = self.find(key)
        known = at >= 0
        old = at[known]
        other = value[known] != self.value[old]
        sooner = (rank[known] < self.rank[old]) | ((rank[known] == self.rank[old]) & (value[known] < self.value[old]))
        put = Put(key[~known], differing + int(other.sum()), bool(sooner.any()))
        for column, given in (("rank", rank), ("value", value), ("mark", mark)):
            getattr(self, column)[old[sooner]] = given[known][sooner]
        places = np.searchsorted(self.key, put.new)
        for column, given in (("rank", rank), ("value", value), ("mark", mark), ("key", key)):
            setattr(self, column, np.insert(getattr(self, column), places, given[~known]))
        return put

    def find(self, key: np.ndarray) -> np.ndarray:
        """The place of each key, -1 where there is none."""
        if not self.key.size:
            return np.full(key.size, -1)
        at = np.minimum(np.searchsorted(self.key, key), self.key.size - 1)
        return np.where(self.key[at] == key, at, -1)
