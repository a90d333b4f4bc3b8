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
.card { background:var(--card); border:1px solid var(--line); border-radius:14px; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(180px,1fr)); gap:14px; }
.tile { padding:16px 20px; display:flex; flex-direction:column; }
.tile span { color:var(--faint); font-size:.88rem; }
.tile strong { font-size:1.9rem; letter-spacing:-.02em; font-variant-numeric:tabular-nums; }
.tile em { color:var(--faint); font-style:normal; font-size:.85rem; }
figure { margin:0; padding:18px; }
figure img { display:block; max-width:100%; margin:0 auto; height:auto; }
figcaption, .note { color:var(--faint); font-size:.88rem; margin:10px 2px 0; }
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
.badge { margin-left:.8em; padding:2px 9px; border-radius:99px; border:1px solid var(--hint); color:var(--hint);
  font-size:.75rem; font-weight:600; }
.rescue div { border-left:3px solid var(--line); padding-left:14px; margin-top:12px; }
.rescue h4 { margin:0; font-size:.82rem; color:var(--faint); font-weight:600; overflow-wrap:anywhere; }
.rescue .wrong { border-color:var(--wrong); } .rescue .wrong h4 { color:var(--wrong); }
.rescue .hint { border-color:var(--hint); } .rescue .hint h4 { color:var(--hint); }
.rescue .right { border-color:var(--right); } .rescue .right h4 { color:var(--right); }
pre { margin:2px 0 0; white-space:pre-wrap; overflow-wrap:anywhere;
  font:.9rem/1.5 ui-monospace,Menlo,Consolas,monospace; }
@media (max-width:600px) { main { padding:28px 14px 60px; } h1 { font-size:1.7rem; } }
@media print { .card { break-inside:avoid; } }
"""
