"""The bars of work at scale, each measured with both sides in one run: ``python -m benchmarks.scale [--only NAME]``.

A module here has ``run() -> list[Result]`` (``benchmarks.scale.bars``), prints what it measures while it does, and ends
with ``if __name__ == "__main__": sys.exit(main(run))``, so that it also runs by itself.
"""
