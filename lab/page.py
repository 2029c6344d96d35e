"""What the lab's pages have in common: one file of HTML, plain SVG, light and dark, and nothing to load."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark; --ink: #1b1f24; --dim: #68717d; --paper: #fff; --line: #d8dde3; --good: #1a7f4b; --bad: #c4322b;
  --taken: #8fb4e3; --done: #1f5fae; --again: #d98a1c; --hurt: #c4322b22;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e7ebf0; --dim: #98a2ad; --paper: #14171b; --line: #333a42; --good: #5cc08c; --bad: #f07a72;
    --taken: #38567c; --done: #7fb2f0; --again: #e6a94d; --hurt: #f07a7233;
  }
}
body {
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
}
h1 { font-size: 1.5rem; margin-bottom: .3rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem; }
p { max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--dim); font-weight: 500; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
.good { color: var(--good); }
.bad { color: var(--bad); font-weight: 600; }
.dim { color: var(--dim); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .dim { fill: var(--dim); }
.grid { stroke: var(--line); }
.lines { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.2rem 1.6rem; }
figure { margin: 0; }
figcaption { font-weight: 500; }
.key span { display: inline-block; margin-right: 1.2rem; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; }
"""


def document(title: str, body: str) -> str:
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style>'
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
