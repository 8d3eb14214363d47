"""Draw faces of cartoon animals: each species has fixed shapes; pose and colours are random."""

import math
import random
from dataclasses import dataclass

from PIL import ImageDraw

_BORROWED_EARS = 0.12
_MISSING_WHISKERS = 0.25

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Species:
    """The shapes that distinguish a species; `Face` has a method for each kind of ear and snout."""

    ears: str
    snout: str
    pupils: str = "round"
    whiskers: bool = False


SPECIES = {
    "cat": Species(ears="pointed", snout="button", pupils="slit", whiskers=True),
    "dog": Species(ears="floppy", snout="muzzle"),
    "rabbit": Species(ears="long", snout="button", whiskers=True),
    "bear": Species(ears="round", snout="muzzle"),
    "fox": Species(ears="pointed", snout="wedge", pupils="slit"),
    "mouse": Species(ears="dish", snout="wedge", whiskers=True),
    "pig": Species(ears="floppy", snout="disc"),
    "owl": Species(ears="tufts", snout="beak", pupils="ringed"),
    "cow": Species(ears="horns", snout="disc", pupils="wide"),
    "sheep": Species(ears="sideways", snout="wedge", pupils="wide"),
}


def random_colour(rng: random.Random, low: int = 40, high: int = 235) -> Colour:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (max(0, min(255, round(channel * factor))) for channel in colour)
    return red, green, blue


class Face:
    """An animal's face in coordinates in which the head is roughly the unit circle and y points down.

    `canvas` is the side of the image in pixels.
    """

    def __init__(self, species: str, rng: random.Random, canvas: int):
        self.traits = SPECIES[species]
        self.rng = rng
        self.fur, self.accent, self.eye_colour = random_colour(rng), random_colour(rng), random_colour(rng, 120, 250)
        self.dark = _shade(self.fur, 0.25)
        self.scale = canvas * rng.uniform(0.24, 0.34)
        self.centre = (canvas * rng.uniform(0.4, 0.6), canvas * rng.uniform(0.44, 0.6))
        angle = math.radians(rng.gauss(0, 13))
        self.cos, self.sin = math.cos(angle), math.sin(angle)
        self.width, self.height = rng.uniform(0.88, 1.12), rng.uniform(0.85, 1.08)
        self.look = rng.uniform(-0.16, 0.16)  # eyes and snout shift sideways, as if the head turned

    def draw(self, draw: ImageDraw.ImageDraw) -> None:
        self.canvas = draw
        ears = self.traits.ears
        if self.rng.random() < _BORROWED_EARS:
            ears = self.rng.choice([species.ears for species in SPECIES.values()])
        self.ellipse((0, 1.5), self.rng.uniform(0.7, 1.1), 1.0, _shade(self.fur, 0.85))  # the body
        behind = ears != "floppy"  # floppy ears hang over the head; other ears are behind it
        if behind:
            self.ears(ears)
        self.ellipse((0, 0), 1, 1, self.fur)
        if not behind:
            self.ears(ears)
        if self.rng.random() < 0.35:  # a patch of the second colour, for any species
            self.ellipse((self.rng.uniform(-0.4, 0.4), self.rng.uniform(-0.5, 0)), 0.35, 0.4, self.accent)
        self.eyes()
        getattr(self, f"snout_{self.traits.snout}")()
        if self.traits.whiskers and self.rng.random() > _MISSING_WHISKERS:
            self.whiskers()

    def at(self, point: Point) -> Point:
        x, y = point[0] * self.width, point[1] * self.height
        return (
            self.centre[0] + self.scale * (x * self.cos - y * self.sin),
            self.centre[1] + self.scale * (x * self.sin + y * self.cos),
        )

    def polygon(self, points: list[Point], fill) -> None:
        self.canvas.polygon([self.at(point) for point in points], fill=fill, outline=self.dark)

    def ellipse(self, centre: Point, rx: float, ry: float, fill, turn: float = 0) -> None:
        cos, sin = math.cos(turn), math.sin(turn)
        points = []
        for k in range(28):
            x, y = rx * math.cos(k * math.pi / 14), ry * math.sin(k * math.pi / 14)
            points.append((centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos))
        self.polygon(points, fill)

    def line(self, points: list[Point], fill, width: float) -> None:
        self.canvas.line([self.at(point) for point in points], fill=fill, width=max(1, round(width * self.scale)))

    def ears(self, kind: str) -> None:
        length = self.rng.uniform(0.8, 1.2)
        for side in (-1, 1):
            getattr(self, f"ear_{kind}")(side, length * self.rng.uniform(0.92, 1.08))

    def ear_pointed(self, side: int, length: float) -> None:
        tip = (side * 0.85, -0.75 - 0.75 * length)
        self.polygon([(side * 0.15, -0.85), tip, (side * 0.98, -0.25)], self.fur)
        self.polygon([(side * 0.38, -0.85), (side * 0.8, -0.65 - 0.6 * length), (side * 0.85, -0.45)], self.accent)

    def ear_floppy(self, side: int, length: float) -> None:
        fill = _shade(self.fur, 0.7)
        self.ellipse((side * 0.95, -0.25 + 0.3 * length), 0.27, 0.62 * length, fill, turn=-side * 0.25)

    def ear_long(self, side: int, length: float) -> None:
        lean = side * self.rng.uniform(0.05, 0.35)
        centre = (side * 0.38 + lean * 0.8, -0.8 - 0.6 * length)
        self.ellipse(centre, 0.24, 0.85 * length, self.fur, turn=lean)
        self.ellipse(centre, 0.12, 0.6 * length, self.accent, turn=lean)

    def ear_round(self, side: int, length: float) -> None:
        self.ellipse((side * 0.72, -0.78), 0.34 * length, 0.34 * length, self.fur)
        self.ellipse((side * 0.72, -0.78), 0.19 * length, 0.19 * length, self.accent)

    def ear_dish(self, side: int, length: float) -> None:
        self.ellipse((side * 0.95, -0.75), 0.58 * length, 0.58 * length, self.fur)
        self.ellipse((side * 0.95, -0.75), 0.42 * length, 0.42 * length, self.accent)

    def ear_tufts(self, side: int, length: float) -> None:
        self.polygon([(side * 0.45, -0.75), (side * 0.95, -0.95 - 0.3 * length), (side * 0.8, -0.5)], self.fur)

    def ear_horns(self, side: int, length: float) -> None:
        root, bend, tip = (side * 0.5, -0.8), (side * 0.95, -1.05), (side * 0.95, -1.15 - 0.4 * length)
        self.line([root, bend, tip], self.accent, 0.17)
        self.ellipse((side * 1.05, -0.4), 0.33, 0.17, self.fur, turn=side * 0.3)

    def ear_sideways(self, side: int, length: float) -> None:
        self.ellipse((side * 1.1, -0.25), 0.42 * length, 0.18, self.fur, turn=side * 0.35)
        for x in (-0.45, 0.0, 0.45):  # wool on the forehead
            self.ellipse((x * abs(side), -0.92), 0.3, 0.22, self.accent)

    def eyes(self) -> None:
        size, gap = self.rng.uniform(0.15, 0.22), self.rng.uniform(0.34, 0.46)
        closed = self.rng.random() < 0.06
        for side in (-1, 1):
            centre = (side * gap + self.look, -0.22)
            if closed:
                self.line([(centre[0] - size, centre[1]), (centre[0] + size, centre[1])], self.dark, 0.06)
            else:
                self.eye(centre, size)

    def eye(self, centre: Point, size: float) -> None:
        black = (15, 15, 20)
        if self.traits.pupils == "ringed":
            self.ellipse(centre, size * 2, size * 2, self.accent)
        self.ellipse(centre, size, size * 0.9, self.eye_colour)
        pupil = {"round": (0.55, 0.55), "slit": (0.2, 0.8), "wide": (0.75, 0.3), "ringed": (0.7, 0.7)}
        rx, ry = pupil[self.traits.pupils]
        self.ellipse((centre[0] + self.look * 0.3, centre[1]), size * rx, size * ry, black)

    def snout_button(self) -> None:
        x, y = self.look, 0.28
        self.polygon([(x - 0.12, y - 0.07), (x + 0.12, y - 0.07), (x, y + 0.09)], self.dark)
        self.line([(x, y + 0.09), (x, y + 0.22)], self.dark, 0.05)
        self.line([(x - 0.2, y + 0.28), (x, y + 0.22), (x + 0.2, y + 0.28)], self.dark, 0.05)

    def snout_muzzle(self) -> None:
        x = self.look
        self.ellipse((x, 0.42), 0.46, 0.38, _shade(self.fur, 1.3))
        self.ellipse((x, 0.22), 0.2, 0.14, self.dark)
        self.line([(x, 0.3), (x, 0.55)], self.dark, 0.05)
        if self.rng.random() < 0.5:
            self.ellipse((x, 0.68), 0.12, 0.17, (220, 90, 110))

    def snout_wedge(self) -> None:
        x = self.look
        self.polygon([(x - 0.5, 0.1), (x + 0.5, 0.1), (x, 0.95)], _shade(self.fur, 1.3))
        self.ellipse((x, 0.82), 0.12, 0.1, self.dark)

    def snout_disc(self) -> None:
        x, y = self.look, 0.38
        self.ellipse((x, y), 0.42, 0.28, _shade(self.accent, 1.1))
        for side in (-1, 1):
            self.ellipse((x + side * 0.15, y), 0.07, 0.12, self.dark)

    def snout_beak(self) -> None:
        x = self.look
        self.polygon([(x - 0.16, 0.0), (x + 0.16, 0.0), (x, 0.42)], self.accent)

    def whiskers(self) -> None:
        for side in (-1, 1):
            for rise in (-0.12, 0.02, 0.16):
                start, end = (side * 0.3 + self.look, 0.34 + rise * 0.4), (side * 1.15, 0.3 + rise * 2)
                self.line([start, end], self.dark, 0.035)
