"""The pictures of README.md, made by the commands that they show: `make pictures`, about three minutes.

Each is the top of a report as one SVG file: the verdict, the facts and the first drawings, with the report's own
colours, light and dark. The timeline is drawn by the script in its page, so Chromium has to be there (or name another
browser of its family in BROWSER).
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from html import escape, unescape
from pathlib import Path
from typing import NamedTuple

PICTURES = Path(__file__).with_name("pictures")
WIDTH, MARGIN, GAP = 960, 24, 28
VIGIL = Path(sys.executable).with_name("vigil")


class Picture(NamedTuple):
    """What is typed, which option names the page, and the drawings to show beside each other (all titles, if none)."""

    name: str
    command: str
    page_option: str
    figures: Sequence[str] = ()


TABLE = (
    Picture("timeline", "vigil replay --library renewed_up_to_the_maximum", "--timeline"),
    Picture("simulation", "vigil simulate --seed 7 --people 100 --faults all", "--report", ["Live sessions"]),
    Picture("load", "vigil load limits", "--report", ["Session limit 60/minute", "Refusals"]),
)


class Drawing(NamedTuple):
    """One figure of a page."""

    title: str
    svg: str
    width: float
    height: float
    legend: Sequence[tuple[str, str]]  # (a glyph, what it stands for)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for picture in TABLE:
            page = Path(folder, f"{picture.name}.html")
            run([str(VIGIL), *picture.command.split()[1:], picture.page_option, str(page)])
            path = PICTURES / f"{picture.name}.svg"
            path.write_text(drawn(picture, as_shown(page)))
            print(f"written: {path}, {path.stat().st_size // 1024} KB")


def run(command: Sequence[str], *, quiet: bool = False) -> str:
    errors = subprocess.DEVNULL if quiet else None  # a browser without a desktop has much to say
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=errors, text=True).stdout  # noqa: S603


def as_shown(page: Path) -> str:
    """The page after its script has run, drawings included."""
    browser = shutil.which(os.environ.get("BROWSER", "chromium"))
    if browser is None:
        sys.exit("docs/pictures.py needs Chromium: install it, or name a browser of its family in BROWSER")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,900", "--dump-dom"]
    return run([browser, *options, page.as_uri()], quiet=True)


def drawn(picture: Picture, html: str) -> str:
    drawings = [found for found in figures(html) if not picture.figures or found.title in picture.figures]
    drawings.sort(key=lambda one: picture.figures.index(one.title) if picture.figures else 0)
    drawings = drawings or sys.exit(f"no drawing of {picture.figures} in the page of: {picture.command}")
    body, bottom = placed(drawings)
    text = "".join([*head(picture, html), *body])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom:.0f}" '
        f'viewBox="0 0 {WIDTH} {bottom:.0f}" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif" role="img" '
        f'aria-label="The report of {escape(picture.command)}">\n'
        f"<style>{style(html, text)}</style>\n"
        f'<rect class="frame" x=".5" y=".5" width="{WIDTH - 1}" height="{bottom - 1:.0f}" rx="12"/>\n{text}\n</svg>\n'
    )


# --- what is read from a page


def figures(html: str) -> Iterator[Drawing]:
    """A timeline has one without a title of its own; the other reports have `figure` elements."""
    parts = re.findall(r"<figure.*?</figure>", html, re.DOTALL) or [html]
    for part in parts:
        title = re.search(r"<h3>(.*?)</h3>", part) or re.search(r"<h2>(.*?)</h2>", part)
        svg = re.search(
            r'<svg (?:height="[\d.]+" )?viewBox="0 0 ([\d.]+) ([\d.]+)".*?>(.*)</svg>', part, re.DOTALL
        )
        legend = re.search(r'<ul class="legend">(.*?)</ul>', part, re.DOTALL)
        if title and svg and legend:
            yield Drawing(
                unescape(title[1]), slim(svg[3]), float(svg[1]), float(svg[2]), list(legend_of(legend[1]))
            )


def legend_of(items: str) -> Iterator[tuple[str, str]]:
    for colour, glyph, name in re.findall(r'<li(?: class="(.*?)")?>(?:<svg(.*?)</svg>)?(.*?)</li>', items):
        mark = f'<rect class="key {colour}" x="-6" y="-4" width="12" height="8" rx="2"/>'
        if glyph:
            classes, inner = re.findall(r'class="(mark.*?)".*?>(.*)', glyph)[0]
            mark = f'<g class="{classes}">{inner}</g>'
        yield mark, unescape(name)


def slim(svg: str) -> str:
    """Without what only a pointer or a keyboard meets, and with one digit behind the point."""
    svg = re.sub(r'<(rect|circle) class="(reach|note)"[^>]*?(/>|>.*?</\1>)', "", svg, flags=re.DOTALL)
    svg = re.sub(r"<title>.*?</title>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r' (tabindex|role|aria-label|aria-hidden|class)=""| (tabindex|role|aria-[a-z]+)="[^"]*"', "", svg
    )
    return re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", svg)


def style(html: str, text: str) -> str:
    """The rules of the page for what is drawn."""
    sheet = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    rules = re.findall(
        r"@media \(prefers[^{]*\{[^{}]*\{[^{}]*\}\s*\}|[^{}@]+\{[^{}]*\}", sheet[1] if sheet else ""
    )
    used = set(" ".join(re.findall(r'class="(.*?)"', text)).split()) | {"root"}
    kept = [rule for rule in rules if is_of_drawings(rule) and used & set(re.findall(r"[.:]([a-z-]+)", rule))]
    return " ".join(" ".join(kept).split()) + (
        " .frame { fill: var(--card); stroke: var(--line); } .key { fill: var(--colour); }"
        " .said { fill: var(--text); } .quiet { fill: var(--soft); }"
        " .held { fill: var(--good); } .failed { fill: var(--bad); }"
    )


def is_of_drawings(rule: str) -> bool:
    selector = rule.partition("{")[0]
    return not re.search(r"legend|chart|hover|focus|h1|verdict|\btd\b", selector)


# --- what is written


def head(picture: Picture, html: str) -> Iterator[str]:
    """The command, the verdict and the facts of the page."""
    verdict = re.search(r'<h1><span class="(held|failed)">(.*?)</span>', html) or sys.exit(
        "the run has no verdict"
    )
    yield line(MARGIN, 34, f"$ {picture.command}", "quiet", 'font-size="13" font-family="monospace"')
    yield line(MARGIN, 74, unescape(verdict[2]), verdict[1], 'font-size="24" font-weight="600"')
    x = MARGIN + 26 + 13.0 * len(verdict[2])
    for name, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html.partition("<h2")[0]):
        yield line(x, 57, unescape(name), "quiet", 'font-size="12"')
        yield line(x, 76, unescape(value), "said", 'font-size="16"')
        x += max(6.6 * len(name), 9.0 * len(value)) + 26


def placed(drawings: Sequence[Drawing]) -> tuple[list[str], float]:
    """Beside each other under the head, and where they end."""
    width = (WIDTH - 2 * MARGIN - GAP * (len(drawings) - 1)) / len(drawings)
    texts, bottom = [], 0.0
    for n, one in enumerate(drawings):
        x, scale = MARGIN + n * (width + GAP), width / one.width
        texts.append(line(x, 112, one.title, "said", 'font-size="14" font-weight="600"'))
        texts.append(
            f'<g class="drawing" transform="translate({x:.1f} 124) scale({scale:.3f})">{one.svg}</g>'
        )
        y = 124 + one.height * scale + 16
        for glyph, name, at_x, at_y in rows(one.legend, x, y, width):
            texts.append(f'<g transform="translate({at_x + 8:.1f} {at_y:.1f})">{glyph}</g>')
            texts.append(line(at_x + 20, at_y + 4, name, "said", 'font-size="12"'))
            bottom = max(bottom, at_y)
    return texts, bottom + MARGIN


def rows(
    legend: Sequence[tuple[str, str]], left: float, y: float, width: float
) -> Iterator[tuple[str, str, float, float]]:
    """Where the entries of a legend stand, in as many lines as they need."""
    x = left
    for glyph, name in legend:
        needed = 36 + 6.4 * len(name)
        if x + needed > left + width + 8:
            x, y = left, y + 20
        yield glyph, name, x, y
        x += needed


def line(x: float, y: float, text: str, colour: str, attributes: str) -> str:
    return f'<text class="{colour}" x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'


if __name__ == "__main__":
    main()
