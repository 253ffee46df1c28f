"""Draws one picture of the shapes data set, with the outline of everything that shows in it.

A class is a *form* filled with a *texture* of its own. Colours are drawn from the same distribution
for all classes and for the background, so colour tells nothing at all.

Forms are drawn at `SUPERSAMPLING` times the resolution and averaged down, which gives smooth edges
and, from the same drawing, outlines with sub-pixel corners. Every length follows the image side.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as mask_api

SUPERSAMPLING = 4
SIZE_RANGE = (0.16, 0.64)  # longest extent of an object over the image side: two octaves
OBJECTS_RANGE = (2, 5)  # objects tried per image; a crowded image may end with fewer
MIN_VISIBLE = 0.75  # every object shows at least this share of its full form
_PLACEMENT_TRIES = 10
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, for RGB


@dataclass(frozen=True)
class ShapeClass:
    """One class: its name, what it looks like, and its colour in overlays (RGB, 0..255)."""

    name: str
    form: str
    texture: str
    palette: tuple[int, int, int]


CLASSES = (
    ShapeClass("striped_disc", "disc", "stripes", (230, 80, 60)),
    ShapeClass("checked_square", "square", "checks", (70, 190, 90)),
    ShapeClass("dotted_triangle", "triangle", "dots", (60, 160, 235)),
    ShapeClass("shaded_ring", "ring", "shading", (180, 90, 220)),
)


@dataclass(frozen=True)
class ShapeObject:
    """One visible object.

    Attributes:
        label: Index into `CLASSES`.
        size: Longest extent of the whole, unhidden form, in pixels.
        full_area: Area of the whole form in square pixels, hidden and cut-off parts included.
        polygons: COCO segmentation of the visible part: `[x0, y0, x1, y1, ...]` in pixels each.
        mask: `bool[H, W]`, the polygons as pycocotools rasterises them.
    """

    label: int
    size: float
    full_area: float
    polygons: list[list[float]]
    mask: np.ndarray


def render_image(rng: np.random.Generator, side: int) -> tuple[np.ndarray, list[ShapeObject]]:
    """Draws one image.

    Args:
        rng: The only source of chance: an equal generator gives an equal image.
        side: Height and width in pixels.

    Returns:
        The picture, `uint8[side, side, 3]` in RGB, and its objects from back to front.
    """
    canvas = _background(rng, side)
    # Whose sub-pixel: 0 none, k object k.
    owner: np.ndarray = np.zeros((side * SUPERSAMPLING,) * 2, np.uint8)
    placed: list[tuple[int, float, float]] = []
    visible: list[int] = []  # sub-pixels of object k+1 that still show
    for _ in range(rng.integers(OBJECTS_RANGE[0], OBJECTS_RANGE[1] + 1)):
        label = int(rng.integers(len(CLASSES)))
        size = side * float(np.exp(rng.uniform(*np.log(SIZE_RANGE))))
        for _ in range(_PLACEMENT_TRIES):
            outline = _outline(rng, CLASSES[label].form, size, side)
            if _claim(owner, outline, placed, visible):
                full_area = _area(outline)
                placed.append((label, size, full_area))
                _paint(rng, canvas, outline, CLASSES[label].texture, size)
                break
    objects = []
    for k, (label, size, full_area) in enumerate(placed, 1):
        polygons = _trace((owner == k).astype(np.uint8))
        mask = _rasterise(polygons, side)
        objects.append(ShapeObject(label, size, full_area, polygons, mask))
    return _photograph(rng, canvas), objects


# --- forms ---------------------------------------------------------------------------------------


def _form(name: str) -> list[np.ndarray]:
    """Contours `float[N, 2]` of a form whose longest extent is 1; a second contour is a hole."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = 0.5 * np.stack([np.cos(turn), np.sin(turn)], 1)
    if name == "disc":
        return [circle]
    if name == "ring":
        return [circle, 0.5 * circle]
    if name == "square":
        return [np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * 0.85]
    if name == "triangle":
        corners = np.deg2rad([-90.0, 30.0, 150.0])
        return [np.stack([np.cos(corners), np.sin(corners)], 1) / np.sqrt(3) * 1.05]
    raise ValueError(f"unknown form {name!r}")


def _outline(rng: np.random.Generator, form: str, size: float, side: int) -> list[np.ndarray]:
    """The form squeezed, turned, scaled and put at a chance place; coordinates in pixels."""
    squeeze = np.array([1.0, rng.uniform(0.75, 1.0)])
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    margin = 0.3 * size  # the border may cut an object, but never through its middle
    centre = rng.uniform(margin, side - margin, 2)
    return [(size * contour * squeeze) @ turn.T + centre for contour in _form(form)]


def _area(outline: list[np.ndarray]) -> float:
    """Area between the first contour and its hole, in square pixels (shoelace formula)."""
    areas = [
        abs(np.sum(c[:, 0] * np.roll(c[:, 1], -1) - c[:, 1] * np.roll(c[:, 0], -1))) / 2
        for c in outline
    ]
    return float(areas[0] - sum(areas[1:]))


def _fill(outline: list[np.ndarray], x0: int, y0: int, x1: int, y1: int, scale: int) -> np.ndarray:
    """Fills an outline in the window `[x0, x1) x [y0, y1)`: `uint8` 0/1 at `scale` per pixel."""
    patch: np.ndarray = np.zeros(((y1 - y0) * scale, (x1 - x0) * scale), np.uint8)
    # OpenCV's integer coordinates are pixel centres, and `shift=4` counts sixteenths.
    corners = [((c - (x0, y0)) * scale - 0.5) * 16 for c in outline]
    cv2.fillPoly(patch, [np.rint(c).astype(np.int32) for c in corners], 1, cv2.LINE_8, 4)
    return patch


def _window(outline: list[np.ndarray], side: int, pad: int = 1) -> tuple[int, int, int, int]:
    low = np.floor(outline[0].min(0)).astype(int) - pad
    high = np.ceil(outline[0].max(0)).astype(int) + pad
    (x0, y0), (x1, y1) = np.maximum(low, 0), np.minimum(high, side)
    return int(x0), int(y0), int(x1), int(y1)


def _claim(owner: np.ndarray, outline: list[np.ndarray], placed: list, visible: list[int]) -> bool:
    """Takes the outline's sub-pixels, unless that would hide too much of any object."""
    s = SUPERSAMPLING
    x0, y0, x1, y1 = _window(outline, owner.shape[0] // s)
    inside: np.ndarray = _fill(outline, x0, y0, x1, y1, s).astype(bool)
    view = owner[y0 * s : y1 * s, x0 * s : x1 * s]
    lost = np.bincount(view[inside], minlength=len(placed) + 1)[1:]
    left = [v - n for v, n in zip(visible, lost, strict=True)] + [int(inside.sum())]
    areas = [area for _, _, area in placed] + [_area(outline)]
    if any(n < MIN_VISIBLE * area * s * s for n, area in zip(left, areas, strict=True)):
        return False
    view[inside] = len(placed) + 1
    visible[:] = left
    return True


# --- outlines of what shows ----------------------------------------------------------------------


def _trace(shown: np.ndarray) -> list[list[float]]:
    """COCO polygons of a sub-pixel mask; a hole is joined to its outer contour by a slit.

    COCO polygons know no holes: they are filled by the even-odd rule, so a contour that walks to
    the hole, around it, and back over the same slit leaves the hole empty.
    """
    s = SUPERSAMPLING
    contours, tree = cv2.findContours(shown, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    smallest = (2 * s) ** 2  # specks under four square pixels are not annotated
    largest = max(cv2.contourArea(c) for c in contours)
    polygons = []
    for k, contour in enumerate(contours):
        is_hole = tree[0][k][3] >= 0
        if is_hole or cv2.contourArea(contour) < min(smallest, largest):
            continue
        ring = cv2.approxPolyDP(contour, 0.25 * s, True)[:, 0]
        child = tree[0][k][2]
        while child >= 0:
            if cv2.contourArea(contours[child]) >= smallest:
                ring = _slit(ring, cv2.approxPolyDP(contours[child], 0.25 * s, True)[:, 0])
            child = tree[0][child][0]
        if len(ring) >= 3:
            polygons.append(np.round((ring + 0.5) / s, 2).ravel().tolist())
    return polygons


def _slit(outer: np.ndarray, hole: np.ndarray) -> np.ndarray:
    distance = np.abs(outer[:, None] - hole[None]).sum(-1)
    i, j = np.unravel_index(distance.argmin(), distance.shape)
    around = np.concatenate([hole[j:], hole[: j + 1]])
    return np.concatenate([outer[: i + 1], around, outer[i:]])


def _rasterise(polygons: list[list[float]], side: int) -> np.ndarray:
    return mask_api.decode(mask_api.merge(mask_api.frPyObjects(polygons, side, side))).astype(bool)


# --- surfaces ------------------------------------------------------------------------------------


def _colour(rng: np.random.Generator, luma: float) -> np.ndarray:
    """A chance hue of the given brightness, `float32[3]` RGB."""
    tint = rng.uniform(-1, 1, 3).astype(np.float32)
    return np.clip(luma + rng.uniform(20, 75) * (tint - tint @ _LUMA), 0, 255)


def _smooth_noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Noise of about `cells` bumps per side, `float32[side, side]`, roughly in -1..1."""
    grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Two-coloured cloudy ground with plain blobs and thin lines on it, `float32[H, W, 3]` RGB."""
    luma = rng.uniform(60, 195)
    clouds = sum(_smooth_noise(rng, side, n) * w for n, w in ((3, 0.5), (9, 0.3), (27, 0.2)))
    weight = np.clip(0.5 + clouds, 0, 1)[..., None]
    first, second = _colour(rng, luma), _colour(rng, luma + rng.uniform(-45, 45))
    canvas = first * weight + second * (1 - weight)
    for _ in range(rng.integers(0, 3)):
        _blob(rng, canvas, luma)
    for _ in range(rng.integers(0, 3)):
        _line(rng, canvas, luma)
    return canvas


def _blob(rng: np.random.Generator, canvas: np.ndarray, luma: float) -> None:
    """A flat lump without texture: something that is there and belongs to no class."""
    side = canvas.shape[0]
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = sum(rng.uniform(-0.2, 0.2) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    radius = side * rng.uniform(0.04, 0.15) * (1 + waves)
    points = rng.uniform(0, side, 2) + radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    _flat(canvas, points, _colour(rng, luma + rng.choice([-1, 1]) * rng.uniform(20, 55)))


def _line(rng: np.random.Generator, canvas: np.ndarray, luma: float) -> None:
    """A thin straight bar."""
    side = canvas.shape[0]
    start, end = rng.uniform(0, side, (2, 2))
    along = (end - start) / max(float(np.hypot(*(end - start))), 1.0)
    across = np.array([-along[1], along[0]]) * side * rng.uniform(0.003, 0.01)
    points = np.array([start + across, end + across, end - across, start - across])
    _flat(canvas, points, _colour(rng, luma + rng.uniform(-70, 70)))


def _flat(canvas: np.ndarray, points: np.ndarray, colour: np.ndarray) -> None:
    x0, y0, x1, y1 = _window([points], canvas.shape[0])
    coverage = _coverage([points], x0, y0, x1, y1)[..., None]
    view = canvas[y0:y1, x0:x1]
    view += coverage * (colour - view)


def _coverage(outline: list[np.ndarray], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Share of each pixel of the window that the outline covers, `float32` in 0..1."""
    fine: np.ndarray = _fill(outline, x0, y0, x1, y1, SUPERSAMPLING).astype(np.float32)
    return cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)


def _paint(
    rng: np.random.Generator, canvas: np.ndarray, outline: list, texture: str, size: float
) -> None:
    """Lays a soft shadow and then the textured form on the canvas, in place."""
    shadow_width = 0.05 * size
    x0, y0, x1, y1 = _window(outline, canvas.shape[0], pad=2 + round(3 * shadow_width))
    coverage = _coverage(outline, x0, y0, x1, y1)
    shift = np.float32([[1, 0, 0.6 * shadow_width], [0, 1, 0.9 * shadow_width]])
    shadow = cv2.warpAffine(coverage, shift, coverage.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), shadow_width)
    view = canvas[y0:y1, x0:x1]
    view *= 1 - 0.35 * shadow[..., None]
    rows, columns = np.mgrid[y0:y1, x0:x1].astype(np.float32) + 0.5
    centre = (outline[0].min(0) + outline[0].max(0)) / 2
    weight = _texture(rng, texture, columns - centre[0], rows - centre[1], size)[..., None]
    dark = rng.uniform(20, 110)
    low, high = _colour(rng, dark), _colour(rng, dark + rng.uniform(90, 140))
    view += coverage[..., None] * (low + (high - low) * weight - view)


def _texture(
    rng: np.random.Generator, name: str, x: np.ndarray, y: np.ndarray, size: float
) -> np.ndarray:
    """Share of the brighter colour at offsets `x`, `y` (pixels) from the centre, in 0..1."""
    angle = rng.uniform(0, 2 * np.pi)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    if name == "shading":
        return np.clip(0.5 + u / size, 0, 1)
    period = size * rng.uniform(0.2, 0.3)
    u = 2 * np.pi * (u / period + rng.uniform())
    v = 2 * np.pi * (v / period + rng.uniform())
    edge = period / 4  # the slope of a wave's zero crossing that spreads an edge over one pixel
    if name == "stripes":
        wave = np.sin(u)
    elif name == "checks":
        wave = np.sin(u / 1.4) * np.sin(v / 1.4) * 1.4
    elif name == "dots":
        wave = (np.cos(u) + np.cos(v) - 0.8) * rng.choice([-1, 1])
    else:
        raise ValueError(f"unknown texture {name!r}")
    return 0.5 + 0.5 * np.clip(edge * wave, -1, 1)


def _photograph(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Uneven light, a little blur and sensor noise: `uint8[H, W, 3]`."""
    side = canvas.shape[0]
    light = 1 + 0.12 * _smooth_noise(rng, side, 2)[..., None]
    blur = side / 192 * rng.uniform(0.2, 0.7)
    picture = cv2.GaussianBlur(canvas * light, (0, 0), blur)
    picture += rng.normal(0, rng.uniform(2, 7), canvas.shape).astype(np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
