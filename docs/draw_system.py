"""Draw `docs/system.svg`, the README's picture: `python docs/draw_system.py`.

Boxes and arrows are data, so that a party or a message is one line.
"""

from pathlib import Path

HERE = Path(__file__).parent
WIDTH, HEIGHT = 980, 440
INK, QUIET, PAPER, FILL, CHAIN = "#1f2933", "#52606d", "#ffffff", "#eef3f8", "#f6efe2"

# name, what it does, left, top, width, height, fill
BOXES = (
    ("worker", "samples with vLLM", 20, 20, 190, 74, FILL),
    ("orchestrator", "leases, takes in, batches", 385, 20, 210, 74, FILL),
    ("trainer", "learns, publishes policies", 770, 20, 190, 74, FILL),
    ("operator", "pays for a run", 20, 190, 140, 74, FILL),
    ("verifiers", "replay token by token", 385, 190, 210, 74, FILL),
    ("anyone", "recomputes everything", 770, 190, 190, 74, FILL),
    ("ledger", "contracts: escrow, stakes, epochs, claims, fraud proofs", 20, 350, 940, 70, CHAIN),
)

# text by lines, from, to, place of the text, its anchor
ARROWS = (
    (("lease: task, seeds, price",), (385, 40), (210, 40), (297, 32), "middle"),
    (("group, signed; receipt back",), (210, 74), (385, 74), (297, 90), "middle"),
    (("batch of accepted groups",), (595, 40), (770, 40), (682, 32), "middle"),
    (("policy: patch, manifest",), (770, 74), (595, 74), (682, 90), "middle"),
    (("drawn groups",), (455, 94), (455, 190), (447, 147), "end"),
    (("signed verdicts",), (525, 190), (525, 94), (533, 147), "start"),
    (("budget",), (90, 264), (90, 350), (82, 311), "end"),
    (("claim: pay for", "accepted work"), (185, 350), (185, 94), (193, 219), "start"),
    (("m of n sign", "each epoch"), (490, 264), (490, 350), (498, 303), "start"),
    (("epochs,", "evidence"), (820, 350), (820, 264), (812, 303), "end"),
    (("proof of fraud:", "void, signers pay"), (850, 264), (850, 350), (858, 303), "start"),
)
LINE = 16


def drawn() -> str:
    """Return the picture."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="{QUIET}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
        *(_box(box) for box in BOXES),
        *(_arrow(*arrow) for arrow in ARROWS),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _box(box: tuple[str, str, int, int, int, int, str]) -> str:
    name, does, x, y, w, h, fill = box
    middle = x + w / 2
    return (
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" fill="{fill}" stroke="{INK}"/>'
        + _text(name, middle, y + h / 2 - 6, INK, 16, weight="bold")
        + _text(does, middle, y + h / 2 + 16, QUIET)
    )


def _arrow(
    lines: tuple[str, ...],
    start: tuple[int, int],
    end: tuple[int, int],
    at: tuple[int, int],
    anchor: str,
) -> str:
    path = f"M {start[0]} {start[1]} L {end[0]} {end[1]}"
    drawn = f'<path d="{path}" stroke="{QUIET}" stroke-width="1.5" marker-end="url(#tip)"/>'
    return drawn + "".join(
        _text(line, at[0], at[1] + LINE * i, INK, 12, anchor=anchor) for i, line in enumerate(lines)
    )


def _text(
    text: str,
    x: float,
    y: float,
    colour: str,
    size: int = 13,
    *,
    anchor: str = "middle",
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{text}</text>'
    )


if __name__ == "__main__":
    (HERE / "system.svg").write_text(drawn())
