"""How the report looks."""

STYLE = """
:root { --page:#f5f7fa; --card:#fff; --ink:#1b2430; --faint:#657081; --line:#e3e7ec; --accent:#c2306b;
  --wrong:#b3261e; --hint:#8a5a00; --right:#1a7f4b; }
@media (prefers-color-scheme: dark) { :root { --page:#0e131a; --card:#161c25; --ink:#e6ebf2; --faint:#93a0b1;
  --line:#2c3644; --accent:#ff7eab; --wrong:#ff8a80; --hint:#f0b95a; --right:#6fd8a2; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--page); color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
main { max-width:1120px; margin:0 auto; padding:48px 24px 96px; }
.kicker { margin:0; color:var(--accent); font-weight:600; font-size:.85rem; letter-spacing:.06em;
  text-transform:uppercase; }
h1 { margin:.1em 0 .2em; font-size:2.3rem; letter-spacing:-.02em; line-height:1.15; overflow-wrap:anywhere; }
h2 { margin:2.2em 0 .6em; font-size:1.25rem; letter-spacing:-.01em; }
.lead { margin:0 0 28px; color:var(--faint); font-size:1.05rem; }
a.button { display:inline-block; padding:9px 16px; border-radius:99px; background:var(--accent); color:var(--page);
  font-weight:600; text-decoration:none; margin:0 0 22px; }
button.button { border:0; font:inherit; padding:9px 16px; border-radius:99px; background:var(--accent); color:var(--page); }
.plot { padding:14px 18px; }
.filters { display:flex; flex-wrap:wrap; gap:10px 18px; margin-bottom:8px; color:var(--faint); font-size:.88rem; }
.filters select, .filters input { font:inherit; color:var(--ink); background:var(--page); border:1px solid var(--line);
  border-radius:8px; padding:5px 8px; max-width:100%; }
.trace { margin:0 0 8px; } .trace summary { padding:10px 14px; border-left:4px solid; border-radius:14px; cursor:pointer;
  overflow-wrap:anywhere; } .trace .rescue { border:0; margin:0; } #one { margin:16px 0; }
.panels { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr)); gap:14px; }
.card { background:var(--card); border:1px solid var(--line); border-radius:14px; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(180px,1fr)); gap:14px; }
.tile { padding:16px 20px; display:flex; flex-direction:column; }
.tile span { color:var(--faint); font-size:.88rem; }
.tile strong { font-size:1.9rem; letter-spacing:-.02em; font-variant-numeric:tabular-nums; }
.tile em { color:var(--faint); font-style:normal; font-size:.85rem; }
figure { margin:0; padding:18px; }
figure h3 { margin:0 0 10px; font-size:.98rem; overflow-wrap:anywhere; }
figure img { display:block; max-width:100%; margin:0 auto; height:auto; }
figcaption, .note { color:var(--faint); font-size:.88rem; margin:10px 2px 0; }
section > .note { margin-bottom:12px; }
.scroll { overflow-x:auto; padding:6px 18px; }
table { border-collapse:collapse; width:100%; font-size:.9rem; font-variant-numeric:tabular-nums; }
th { color:var(--faint); font-weight:600; font-size:.82rem; }
th, td { padding:9px 11px; text-align:right; border-bottom:1px solid var(--line); white-space:nowrap; }
th:first-child, td:first-child { text-align:left; padding-left:2px; }
tbody tr:last-child td, .facts tr:last-child > * { border-bottom:0; }
tr.strong td { font-weight:650; }
.facts th, .facts td { text-align:left; vertical-align:top; }
.facts td { white-space:normal; }
.rescue { padding:18px 22px; margin:0 0 16px; }
.rescue h3 { margin:0 0 6px; font-size:1.02rem; overflow-wrap:anywhere; }
.rescue small { color:var(--faint); font-weight:400; margin-left:.5em; }
.badge { display:inline-block; margin-left:.8em; padding:2px 9px; border-radius:99px;
  border:1px solid var(--hint); color:var(--hint); font-size:.75rem; font-weight:600; }
.badge.right { border-color:var(--right); color:var(--right); }
.badge.wrong { border-color:var(--wrong); color:var(--wrong); }
del { color:var(--wrong); background:color-mix(in srgb,var(--wrong) 12%,transparent); border-radius:3px; }
.rescue div { border-left:3px solid var(--line); padding-left:14px; margin-top:12px; }
.rescue h4 { margin:0; font-size:.82rem; color:var(--faint); font-weight:600; overflow-wrap:anywhere; }
.rescue .wrong { border-color:var(--wrong); } .rescue .wrong h4 { color:var(--wrong); }
.rescue .hint { border-color:var(--hint); } .rescue .hint h4 { color:var(--hint); }
.rescue .right { border-color:var(--right); } .rescue .right h4 { color:var(--right); }
pre { margin:2px 0 0; white-space:pre-wrap; overflow-wrap:anywhere;
  font:.9rem/1.5 ui-monospace,Menlo,Consolas,monospace; }
@media (max-width:600px) {
  main { padding:28px 14px 60px; } h1 { font-size:1.7rem; }
  .tiles { grid-template-columns:repeat(auto-fit,minmax(140px,1fr)); } .tile strong { font-size:1.5rem; }
  .badge { margin:6px 6px 0 0; } .rescue { padding:16px 14px; } .scroll { padding:6px 14px; }
  /* A row becomes a block, and every cell says its column. */
  table, tbody, tr, td, th { display:block; text-align:left; } thead { display:none; }
  tr { padding:10px 0; border-bottom:1px solid var(--line); } tbody tr:last-child { border-bottom:0; }
  td, .facts th, .facts td { border:0; padding:2px 0; white-space:normal; }
  td:first-child { font-weight:650; } td.empty { display:none; }
  td:not(:first-child)::before { content:attr(data-label) " "; color:var(--faint); margin-right:.6em; }
  .facts td::before { content:none !important; } .facts td:first-child { font-weight:400; }
  figure { padding:14px 12px; }
}
@media print { .card { break-inside:avoid; } }
"""
