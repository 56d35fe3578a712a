"""The page around the sections of a report: one HTML file that asks for nothing, from no host, and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

TEXT_SHOWN = 400
# What to do where something is missing.
SAVE = "prvr evaluate DATA FEATURES --model RUN --save RUN/test.npz"
GIVE = "give prvr report --data DATA --features FEATURES"
ANNOTATE = f"annotate the data and save the answers again: {SAVE} --annotations DIR"
STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5c6670; --line: #d8dde2; --paper: #fff; --panel: #f5f7f9;
  --c0: #1f5fb4; --c1: #c2410c; --c2: #1a7f37; --c3: #8250df; --c4: #b4236a; --c5: #0e7490; --c6: #7a5c00; --c7: #57606a }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7eb; --soft: #9aa5b0; --line: #3a424b; --paper: #15181c;
  --panel: #1e2329;
  --c0: #6cb2ff; --c1: #ff9a5c; --c2: #56d364; --c3: #c9a5ff; --c4: #ff8cc0; --c5: #5fd4e8; --c6: #e3c34a; --c7: #adb6c0 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto 4rem; padding: 0 1.2rem;
  color: var(--ink); background: var(--paper) }
h1 { margin-bottom: .2rem } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem }
h3 { margin: 1.6rem 0 .4rem; overflow-wrap: anywhere } p { max-width: 52rem } a { color: var(--c0) }
nav ul { columns: 2; padding-left: 1.2rem } code { font-size: .9em; overflow-wrap: anywhere }
.wide { overflow-x: auto; margin: .8rem 0 } table { border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums }
th, td { padding: .28rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: pre }
th { color: var(--soft); font-weight: 600 } td.text, th.text { text-align: left; white-space: normal; overflow-wrap: anywhere;
  min-width: 8rem; max-width: 32rem }
.note, figcaption { color: var(--soft); font-size: .9rem } figure { margin: .6rem 0 1.2rem }
.missing { border-left: 4px solid var(--c1); background: var(--panel); padding: .5rem .9rem }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem }
.query { border-top: 1px solid var(--line); padding-top: .3rem } .query p { margin: .3rem 0; overflow-wrap: anywhere }
.legend { list-style: none; padding: 0; margin: .3rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .88rem }
.legend li { overflow-wrap: anywhere } .swatch { width: 28px; height: 8px; margin-right: .4rem; vertical-align: middle }
.chart { width: 100%; height: auto; display: block } .chart text { font: 11.5px system-ui, sans-serif; fill: var(--soft) }
.chart .grid { stroke: var(--line) } .chart .axis { stroke: var(--soft); fill: none }
.chart .bar { stroke-width: 3; stroke-dasharray: none } .chart .spread { stroke-dasharray: none }
.chart .band { opacity: .14 }
summary { cursor: pointer; color: var(--c0) }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --panel: #fff; --c0: #1f5fb4;
  --c1: #c2410c; --c2: #1a7f37; --c3: #8250df; --c4: #b4236a; --c5: #0e7490; --c6: #7a5c00; --c7: #57606a }
  body { max-width: none; margin: 0; font-size: 11pt } * { print-color-adjust: exact } .wide { overflow: visible }
  figure, tr, .query { break-inside: avoid } h2, h3 { break-after: avoid } nav { display: none } }
"""
DASHES = ("none", "7 3", "2 2.5", "9 3 2 3", "12 4", "4 2", "1 3", "6 2 2 2 2 2")
LINES = "".join(
    f".s{n} {{ stroke: var(--c{n}); stroke-dasharray: {dash}; stroke-width: 1.8; fill: none }} .f{n} {{ fill: var(--c{n}) }}\n"
    for n, dash in enumerate(DASHES)
)


@dataclass(frozen=True)
class Section:
    """A part of the page. missing: a line for each thing that the runs lack, and how to get it."""

    id: str
    title: str
    body: str
    missing: tuple[str, ...] = ()


def write_page(title: str, sections: Sequence[Section], *, about: str) -> str:
    """The sections as a page; `about` is HTML that stands below the title."""
    links = "".join(f'<li><a href="#{section.id}">{escape(section.title)}</a></li>' for section in sections)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{STYLE}{LINES}</style></head><body>
<h1>{escape(title)}</h1>
{about}
<nav><ul>{links}</ul></nav>
{"".join(_section(section) for section in sections)}
</body></html>
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (0,)) -> str:
    """A table of plain texts; the columns in `text` hold words, the others numbers."""
    return (
        f'<div class="wide"><table><thead><tr>{_cells(head, text, "th")}</tr></thead><tbody>'
        + "".join(f"<tr>{_cells(row, text, 'td')}</tr>" for row in rows)
        + "</tbody></table></div>"
    )


def figure(chart: str, caption: str) -> str:
    """A chart, which is HTML, with a caption, which is not."""
    return f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def note(text: str) -> str:
    """A remark in small letters."""
    return f'<p class="note">{escape(text)}</p>'


def folded(summary: str, body: str) -> str:
    """What is shown on a click, without a script."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def listed(names: Sequence[str]) -> str:
    """Names in a row, which may have commas in them."""
    return ", ".join(f"“{name}”" for name in names)


def shortened(text: str) -> str:
    """A text of bounded length."""
    return text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]} … ({len(text)} characters)"


def spread(mean: float, deviation: float | None, *, digits: int = 1) -> str:
    """A mean, and its standard deviation where there are several seeds."""
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")


def _section(section: Section) -> str:
    missing = "".join(f'<p class="missing">{escape(line)}</p>' for line in section.missing)
    return f'<section id="{section.id}"><h2>{escape(section.title)}</h2>\n{missing}{section.body}</section>\n'


def _cells(row: Sequence[str], text: Sequence[int], kind: str) -> str:
    opened = [f'<{kind} class="text">' if column in text else f"<{kind}>" for column in range(len(row))]
    return "".join(f"{start}{escape(cell)}</{kind}>" for start, cell in zip(opened, row, strict=True))
