"""The chart: CPU per request of every contestant as bars, an SVG that reads on light and on dark pages."""

from html import escape

from .rounds import median
from .scenarios import BEFORE, OURS

PANELS = (
    ("plain", "HTTP/1.1"),
    ("tls", "HTTP/1.1 over TLS"),
    ("http2", "HTTP/2 over TLS"),
    ("new", "HTTP/1.1 over TLS, every token new"),
)

# Geometry, in pixels of the picture.
WIDTH, MARGIN, LABELS, VALUES = 860, 24, 210, 60
BAR, STEP, TITLE = 14, 22, 40

STYLE = """
.page { fill: #ffffff; stroke: #d0d7de; }
text { fill: #1f2328; font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
.title { font-size: 17px; font-weight: 600; }
.panel { font-weight: 600; }
.note { fill: #59636e; font-size: 12px; }
.ours { fill: #0a7d5a; } .text-ours { font-weight: 600; }
.checks { fill: #c2703d; }
.bare { fill: #9aa4af; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; stroke: #3d444d; }
  text { fill: #f0f6fc; } .note { fill: #9198a1; }
  .ours { fill: #2fbf8f; } .checks { fill: #e0905c; } .bare { fill: #656c76; }
}
"""


def draw(results):
    """The picture as text; all panels share one scale, or their bars could not be compared."""
    panels = [(title, _bars(results["scenarios"][name])) for name, title in PANELS if name in results["scenarios"]]
    greatest = max((value for _, bars in panels for _, value in bars), default=1)
    scale = (WIDTH - 2 * MARGIN - LABELS - VALUES) / greatest
    shapes, y = [], MARGIN + 18
    shapes.append(_text(MARGIN, y, "CPU time per request, µs (less is better)", "title"))
    y += 22
    for kind, told in (
        ("ours", "every check of the token"),
        ("checks", "checks tokens"),
        ("bare", "looks at no token"),
    ):
        x = MARGIN + {"ours": 0, "checks": 260, "bare": 400}[kind]
        shapes.append(f'<rect class="{kind}" x="{x}" y="{y - 10}" width="12" height="12" rx="2"/>')
        shapes.append(_text(x + 18, y, f"Portcullis: {told}" if kind == "ours" else told, "note"))
    for title, bars in panels:
        y += TITLE
        shapes.append(_text(MARGIN, y, title, "panel"))
        for name, value in bars:
            y += STEP
            kind = _kind(name)
            shapes.append(_text(MARGIN, y, name, f"text-{kind}"))
            length = max(value * scale, 1)
            shapes.append(
                f'<rect class="{kind}" x="{MARGIN + LABELS}" y="{y - 11}" width="{length:.1f}" height="{BAR}" rx="2"/>'
            )
            shapes.append(_text(MARGIN + LABELS + length + 6, y, f"{value:.1f}", f"text-{kind}"))
    height = y + MARGIN
    body = "\n".join(shapes)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">
<title>CPU time per request of Portcullis and other proxies</title>
<style>{STYLE}</style>
<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>
{body}
</svg>
"""


def _bars(scenario):
    """Names and medians, least first; an older Portcullis is no part of the picture."""
    samples = scenario["samples"].items()
    return sorted(
        ((name, median(taken)) for name, taken in samples if not name.startswith(BEFORE)), key=lambda bar: bar[1]
    )


def _kind(name):
    if name.startswith(OURS):
        return "ours" if name == OURS else "bare"
    return "checks" if "jwt" in name else "bare"


def _text(x, y, text, kind):
    return f'<text class="{kind}" x="{x:.1f}" y="{y}">{escape(text)}</text>'
