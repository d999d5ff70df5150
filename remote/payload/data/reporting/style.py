"""How the report looks: one style sheet, which its Content-Security-Policy names by its digest."""

STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--paper:#fff;--panel:#f5f7fa;--line:#dfe4ea;--one:#2f6fb5;
--two:#e08a2c;--bad:#b3261e;--bad-panel:#fdecea;--mark:#9b2fae}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b3;--paper:#14181e;
--panel:#1d232b;--line:#323b46;--one:#6ca7e8;--two:#f0a95a;--bad:#ff8a80;--bad-panel:#3a1f1d;
--mark:#d28ae0}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1000px;padding:24px 20px 60px;background:var(--paper);
color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:26px;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:38px 0 10px;padding-bottom:4px;border-bottom:1px solid var(--line)}
h3{font-size:15px;margin:20px 0 6px}
p{margin:6px 0}
.soft{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;
margin:18px 0}
.tile{background:var(--panel);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:22px;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;margin:8px 0;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);
vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600;font-size:13px}
.n{text-align:right;padding-right:14px;overflow-wrap:normal}
td.n{white-space:nowrap}
td:first-child,th:first-child{overflow-wrap:break-word}
pre{background:var(--panel);border-radius:6px;padding:8px 10px;margin:4px 0 10px;
white-space:pre-wrap;overflow-wrap:anywhere;max-height:180px;overflow:auto;
font:12.5px/1.45 ui-monospace,"DejaVu Sans Mono",monospace}
code{font:13px ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
details{margin:6px 0}
summary{cursor:pointer;overflow-wrap:anywhere}
ul.findings{list-style:none;padding:0;margin:8px 0}
ul.findings li{padding:8px 12px;margin:6px 0;border-left:4px solid var(--two);
background:var(--panel);border-radius:0 6px 6px 0;overflow-wrap:anywhere}
ul.findings li.bad{border-color:var(--bad);background:var(--bad-panel)}
svg{width:100%;max-width:760px;height:auto;display:block;margin:6px 0}
svg .s0{fill:var(--one)}svg .s1{fill:var(--two)}svg .bad{fill:var(--bad)}
svg .soft{fill:var(--soft)}svg .point{fill:var(--one);fill-opacity:.55}
svg .frame{fill:none;stroke:var(--line)}
svg .grid{stroke:var(--line)}svg .mark{stroke:var(--mark);stroke-dasharray:4 3}
svg .axis{fill:var(--soft);font-size:12px}
.key::before{content:"";display:inline-block;width:11px;height:11px;border-radius:2px;
margin:0 5px 0 12px;background:var(--one)}
.key.two::before{background:var(--two)}
@media print{body{max-width:none}pre{max-height:none}}
"""
