"""The report is opened in a headless browser, wide and narrow."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from components.report.step import PARTS

PROBE = """<script>
addEventListener("load", () => {
  const sizes = {};
  for (const s of document.querySelectorAll("section")) sizes[s.id] = [s.offsetWidth, s.offsetHeight];
  const mark = document.querySelector("#canary [data-tip]");
  mark.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: 50, clientY: 50}));
  const tip = document.getElementById("tip");
  const wide = document.documentElement.scrollWidth - innerWidth;
  const pre = document.createElement("pre");
  pre.id = "probe";
  pre.textContent = JSON.stringify({sizes, tip: tip.offsetHeight > 0 && tip.textContent, wide});
  document.body.append(pre);
});
</script></body>"""


@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_every_part_without_an_error(page: Path, tmp_path: Path, width: int) -> None:
    browser = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine: the page was not opened in a browser")
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text().replace("</body>", PROBE))
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        f"--window-size={width},900",
        "--dump-dom",
        probe.as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in shown.stderr, shown.stderr
    found = json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', shown.stdout, re.S)[1]))
    assert set(found["sizes"]) == {part.id for part in PARTS}
    assert all(w > 300 and h > 60 for w, h in found["sizes"].values()), found["sizes"]
    assert "E promote" in found["tip"]
    assert found["wide"] <= 0, "the page scrolls sideways"
