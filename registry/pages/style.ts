/** All of the pages' CSS. Text on its ground is 4.5:1 or better in both schemes (WCAG 2.2 AA). */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #fbfaf7; --raised: #ffffff; --ink: #1d1c1a; --muted: #5d5953; --line: #e2ded5;
  --accent: #0b5f47; --accent-ground: #e4f1eb; --warn: #7a4100; --warn-ground: #fdf0dc;
  --bad: #9b1c1c; --bad-ground: #fde8e8;
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14161a; --raised: #1c1f25; --ink: #e9e7e2; --muted: #aaa69e; --line: #33373f;
    --accent: #7dd8b2; --accent-ground: #17332a; --warn: #f3c078; --warn-ground: #3a2a12;
    --bad: #f7a8a8; --bad-ground: #3d1b1b;
  }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: break-word }
a { color: var(--accent); text-underline-offset: .15em }
a:hover { text-decoration-thickness: 2px }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 3px }
.skip { position: absolute; left: -99rem }
.skip:focus { left: 1rem; top: .5rem; background: var(--raised); padding: .3rem .7rem; z-index: 1 }
.bar { border-bottom: 1px solid var(--line); background: var(--raised) }
.bar > div, main, .foot { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem }
.bar > div { display: flex; flex-wrap: wrap; gap: .6rem 1.5rem; align-items: center; padding-block: .7rem }
.brand { font-weight: 700; font-size: 1.15rem; color: var(--ink); text-decoration: none; display: flex; gap: .45rem; align-items: center }
.brand svg { width: 1.5rem; height: 1.5rem; fill: none; stroke: var(--accent); stroke-width: 2.2; stroke-linecap: round }
.bar form { flex: 1 1 18rem; max-width: 34rem; min-width: 0 }
.bar nav { display: flex; gap: 1.1rem; margin-inline-start: auto }
.bar nav a { color: var(--ink); text-decoration: none }
.bar nav a:hover { text-decoration: underline }
.find { display: flex }
.find input { flex: 1; width: 0; min-width: 0; border-start-end-radius: 0; border-end-end-radius: 0; border-inline-end: 0 }
.find button { border-start-start-radius: 0; border-end-start-radius: 0 }
input, select, button { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--muted); border-radius: 6px; padding: .38rem .7rem; min-height: 2.5rem; max-width: 100% }
button { background: var(--accent); border-color: var(--accent); color: var(--ground); font-weight: 600; cursor: pointer }
main { padding-block: 1.75rem 3rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; letter-spacing: -.015em }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .7rem; line-height: 1.3 }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem }
p { margin: .5rem 0 }
.lead { font-size: 1.1rem; color: var(--muted); max-width: 46rem; margin: 0 0 1rem }
.muted, .meta { color: var(--muted) }
.meta { font-size: .9rem; display: flex; flex-wrap: wrap; gap: .15rem 1rem }
.small { font-size: .88rem }
code, pre { font: .875em/1.5 ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', monospace }
code { overflow-wrap: anywhere }
pre { background: var(--raised); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; margin: .6rem 0 }
pre code { overflow-wrap: normal; font-size: 1em }
aside pre { white-space: pre-wrap; overflow-wrap: anywhere }
.tags { display: flex; flex-wrap: wrap; gap: .35rem; padding: 0; margin: .5rem 0; list-style: none }
.pill { display: inline-block; font-size: .8rem; line-height: 1.5; padding: .06rem .55rem; border-radius: 99px; background: var(--accent-ground); color: var(--accent); text-decoration: none; overflow-wrap: anywhere }
.pill.warn { background: var(--warn-ground); color: var(--warn) }
.pill.bad { background: var(--bad-ground); color: var(--bad) }
.note { border: 1px solid var(--warn); background: var(--warn-ground); color: var(--warn); border-radius: 8px; padding: .6rem 1rem; margin: 1rem 0 }
.note.bad { border-color: var(--bad); background: var(--bad-ground); color: var(--bad) }
.cards { list-style: none; margin: 1rem 0; padding: 0; border-top: 1px solid var(--line) }
.cards > li { padding: .95rem 0; border-bottom: 1px solid var(--line) }
.cards h2, .cards h3 { margin: 0; font-size: 1.08rem; overflow-wrap: anywhere }
.cards p { margin: .2rem 0 .35rem; max-width: 60rem }
.clip { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden }
.split { display: grid; grid-template-columns: minmax(0, 1fr) 19rem; gap: 1.6rem 3rem; align-items: start; margin-top: 1.6rem }
.split > div:first-child > h2:first-child, .split > section > h2:first-child, .split > aside > h2:first-child, .readme > h2 { margin-top: 0 }
.split > aside { grid-column: 2; grid-row: 1 }
.facts { margin: 0 0 1.5rem; font-size: .95rem }
.facts dt { color: var(--muted); font-size: .82rem }
.facts div { margin-bottom: .7rem }
.facts dd { margin: 0; overflow-wrap: anywhere }
aside h2 { font-size: 1rem; margin: 1.5rem 0 .4rem }
.local { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; border-bottom: 1px solid var(--line); margin: 1.2rem 0 1.4rem; padding: 0 0 .6rem; list-style: none }
.scroll { overflow-x: auto; margin: .6rem 0 }
table { border-collapse: collapse; width: 100%; font-size: .93rem }
th, td { text-align: start; vertical-align: top; padding: .5rem .9rem .5rem 0; border-bottom: 1px solid var(--line) }
th { color: var(--muted); font-weight: 600; font-size: .84rem; white-space: nowrap }
td.num, th.num { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap }
.scroll th:last-child, .scroll td:last-child { padding-inline-end: 0 }
tbody th { color: var(--ink); font-size: .93rem }
.nowrap { white-space: nowrap }
.sites { min-width: 14rem }
.says { min-width: 11rem }
.of { min-width: 7rem; max-width: 16rem; overflow-wrap: anywhere }
.readme { border: 1px solid var(--line); border-radius: 10px; background: var(--raised); padding: 1.1rem 1.5rem 1rem; overflow: hidden }
.readme > h2 { color: var(--muted); font-size: .95rem; font-weight: 600; border-bottom: 1px solid var(--line); padding-bottom: .5rem }
.readme h3 { font-size: 1.35rem } .readme h4 { font-size: 1.12rem; margin: 1.3rem 0 .4rem }
.readme pre { background: var(--ground) }
.readme blockquote { border-inline-start: 3px solid var(--line); margin: .8rem 0; padding-inline-start: 1rem; color: var(--muted) }
.readme table { width: auto }
.readme th, .readme td { min-width: 4.5rem; max-width: 40rem; overflow-wrap: anywhere }
.readme .task { list-style: none; margin-inline-start: -1.2em }
.readme hr { border: 0; border-top: 1px solid var(--line) }
details { border: 1px solid var(--line); border-radius: 8px; margin: .5rem 0; background: var(--raised) }
summary { cursor: pointer; padding: .5rem 1rem; font-weight: 600 }
details pre { border: 0; border-top: 1px solid var(--line); border-radius: 0; margin: 0; background: none }
.filters { display: flex; flex-wrap: wrap; gap: .7rem 1rem; align-items: end; margin: 1rem 0 }
.filters p { margin: 0; min-width: 0; flex: 0 1 auto }
.filters label { display: block; font-size: .84rem; color: var(--muted); margin-bottom: .15rem }
.filters .words { flex: 1 1 14rem }
.filters .words input { width: 100% }
.filters select { max-width: 16rem }
.hero { padding: 1.4rem 0 .6rem }
.hero form { max-width: 46rem }
.hero h1 { font-size: clamp(1.9rem, 5vw, 2.7rem); max-width: 24ch }
.foot { color: var(--muted); font-size: .9rem; padding-bottom: 2.5rem }
.foot p { border-top: 1px solid var(--line); padding-top: 1rem; margin: 0 }
.pages { margin: 1.4rem 0 }
.pages a { display: inline-block; padding: .45rem 1rem; border: 1px solid var(--accent); border-radius: 6px; text-decoration: none; font-weight: 600 }
@media (max-width: 56rem) {
  .split { grid-template-columns: minmax(0, 1fr) }
  .split > aside { grid-column: 1; grid-row: auto }
  .facts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 1rem }
  .facts .whole { grid-column: 1 / -1 }
  .readme { padding-inline: 1rem }
  .bar nav { margin-inline-start: 0 }
  .bar form { order: 3; flex-basis: 100%; max-width: none }
  .bar nav { margin-inline-start: auto }
  h1 { font-size: 1.55rem }
}
@media print {
  :root { --ground: #fff; --raised: #fff; --ink: #000; --muted: #444; --line: #bbb; --accent: #000; font-size: 11pt }
  .bar form, .bar nav, .local, .filters, .pages, .skip { display: none }
  .split { display: block }
  pre, td code { white-space: pre-wrap }
  .readme { border: 0; padding: 0 }
}
@media (forced-colors: active) { .pill { border: 1px solid } }
`
