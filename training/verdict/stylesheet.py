"""The look of the verdict's page: light, dark where the reader asks for it, and light again on paper.

Contrast of text on its ground is at least 4.5 : 1 in both (WCAG 2.2, 1.4.3).
"""

LIGHT = """--ground:#fff;--panel:#f6f8fa;--line:#d5dce3;--text:#1b2129;--dim:#56606b;--good:#116b32;--bad:#b3202c;
--wait:#8a5300;--ink:#2457a6;--badside:#b3202c1a;--goodside:#116b3214;--waitside:#8a530014;color-scheme:light"""
DARK = """--ground:#12161c;--panel:#1a2028;--line:#353e49;--text:#e6ebf1;--dim:#a3aebb;--good:#5fce86;--bad:#ff8a8a;
--wait:#eab35c;--ink:#82b1ff;--badside:#ff8a8a2b;--goodside:#5fce861f;--waitside:#eab35c1f;color-scheme:dark"""

STYLE = f"""
:root{{{LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}
@media print{{:root{{{LIGHT}}}body{{font-size:12px}}section,tr,.hero{{break-inside:avoid}}}}
*{{box-sizing:border-box;print-color-adjust:exact;-webkit-print-color-adjust:exact}}
body{{margin:0 auto;max-width:66rem;padding:1.25rem 1.25rem 3rem;background:var(--ground);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans KR","Noto Sans CJK KR",
"Apple SD Gothic Neo","Malgun Gothic",sans-serif;overflow-wrap:anywhere}}
h1,h2,h3,p{{margin:0}}
h2{{font-size:1.2rem;margin:2.4rem 0 .2rem}}
h3{{font-size:1rem;margin:1.4rem 0 .2rem}}
.dim{{color:var(--dim)}} .small{{font-size:.87rem}}
code{{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}}
.good{{--c:var(--good);--cs:var(--goodside)}} .bad-news{{--c:var(--bad);--cs:var(--badside)}}
.wait{{--c:var(--wait);--cs:var(--waitside)}}
.hero{{border:1px solid var(--line);border-top:6px solid var(--c);border-radius:10px;overflow:hidden}}
.hero>*{{padding:0 1.4rem}}
.eyebrow{{padding-top:.9rem;color:var(--dim);font-size:.87rem}}
h1{{font-size:1.05rem;font-weight:500;line-height:1.4}}
h1 b{{display:block;font-size:2rem;line-height:1.25;color:var(--c);letter-spacing:-.01em}}
.why{{font-size:1.16rem;line-height:1.45;padding-top:.8rem;padding-bottom:.1rem}}
.flagged{{margin-top:.5rem}}
.besides{{padding-top:.35rem}}
.picture p{{text-align:center}} .picture{{padding-top:.6rem;padding-bottom:.2rem}}
.do{{background:var(--panel);border-top:1px solid var(--line);margin-top:.8rem;padding-top:.7rem;padding-bottom:.9rem}}
.do p{{margin-top:.2rem}}
.do pre{{margin:.2rem 0 .4rem;padding:.45rem .7rem;background:var(--ground);border:1px solid var(--line);
border-radius:6px;white-space:pre-wrap;user-select:all}}
.chips{{display:flex;flex-wrap:wrap;gap:.4rem;margin:.7rem 0 0;padding:0;list-style:none}}
.chips li{{border:1px solid var(--line);border-radius:99px;padding:.1rem .7rem;font-size:.87rem}}
.chips b{{font-weight:600}}
.chips .bad-news{{border-color:var(--c);background:var(--cs)}}
.chips .off{{border-style:dashed;color:var(--dim)}}
.mark{{color:var(--c);font-weight:700;white-space:nowrap}}
table{{border-collapse:collapse;width:100%}}
th{{font-weight:600;text-align:left;color:var(--dim);font-size:.87rem}}
td,th{{padding:.4rem .7rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top}}
.checks{{table-layout:fixed}} .checks td{{vertical-align:middle}}
.checks tr.stuck td{{background:var(--badside)}} .checks tr.flag td{{background:var(--waitside)}}
.checks td:first-child{{padding-left:.6rem}}
.checks td.draw{{padding:0}}
.checks tr.axis td{{border:0;padding:0}}
.n{{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}}
.scroll{{overflow-x:auto}}
.best{{font-weight:700}}
.two{{display:grid;grid-template-columns:repeat(auto-fit,minmax(24rem,1fr));gap:0 2.2rem}}
.two>div{{min-width:0}}
ul.plain{{margin:.3rem 0;padding-left:1.1rem}}
.differs{{color:var(--ink);font-weight:600}}
svg{{display:block;max-width:100%}} svg.wide{{width:100%;height:auto}}
svg text{{fill:var(--text);font-family:inherit}}
.t{{font-size:12px}} svg text.t{{fill:var(--dim)}} .label{{font-size:12.5px}} .head{{font-size:12.5px;font-weight:700}}
.big{{font-size:16px;font-weight:700;paint-order:stroke;stroke:var(--ground);stroke-width:4px}}
 svg text.strong{{font-weight:700;fill:var(--text)}}
svg text.failed{{fill:var(--bad)}}
.bad{{fill:var(--badside)}} .hit{{fill:var(--badside)}}
.zero{{stroke:var(--text);stroke-width:1.2;fill:none}}
.need{{stroke:var(--bad);stroke-width:1.4;stroke-dasharray:4 3;fill:none}}
.tick,.grid{{stroke:var(--dim);stroke-width:1;fill:none}} .grid{{stroke:var(--line)}}
.ci{{stroke:var(--ink);stroke-width:2;fill:none}} .ci.fails{{stroke:var(--bad)}}
.pt{{fill:var(--ink);stroke:var(--ground);stroke-width:1}} .pt.fails{{fill:var(--bad)}}
.bar{{fill:var(--ink)}} .bar.fails{{fill:var(--bad)}}
.hollow{{fill:var(--ground);stroke:var(--text);stroke-width:1.8}} .cheap{{stroke:var(--dim);stroke-width:2.4;fill:none}}
.stem{{stroke:var(--line);stroke-width:1.5;fill:none}} .tonight{{fill:var(--panel)}}
footer{{margin-top:2.5rem}}
"""
