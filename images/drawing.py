"""What the pictures have in common: colours, fonts, sizes, and the few shapes that they are made of, as SVG.

A picture is text that browsers read, so the same script writes the same bytes on every machine. Its colours
differ in lightness and its lines in kind, so that it also reads in grey. Sizes are in pixels of a picture
that is WIDTH wide; on a phone it is shown at about half of that.
"""

from html import escape
from pathlib import Path

WIDTH = 640
SIZE = 19  # of the text; half of it can still be read
SMALL = 17
LINE = 1.2  # from one line of a text to the next, in sizes of it

DARK = "#12406e"  # the token, and what computes with it
MIDDLE = "#b85408"  # what comes on top: weights of the router, the memory of a request
LIGHT = "#c9d9ea"  # weights that lie in memory
PALE = "#fdebd9"  # what belongs to MIDDLE, as a background
SKIPPED = "#e9e9e9"
GREY = "#5f5f5f"
BLACK = "#1a1a1a"
WHITE = "#ffffff"

FONTS = {
    "en": "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif",
    "zh": "'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', 'Source Han Sans SC', "
    "'WenQuanYi Micro Hei', sans-serif",
}
LANGUAGES = {"en": "en", "zh": "zh-CN"}
DASHES = "7 4"
HEAD = 11  # length of an arrow's head

Point = tuple[float, float]


def number(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def points_of(points: list[Point]) -> str:
    """Points as SVG writes them."""
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


def text_width(text: str, size: float = SIZE) -> float:
    """About how wide a line of text is, in a wide font; a Chinese character is as wide as it is high."""
    width = 0.0
    for character in text:
        width += 1.0 if ord(character) > 0x2E7F else 0.62
    return width * size


class Picture:
    """Shapes on a white ground, in the order in which they are drawn.

    language: "en" or "zh", for the fonts. title: what a reader hears who does not see the picture.
    """

    def __init__(self, height: float, language: str, title: str, width: float = WIDTH):
        self.width = width
        self.height = height
        self.language = language
        self.title = title
        self.shapes = []

    def box(self, x, y, width, height, text="", *, fill=WHITE, edge=DARK, color=BLACK, size=SIZE, **look):
        """A rounded box with its upper left corner at (x, y), and a text in its middle.

        look: `dashed` for its edge, `round` for the radius of its corners.
        """
        dashes = f' stroke-dasharray="{DASHES}"' if look.get("dashed") else ""
        self.shapes.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
            f'rx="{look.get("round", 7)}" fill="{fill}" stroke="{edge}" stroke-width="2"{dashes}/>'
        )
        self.text(x + width / 2, y + height / 2, text, anchor="middle", color=color, size=size)

    def bar(self, x, y, width, height, fill, *, edge=WHITE):
        """A rectangle with sharp corners and a thin edge, for an amount."""
        self.shapes.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
            f'fill="{fill}" stroke="{edge}"/>'
        )

    def area(self, points: list[Point], fill: str, edge: str = "none"):
        """A polygon. With an edge of its own colour, also what is narrower than a pixel can be seen."""
        self.shapes.append(f'<polygon points="{points_of(points)}" fill="{fill}" stroke="{edge}"/>')

    def text(self, x, y, text, *, anchor="start", color=BLACK, size=SIZE, bold=False):
        """Lines of text whose middle is at the height y; `anchor`: which part of a line is at x."""
        lines = text.split("\n")
        weight = ' font-weight="bold"' if bold else ""
        for place, line in enumerate(lines):
            from_middle = (place - (len(lines) - 1) / 2) * LINE * size
            baseline = y + from_middle + 0.35 * size
            if line:
                self.shapes.append(
                    f'<text x="{number(x)}" y="{number(baseline)}" text-anchor="{anchor}" '
                    f'font-size="{size}" fill="{color}"{weight}>{escape(line, quote=False)}</text>'
                )

    def line(self, *points: Point, color=DARK, width=2.5, dashed=False):
        """A line through the points."""
        dashes = f' stroke-dasharray="{DASHES}"' if dashed else ""
        self.shapes.append(
            f'<polyline points="{points_of(points)}" fill="none" stroke="{color}" '
            f'stroke-width="{width}"{dashes}/>'
        )

    def arrow(self, *points: Point, color=DARK, dashed=False):
        """A line through the points, with a head at its end; its parts are level or upright."""
        before, end = points[-2:]
        step_x = (end[0] > before[0]) - (end[0] < before[0])
        step_y = (end[1] > before[1]) - (end[1] < before[1])
        neck = (end[0] - HEAD * step_x, end[1] - HEAD * step_y)
        half = HEAD / 2
        corners = [(neck[0] - half * step_y, neck[1] - half * step_x)]
        corners += [end, (neck[0] + half * step_y, neck[1] + half * step_x)]
        self.line(*points[:-1], neck, color=color, dashed=dashed)
        self.area(corners, color)

    def svg(self) -> str:
        """The file's content."""
        size = f"{number(self.width)} {number(self.height)}"
        width, height = size.split()
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {size}" '
            f'role="img" lang="{LANGUAGES[self.language]}" font-family="{FONTS[self.language]}">'
        )
        ground = f'<rect width="{width}" height="{height}" fill="{WHITE}"/>'
        return "\n".join(
            [head, f"<title>{escape(self.title, quote=False)}</title>", ground, *self.shapes, "</svg>", ""]
        )


def file_name(script: str | Path, language: str) -> str:
    """The picture that a script draws: draw_two_cards.py draws two_cards.svg and two_cards_zh.svg."""
    stem = Path(script).stem.removeprefix("draw_")
    return f"{stem}.svg" if language == "en" else f"{stem}_{language}.svg"


def write(script: str, draw) -> None:
    """Write both languages of a picture beside its script; `draw(language)` returns a Picture."""
    for language in LANGUAGES:
        file = Path(script).with_name(file_name(script, language))
        file.write_text(draw(language).svg(), encoding="utf-8")
        print(file.name)
