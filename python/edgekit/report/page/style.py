"""The page's style sheet: light and dark, phone and desk, paper."""

from edgekit.report.page.markup import Html

STYLE = Html("""
:root {
  color-scheme: light dark;
  --paper: #fcfbf9; --card: #ffffff; --ink: #1c2024; --soft: #565d66; --line: #dedbd5;
  --blue: #1f5fae; --pale: #e6eef8; --orange: #a04a00; --grey: #7a818a;
  --good: #17663a; --bad: #a4261d; --doubt: #7d5200;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --card: #1c2025; --ink: #e8e6e1; --soft: #a9afb7; --line: #353b43;
    --blue: #7fb2f0; --pale: #22344a; --orange: #f0a35e; --grey: #8d949d;
    --good: #79cf9b; --bad: #f2938b; --doubt: #e6be6a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
header, nav, main, footer { max-width: 66rem; margin: 0 auto; }
h1 { margin: 0 0 .35rem; font-size: 1.75rem; line-height: 1.2; font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 0 0 .75rem; font-size: 1.2rem; line-height: 1.3; font-weight: 650; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; font-weight: 650; overflow-wrap: anywhere; }
p { margin: 0 0 .75rem; max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--blue); }
.lead { font-size: 1.1rem; color: var(--soft); }
.fine { font-size: .875rem; color: var(--soft); }
nav { margin-top: 1.25rem; }
nav ul, .samples { max-width: 100%; }
nav ul { display: flex; flex-wrap: wrap; gap: .35rem 1.25rem; margin: 0; padding: 0; list-style: none; }
section {
  margin: 1.75rem 0 0; padding: 1.25rem 1.5rem 1.4rem;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
}
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .9rem;
  margin: 1.5rem 0 0; padding: 0;
}
.figures > div, .samples li, nav li { min-width: 0; }
.figures > div {
  margin: 0; padding: .9rem 1.1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px;
}
dt { font-size: .875rem; color: var(--soft); }
dd { margin: 0; }
.figures dd { font-size: 1.45rem; line-height: 1.3; font-weight: 650; font-variant-numeric: tabular-nums; }
.figures dd.fine { font-size: .875rem; font-weight: 400; }
.scroll { overflow-x: auto; margin: .5rem 0 0; }
.scroll:focus-visible, a:focus-visible, summary:focus-visible {
  outline: 2px solid var(--blue); outline-offset: 2px;
}
table { overflow-wrap: normal; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { padding: 0 0 .5rem; text-align: left; color: var(--soft); font-size: .875rem; }
th, td {
  padding: .42rem .9rem .42rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line);
}
th:last-child, td:last-child { padding-right: 0; }
thead th {
  color: var(--soft); font-size: .8125rem; font-weight: 600; white-space: nowrap;
  vertical-align: bottom;
}
tbody th { font-weight: 500; min-width: 8rem; max-width: 20rem; overflow-wrap: anywhere; }
tbody tr:last-child > * { border-bottom: 0; }
.scroll td:last-child { min-width: 12rem; } .scroll td.number:last-child { min-width: 0; }
td.number, th.number { text-align: right; white-space: nowrap; }
.verdict { font-weight: 650; white-space: nowrap; }
.kept { color: var(--good); } .broken { color: var(--bad); } .undecided, .unknown { color: var(--doubt); }
.tag {
  display: inline-block; padding: 0 .5em; border: 1px solid currentColor; border-radius: 1em;
  font-size: .8125rem; white-space: nowrap;
}
.tag.int { color: var(--blue); } .tag.real { color: var(--orange); border-style: dashed; }
svg { display: block; font: 13px system-ui, sans-serif; fill: var(--ink); }
svg text.soft { fill: var(--soft); }
.grid { stroke: var(--line); stroke-width: 1; }
.bar { fill: var(--blue); } .bar.real { fill: url(#stripes); stroke: var(--orange); stroke-width: 1; }
.stripe { stroke: var(--orange); stroke-width: 2; }
.track { fill: var(--pale); }
.before { fill: none; stroke: var(--grey); stroke-width: 2; }
.after { fill: var(--blue); stroke: none; }
.span { stroke: var(--blue); stroke-width: 2; }
.span.before { stroke: var(--grey); }
.dot { fill: var(--blue); fill-opacity: .55; stroke: var(--blue); }
.dot.beaten { fill: none; stroke: var(--grey); }
.dot.chosen { fill: var(--orange); fill-opacity: 1; stroke: var(--ink); stroke-width: 2; }
.front { fill: none; stroke: var(--blue); stroke-width: 1.5; }
.samples {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(14.5rem, 1fr)); gap: 1rem;
  margin: .75rem 0 0; padding: 0; list-style: none;
}
.samples li { display: flex; gap: .9rem; min-width: 0; }
.samples img {
  flex: none; width: 96px; height: 96px; object-fit: contain; background: var(--pale);
  border-radius: 6px; image-rendering: pixelated;
}
.samples dl, .origin { margin: 0; min-width: 0; overflow-wrap: anywhere; font-size: .9rem; line-height: 1.4; }
.samples dt { margin-top: .25rem; font-size: .8125rem; }
.samples dt:first-child { margin-top: 0; }
.origin dt { margin-top: .75rem; }
.notes { margin: 0; padding-left: 1.1rem; max-width: 46rem; overflow-wrap: anywhere; }
.notes li { margin: 0 0 .4rem; }
code {
  font: .8125rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere;
}
details { margin-top: .75rem; } summary { cursor: pointer; color: var(--blue); }
footer { margin-top: 1.75rem; }
@media (max-width: 40rem) {
  body { padding: 1.5rem .9rem 3rem; }
  h1 { font-size: 1.4rem; }
  section { padding: 1rem 1rem 1.1rem; }
  table { min-width: 34rem; }
}
@media print {
  body {
  padding: 0; font-size: 11pt; } nav { display: none; } section { break-inside: avoid; border: 0;
  padding: 0;
}
}
""")
