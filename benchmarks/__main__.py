"""``python -m benchmarks [NAME ...]``: run the named benchmarks, or all, one after the other.

All but ``scale``, which takes an hour and wants the machine alone: ``make bench-scale``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

APART = "scale"  # a target of its own


def main() -> int:
    here = Path(__file__).parent
    known = sorted(p.stem for p in [*here.glob("*.py"), *here.glob("*/")] if not p.stem.startswith("__"))
    chosen = sys.argv[1:] or [name for name in known if name != APART]
    if unknown := [name for name in chosen if name not in known]:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = []
    for name in chosen:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
