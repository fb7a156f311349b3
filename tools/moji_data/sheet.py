"""Contact sheets for inspection: a design's images beside Noto's, each with its English name.

A wrong match harms training and no metric shows it, so a person checks every design that is matched by name.
"""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw
from tools.moji_data.render import Rgba, on_white

CELL, COLUMNS, LINE, LETTERS = 64, 12, 11, 22


def contact_sheet(
    names: Sequence[str], labels: Mapping[str, str], pictures: Sequence[Mapping[str, Rgba]]
) -> Image.Image:
    """Draw each of `names` (code points) in every design of `pictures`, with its label below."""
    wide, high = CELL * len(pictures) + 6, CELL + 3 * LINE
    rows = -(-len(names) // COLUMNS)
    sheet = Image.new("RGB", (wide * COLUMNS, high * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for at, cp in enumerate(names):
        x, y = at % COLUMNS * wide, at // COLUMNS * high
        for place, drawn in enumerate(pictures):
            if cp in drawn:
                sheet.paste(on_white(drawn[cp]).resize((CELL, CELL)), (x + place * CELL, y))
        lines = [labels[cp][start : start + LETTERS] for start in range(0, 2 * LETTERS, LETTERS)]
        draw.text((x, y + CELL), "\n".join([*lines, cp[:LETTERS]]), fill="black", spacing=0)
    return sheet
