"""Checks of Containerfiles that need no builder. ``faults`` is pure: text in, sentences out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from images.table import Image, Table, containerfile
from seaway.config import project_root
from seaway.errors import SeawayError

LARGEST_CONTEXT = 20_000_000  # bytes; more means that data or an environment has got into git
LABELS = ("title", "description", "licenses", "version", "revision", "base.name")
# what an attacker would like to find in a running container, and what only a build needs
TOOLS = (
    "gcc",
    "g++",
    "make",
    "cmake",
    "git",
    "curl",
    "wget",
    "build-essential",
    "python3-dev",
    "sudo",
    "openssh-client",
)
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
SECRET = re.compile(r"(password|passwd|secret|token|api_?key|private_?key|credential)", re.IGNORECASE)
KNOWN = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


@dataclass(frozen=True)
class Instruction:
    line: int
    word: str
    text: str  # what follows, on one line


@dataclass
class Stage:
    base: str
    name: str
    line: int
    steps: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        return [s for s in self.steps if s.word == word]


def parse(text: str) -> tuple[list[Instruction], list[Stage]]:
    """What stands before the first FROM, and the stages. SeawayError for what is no instruction."""
    before: list[Instruction] = []
    stages: list[Stage] = []
    for step in _instructions(text):
        if step.word == "FROM":
            words = [w for w in step.text.split() if not w.startswith("--")]
            stages.append(Stage(words[0], words[2] if len(words) == 3 else "", step.line))
        elif stages:
            stages[-1].steps.append(step)
        else:
            before.append(step)
    if not stages:
        raise SeawayError("it has no FROM")
    return before, stages


def _instructions(text: str) -> Iterator[Instruction]:
    begun, parts = 0, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        begun = begun or number
        parts.append(line.strip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            word, _, rest = " ".join(parts).partition(" ")
            if word.upper() not in KNOWN:
                raise SeawayError(f"line {begun}: {word!r} is no instruction")
            yield Instruction(begun, word.upper(), rest.strip())
            begun, parts = 0, []
    if parts:
        raise SeawayError(f"line {begun}: it ends in the middle of an instruction")


Rule = Callable[[list[Instruction], list[Stage], Image, int], Iterator[tuple[int, str]]]


def bases_are_pinned(before, stages, image, user):
    told = {s.text.partition("=")[0]: s.text.partition("=")[2] for s in before if s.word == "ARG"}
    names = {s.name for s in stages}
    for stage in stages:
        base = re.sub(r"\$\{?(\w+)\}?", lambda m: told.get(m[1]) or m[0], stage.base)
        if base not in names and base != "${BASE}" and not DIGEST.search(base):
            yield stage.line, f"{base} is not pinned: write ${{BASE}}, or add @sha256:…"
        for step in stage.all("COPY"):
            source = re.search(r"--from=(\S+)", step.text)
            if source and source[1] not in names and not DIGEST.search(source[1]):
                yield step.line, f"--from={source[1]} is neither a stage nor pinned by @sha256:…"


def account_is_plain(before, stages, image, user):
    users = stages[-1].all("USER")
    if not users or users[-1].text != f"{user}:{user}":
        line = users[-1].line if users else stages[-1].line
        yield line, f"the last stage must end as USER {user}:{user}: a number, for runAsNonRoot"
    for step in (s for s in stages[-1].steps if users and s.line > users[-1].line and s.word == "RUN"):
        yield step.line, "RUN after USER: the account would own files of the image"
    for step in stages[-1].all("COPY"):
        if "--chown" in step.text:
            yield step.line, "--chown: the running account must not own the program"


def command_is_a_list(before, stages, image, user):
    found = [s for s in stages[-1].steps if s.word in ("CMD", "ENTRYPOINT")]
    if [s.word for s in found] != ["CMD"]:
        yield stages[-1].line, "the last stage needs one CMD and no ENTRYPOINT: pods give commands of their own"
    for step in found:
        try:
            words = json.loads(step.text)
        except ValueError:
            words = None
        if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
            yield step.line, f"{step.word} must be a JSON list: a shell in between keeps SIGTERM for itself"


def installs_are_locked(before, stages, image, user):
    for step in (s for stage in stages for s in stage.all("RUN")):
        for call in re.split(r"&&|;|\|\|?", step.text):
            if re.search(r"\buv\s+sync\b", call) and not re.search(r"--(frozen|locked)\b", call):
                yield step.line, "uv sync without --frozen: it may take other versions than the lock's"
            if re.search(r"\buv\s+sync\b", call) and f"--group {image.group} " not in f"{call} ":
                yield step.line, f"uv sync without --group {image.group}, the image's"
            if re.search(r"\bpip3?\s+install\b", call) and "--require-hashes" not in call:
                yield step.line, "pip install without --require-hashes"
            if re.search(r"\buv\s+(add|pip|tool)\b|\buvx\b", call):
                yield step.line, "uv installs by `uv sync --frozen` alone"
            if re.search(r"\b(curl|wget)\b.*(https?:|ftp:)", call):
                yield step.line, "a download that no hash checks"
    if not any("uv sync" in s.text for stage in stages[:-1] for s in stage.all("RUN")):
        yield stages[-1].line, "the packages must be installed in a stage of their own by uv sync"


def no_tools_stay(before, stages, image, user):
    for step in stages[-1].all("RUN"):
        if re.search(r"\buv\s+sync\b|pip3?\s+install\b", step.text):
            yield step.line, "the last stage installs: copy from the build stage instead"
        for call in re.findall(r"apt(?:-get)? [^&|;]*install ([^&|;]*)", step.text):
            for tool in sorted(set(call.split()) & set(TOOLS)):
                yield step.line, f"{tool} stays in the image"
    removed = " ".join(s.text for s in stages[-1].all("RUN"))
    if "pip uninstall" not in removed or not re.search(r"for tool in .*command -v .*exit 1", removed):
        yield stages[-1].line, "the last stage must uninstall pip and fail when a tool is left (command -v … exit 1)"


def packages_are_lean(before, stages, image, user):
    for step in (s for stage in stages for s in stage.all("RUN")):
        if re.search(r"apt(-get)? .*install", step.text):
            if "--no-install-recommends" not in step.text:
                yield step.line, "apt-get install without --no-install-recommends"
            if "rm -rf /var/lib/apt/lists" not in step.text:
                yield step.line, "the package lists stay: rm -rf /var/lib/apt/lists/* in the same RUN"
        if re.search(r"\bchmod\b.*\b(0?777|a\+rwx|o\+w)\b", step.text):
            yield step.line, "a file that everyone may write"


def copies_are_named(before, stages, image, user):
    for stage in stages:
        for step in stage.all("ADD"):
            yield step.line, "ADD fetches and unpacks: use COPY"
        for step in stage.all("COPY"):
            *sources, _ = [w for w in step.text.split() if not w.startswith("--")]
            if "--from" not in step.text and {".", "./", "/", "*"} & set(sources):
                yield step.line, "COPY of everything: name the folders"
    copied = {
        w.strip("/") for s in stages for c in s.all("COPY") if "--from" not in c.text for w in c.text.split()[:-1]
    }
    for folder in sorted(set(image.folders) - copied):
        yield stages[-1].line, f"images.yaml gives the image {folder}/, and nothing copies it"
    for folder in sorted(copied - set(image.folders) - {"pyproject.toml", "uv.lock", "images/uv.txt"}):
        yield stages[-1].line, f"{folder} is copied, and images.yaml does not give it to the image"


def nothing_is_secret(before, stages, image, user):
    for step in [*before, *(s for stage in stages for s in stage.steps)]:
        if step.word in ("ARG", "ENV"):
            for name in re.findall(r"(\w+)(?:=|$|\s)", re.sub(r"=\S*", "=", step.text)):
                if SECRET.search(name):
                    yield step.line, f"{name}: what is in ARG or ENV is in the image for everyone to read"


def root_may_be_read_only(before, stages, image, user):
    last = stages[-1]
    told = " ".join(s.text for s in last.all("ENV"))
    if not re.search(r"\bPYTHONDONTWRITEBYTECODE=1\b", told):
        yield last.line, "ENV PYTHONDONTWRITEBYTECODE=1 is missing: the root file system is read only"
    if not re.search(r"\bHOME=(/tmp|/home/seaway)\b", told):
        yield last.line, "ENV HOME must be /tmp or /home/seaway: what pods may write"
    if not any("compileall" in s.text for stage in stages for s in stage.all("RUN")):
        yield last.line, "nothing compiles the program: each start would do it anew"
    for step in last.all("VOLUME"):
        yield step.line, "VOLUME: a writable folder that no manifest shows"
    for step in last.all("WORKDIR"):
        if not step.text.startswith("/"):
            yield step.line, f"WORKDIR {step.text} is not absolute"


def labels_are_told(before, stages, image, user):
    told = " ".join(s.text for s in stages[-1].all("LABEL"))
    for label in LABELS:
        if not re.search(rf"org\.opencontainers\.image\.{re.escape(label)}=\S", told):
            yield stages[-1].line, f"label org.opencontainers.image.{label} is missing"
    if "revision=" in told and "${REVISION}" not in told:
        yield stages[-1].line, "label revision must be ${REVISION}, the commit"


RULES: tuple[Rule, ...] = (
    bases_are_pinned, account_is_plain, command_is_a_list, installs_are_locked, no_tools_stay, packages_are_lean,
    copies_are_named, nothing_is_secret, root_may_be_read_only, labels_are_told,
)  # fmt: skip


def faults(text: str, image: Image, user: int) -> list[str]:
    """What is wrong with a Containerfile: a sentence each, with its line."""
    try:
        before, stages = parse(text)
    except SeawayError as error:
        return [str(error)]
    found = [fault for rule in RULES for fault in rule(before, stages, image, user)]
    return [f"line {line}: {what}" for line, what in sorted(set(found))]


def run(table: Table, names: Sequence[str]) -> list[str]:
    """Faults of the named images' files, of the base's reference and of what the builder would be sent."""
    from images.build import context_files

    found = [] if DIGEST.search(table.base) else [f"images.yaml: base {table.base} has no digest"]
    for name in names:
        file, root = containerfile(name), project_root()
        where = file.relative_to(root)
        found += [f"{where}: {fault}" for fault in faults(file.read_text(), table.images[name], table.user)]
        size = sum((root / f).stat().st_size for f in context_files(table.images[name], root))
        if size > LARGEST_CONTEXT:
            found.append(f"{where}: its context is {size / 1e6:.0f} MB, more than {LARGEST_CONTEXT / 1e6:.0f}")
    return found
