"""How the page looks: dark on white, no colour needed to read it."""

STYLE = '''
:root { --ink: #1c2733; --soft: #4d5b69; --line: #d8dee5; --wash: #f3f6f8; --accent: #0b5a8f;
  --wrong: #a62b1f; --right: #1d6b3c; color-scheme: light; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 78rem; color: var(--ink); background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1, h2, h3, h4 { line-height: 1.25; text-wrap: balance; overflow-wrap: anywhere; }
h1 { margin: 0 0 .25rem; font-size: 1.75rem; }
h2 { margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); font-size: 1.35rem; }
h3 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
h4 { margin: 1.25rem 0 .5rem; font-size: 1rem; color: var(--soft); }
p { margin: 0 0 .75rem; max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--accent); }
.soft, caption, figcaption, dt { color: var(--soft); }
.status { padding: .5rem .75rem; border-left: .25rem solid var(--accent); background: var(--wash); }
code { font: .875em/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0 0; padding: 0;
  list-style: none; }
nav a { display: inline-block; padding: .25rem 0; }
.figures { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 1.25rem 0; }
.figures dt { font-size: .875rem; }
.figures dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
.beside > * { max-width: 100%; }
.scroll:focus-visible, a:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding: 0 0 .375rem; text-align: left; font-size: .875rem; }
th, td { padding: .3rem 1.25rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; font-size: .875rem; vertical-align: bottom; }
th:first-child, td[colspan], .text { text-align: left; }
.text { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
tbody th { font-weight: 400; }
tfoot th, tfoot td { font-weight: 600; border-bottom: 0; }
figure { margin: 0; }
img { max-width: 100%; height: auto; vertical-align: top; }
.scroll img { max-width: none; }
.enlarged { image-rendering: pixelated; }
.curves, .cards { display: grid; gap: 1.5rem 1.5rem; margin: 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20.5rem), 1fr)); }
.curves figcaption { font-weight: 600; color: var(--ink); }
.pair { display: flex; gap: 4px; }
.pair img { max-width: calc(50% - 2px); align-self: flex-start; }
strong { color: var(--ink); }
.cards figcaption { margin-top: .375rem; font-size: .9375rem; line-height: 1.4; overflow-wrap: anywhere; }
.cards .file { font-size: .8125rem; }
.wrong { color: var(--wrong); }
.right { color: var(--right); }
details { margin: .5rem 0; }
summary { padding: .25rem 0; cursor: pointer; color: var(--accent); }
footer { margin-top: 3rem; padding-top: .75rem; border-top: 1px solid var(--line); font-size: .875rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, details:not([open]) { display: none; }
  .scroll { overflow: visible; }
  .scroll img { max-width: 100%; }
  figure, tr { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
}
'''
