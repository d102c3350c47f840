"""The pictures of the documents, out of those that the browser tests take: cut, smaller, labelled, as WebP in docs/pictures.

`make pictures` runs the tests and then this; `python -m tests.pictures` alone takes what they left.
"""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.browser import browsing
from tests.conftest import ROOT

TAKEN, KEPT = ROOT / ".sampan" / "pictures", ROOT / "docs" / "pictures"
# All that the documents show, in bytes: who clones the repository takes them along.
MOST = 700_000
# Drawn below each picture, since it may be passed on without the page around it.
LABEL = "Synthetic data: no enterprise, person or figure is real.  模擬數據：企業、人物及數字均屬虛構。"
DRAW = """
async ([source, height, scale, label]) => {
  const image = new Image();
  image.src = source;
  await image.decode();
  const cut = Math.min(height, image.height), strip = 26;
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(image.width * scale);
  canvas.height = Math.round(cut * scale) + strip;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, image.width, cut, 0, 0, canvas.width, canvas.height - strip);
  pen.fillStyle = "#fff4d6";
  pen.fillRect(0, canvas.height - strip, canvas.width, strip);
  pen.fillStyle = "#1c2b36";
  pen.font = "13px system-ui, 'Noto Sans CJK TC', sans-serif";
  pen.fillText(label, 10, canvas.height - 8, canvas.width - 20);
  pen.strokeStyle = "#d5dee5";
  pen.strokeRect(0.5, 0.5, canvas.width - 1, canvas.height - 1);
  return canvas.toDataURL("image/webp", 0.75).split(",")[1];
}
"""


@dataclass(frozen=True)
class Picture:
    """A picture of a test below .sampan/pictures, and how much of it is shown from the top, in pixels."""

    taken: str
    height: int = 1000
    scale: float = 0.75


PICTURES = {
    "answer-en": Picture("answers/en-02-exports-1280.png", 1250),
    "answer-zh": Picture("answers/zh-Hant-02-exports-1280.png", 1250),
    "answers-en": Picture("answers/en-index-1280.png", 900),
    "dashboard-en": Picture("superset/overview-en-1280.png", 1100),
    "desk-bank-en": Picture("desks/bank-1280-consent-en.png", 1000),
    "desk-bank-zh": Picture("desks/bank-1280-consent-zh-Hant.png", 1000),
    "desk-operator-en": Picture("desks/operator-1280-batch-en.png", 1000),
    "desk-steward-en": Picture("desks/steward-1280-preview.png", 900),
    "desk-steward-zh": Picture("desks/steward-1280-rows-zh-Hant.png", 800),
    "status": Picture("status/status-1280.png", 900),
    "gates": Picture("status/gates-1280.png", 900),
    "airflow-undecided": Picture("airflow/undecided-en-1280.png", 900),
    "airflow-broken": Picture("airflow/broken-en-1280.png", 900),
}


def make(taken: Path = TAKEN, kept: Path = KEPT) -> list[str]:
    """Make every picture whose source was taken. Returns the sources that are missing, whose pictures stay as they are."""
    kept.mkdir(exist_ok=True)
    missing = []
    with browsing() as browser:
        page = browser.new_page()
        for name, picture in PICTURES.items():
            source = taken / picture.taken
            if not source.is_file():
                missing.append(picture.taken)
                continue
            url = "data:image/png;base64," + base64.b64encode(source.read_bytes()).decode()
            drawn = page.evaluate(DRAW, [url, picture.height, picture.scale, LABEL])
            (kept / f"{name}.webp").write_bytes(base64.b64decode(drawn))
    for left in kept.glob("*.webp"):
        if left.stem not in PICTURES:
            left.unlink()
    return missing


if __name__ == "__main__":
    for source in (without := make()):
        print(f"no picture {TAKEN / source}: the test that takes it did not run", file=sys.stderr)
    print(f"{sum(path.stat().st_size for path in KEPT.iterdir()):,} bytes in {KEPT}")
    sys.exit(bool(without))
