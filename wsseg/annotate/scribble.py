"""Scribbles as a person might draw them, from label maps.

A hand's stroke runs along the inside of what it marks, from one end to the other, bends with it,
wanders where there is room and keeps off the borders. Here a stroke is the cheapest path between
two far ends of a region on a coarse grid: being close to a border is dear, and so are a smooth
random field, which makes it wander, and what is already drawn, which sends the next stroke
elsewhere. The path is then smoothed and shaken a little. How much is drawn in all follows the
share of pixels that readers of ScribbleSup report (about 3 % with lines 3 pixels wide).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from scipy.ndimage import find_objects, gaussian_filter1d
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

NOT_DRAWN = 255
CELLS = 34          # of the coarse grid, along a region's longer side
EXPONENT = 0.6      # a region's ink grows with its area to this power
MANY = 4.0          # strokes in a region as large as the image; fewer as its width is less
FULLEST = 0.25      # no region gets more ink than this share of it ...
SMALLEST = 8.0      # ... and one narrower than this many pens gets one short dash
SLIDE = 3.0         # measured: the ink that slips add, per share of wrong ink; most is still right
STEP = 2.0          # pixels between the points of a stroke
_AROUND = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 2 ** .5), (1, -1, 2 ** .5))


@dataclass(frozen=True, eq=False)
class Stroke:
    """One movement of the pen.

    cls: the class it marks; number: of its object, 0 for the background; xy: float (N, 2),
    pixel centres are whole numbers; slip: the part that left the object, float (M, 2), M >= 0.
    """

    cls: int
    number: int
    xy: np.ndarray
    slip: np.ndarray

    def length(self) -> float:
        """Return the pixels from its first point to its last."""
        return _length(self.xy) + _length(self.slip)


def draw_scribbles(label: np.ndarray, ids: np.ndarray, classes: np.ndarray,
                   rng: np.random.Generator, *, width: int = 3, strokes: int | None = None,
                   coverage: float = 0.03, sloppy: float = 0.0, background: int | None = 0,
                   ignore: int = 255) -> np.ndarray:
    """Draw strokes on every object and on the background.

    label: (H, W); ids: objects int (H, W), 0 = none; classes: class of ids 1..N. width: of the
    pen in pixels. strokes: most per object (the background may have twice as many); by default
    as many as its size asks for: one to three, as a rule. coverage: share of the pixels whose
    class is known to draw, as far as there is room; every object gets a dot at least. sloppy:
    share of the drawn pixels that is to lie on another class, in the mean over images; at 0 no
    pixel does. background: its class, None where every class is an object. Returns uint8 (H, W),
    NOT_DRAWN where nothing is drawn.
    """
    plan = plan_scribbles(label, ids, classes, rng, width=width, strokes=strokes,
                          coverage=coverage, sloppy=sloppy, background=background, ignore=ignore)
    drawn = np.full(label.shape, NOT_DRAWN, np.uint8)
    for stroke in plan:
        if len(stroke.slip):
            drawn[_ink(stroke.slip, label.shape, width)] = stroke.cls
    for stroke in plan:  # what is right lies above what slipped, so that every object keeps some
        part, box = _window(stroke.xy, label.shape, width)
        inside = ids[box] == stroke.number
        if not stroke.number:
            inside &= label[box] == background
        drawn[box][_ink(part, inside.shape, width) & inside] = stroke.cls
    return drawn


def plan_scribbles(label: np.ndarray, ids: np.ndarray, classes: np.ndarray,
                   rng: np.random.Generator, *, width: int = 3, strokes: int | None = None,
                   coverage: float = 0.03, sloppy: float = 0.0, background: int | None = 0,
                   ignore: int = 255) -> list[Stroke]:
    """Return the strokes that ``draw_scribbles`` draws, objects first, then background."""
    regions = [(int(c), i, np.ascontiguousarray(ids[box] == i).view(np.uint8), box)
               for i, (c, box) in enumerate(zip(classes, find_objects(ids)), start=1) if box]
    if background is not None:
        ground = ((label == background) & (ids == 0)).view(np.uint8)
        x, y, w, h = cv2.boundingRect(ground)
        if w:
            box = slice(y, y + h), slice(x, x + w)
            regions.append((background, 0, np.ascontiguousarray(ground[box]), box))
    areas = np.array([cv2.countNonZero(mask) for *_, mask, _ in regions])
    plan, spare = [], 0.
    shares = _shares(areas, coverage * areas.sum() / (1 + SLIDE * sloppy))
    for (cls, number, mask, box), area, ink in zip(regions, areas, shares):
        length = min(ink + spare, FULLEST * area) / _thickness(width)
        laps = int(length / area ** .5)
        most = (strokes if number else 2 * strokes) if strokes else None
        count = most or max(1, round(float((area / label.size) ** .5 * MANY +
                                           rng.uniform(-.25, .75))), 2 * laps // 3)
        found = _strokes(mask, length, count, most or count + laps + 2, width, rng)
        # what finds no room in one region goes to the next, last of all to the background
        spare = max(0., ink + spare - sum(map(_length, found)) * _thickness(width))
        corner = np.array([box[1].start, box[0].start], np.float64)
        plan += [Stroke(cls, number, xy + corner, np.zeros((0, 2))) for xy in found]
    if not sloppy:
        return plan
    truth = np.where(ids > 0, np.append(0, classes)[ids], label)
    return _slip(plan, truth, sloppy, width, rng, ignore)


def _shares(areas: np.ndarray, ink: float) -> np.ndarray:
    """Return the pixels to draw in each region: ``ink`` in all as far as there is room."""
    room, weight = FULLEST * areas, areas ** EXPONENT
    share = np.zeros(len(areas))
    for _ in range(4):
        free = share < room
        left = ink - share.sum()
        if left < 1 or not free.any():
            break
        share = np.minimum(share + left * weight * free / (weight * free).sum(), room)
    return share


def _strokes(mask: np.ndarray, length: float, count: int, most: int, width: int,
             rng: np.random.Generator) -> list[np.ndarray]:
    """Return strokes, float (n, 2), within ``mask`` whose lengths add up to about ``length``.

    count: of strokes, if each can be that long; most: where they cannot.
    """
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    area = cv2.countNonZero(mask)
    if area < (SMALLEST * width) ** 2 or depth.max() <= 2:
        return [_dash(depth, mask, length, width, rng)]
    grid = _Grid(depth, width, rng)
    least = min(max(4. * width, .3 * area ** .5), max(length / count, 2. * width))
    done, failed = [], 0
    while len(done) < most and failed < 2:
        left = length - sum(map(_length, done))
        if done and left < .6 * least:
            break
        share = 1. if most == count else rng.uniform(.7, 1.3) * (1 if done else 1.5)
        piece = max(min(left, length / count * share if len(done) + 1 < count else left), least)
        path = grid.path(piece, first=not done)
        xy = _cut(_by_hand(path, depth, grid.limit, rng), piece, rng)
        if _length(xy) >= least / 2:
            done.append(xy)
        else:
            failed += 1
        grid.drawn(xy if len(xy) else path)  # even one that is too short: try elsewhere
    return done or [_dash(depth, mask, length, width, rng)]


class _Grid:
    """A coarse grid over a region, on which strokes look for their way."""

    def __init__(self, depth: np.ndarray, width: int, rng: np.random.Generator) -> None:
        height, across = depth.shape
        self.step = step = max(2, -(-max(depth.shape) // CELLS))
        rows, cols = -(-height // step), -(-across // step)
        padded = np.zeros((rows * step, cols * step), np.float32)
        padded[:height, :across] = depth
        blocks = padded.reshape(rows, step, cols, step)
        deep = blocks.max(axis=1).max(axis=2)
        top = float(deep.max())
        # how far a stroke keeps off the border, where there is room for that
        self.limit = min(1.5 + width / 2, .5 * top)
        ys, xs = np.nonzero(deep >= min(.5 * step + 1, .5 * top))
        self.deep = deep[ys, xs]
        self.xy = np.stack([xs, ys], 1) * step + (step - 1) / 2
        thin = np.flatnonzero(self.deep < 2 * step)  # elsewhere the deepest pixels look jagged
        best = blocks[ys[thin], :, xs[thin]].reshape(len(thin), -1).argmax(axis=1)
        self.xy[thin] = np.stack([xs[thin], ys[thin]], 1) * step
        self.xy[thin] += np.stack([best % step, best // step], 1)
        self.ends = self.deep >= min(2. * width + 2, .6 * top)
        self.close = 1 / np.minimum(self.deep / min(top, 6. * width), 1) ** 1.5
        self.far = np.full(len(xs), np.inf)
        self.rng, self.shape, self.where = rng, (rows, cols), (ys, xs)
        self._link(ys, xs)

    def _link(self, ys: np.ndarray, xs: np.ndarray) -> None:
        """Join every node to its 8 neighbours: the rows of a sparse matrix."""
        number = np.full(np.add(self.shape, 2), -1)
        number[ys + 1, xs + 1] = nodes = np.arange(len(xs))
        around = [(sign * dy, sign * dx, far) for dy, dx, far in _AROUND for sign in (1, -1)]
        to = np.stack([number[ys + 1 + dy, xs + 1 + dx] for dy, dx, _ in around], 1)
        there = to >= 0
        self.rows = np.repeat(nodes, there.sum(1))
        self.cols = to[there]
        self.lengths = np.broadcast_to([far for *_, far in around], to.shape)[there] * self.step
        self.starts = np.append(0, np.cumsum(there.sum(1)))

    def _noise(self) -> np.ndarray:
        """A smooth random field, at every node."""
        coarse = self.rng.normal(size=(7, 7)).astype(np.float32)
        return cv2.resize(coarse, self.shape[::-1], interpolation=cv2.INTER_CUBIC)[self.where]

    def path(self, length: float, *, first: bool) -> np.ndarray:
        """Return the nodes of a way between two far ends that keeps away from earlier ones."""
        cost = self.close * np.exp(.7 * self._noise())
        if not first:
            cost *= 1 + 12 * np.exp(-(self.far / (.15 * max(self.shape) * self.step)) ** 2)
        data = self.lengths * (cost[self.rows] + cost[self.cols]) / 2
        graph = csr_matrix((data, self.cols, self.starts), (len(self.xy),) * 2)
        jitter = self.rng.uniform(.7, 1, len(self.xy))
        if first:
            start = int((self.deep * jitter).argmax())
            start = self._end(dijkstra(graph, indices=start), start, jitter, np.inf)
        else:
            start = int((self.far * np.sqrt(self.deep) * jitter * self.ends).argmax())
        reach, before = dijkstra(graph, indices=start, return_predecessors=True)
        node = self._end(reach, start, jitter[::-1], length)
        way = [node]
        while before[way[-1]] >= 0:
            way.append(int(before[way[-1]]))
        return self.xy[way[::-1]]

    def drawn(self, xy: np.ndarray) -> None:
        """Remember a stroke, so that the next ones keep away from it."""
        seen = np.ones(self.shape, np.uint8)
        cells = np.rint(xy / self.step - .5).astype(int)
        x, y = np.clip(cells, 0, np.array(self.shape[::-1]) - 1).T
        seen[y, x] = 0
        away = cv2.distanceTransform(seen, cv2.DIST_L2, 3)[self.where] * self.step
        self.far = np.minimum(self.far, away)

    def _end(self, reach: np.ndarray, start: int, jitter: np.ndarray, length: float) -> int:
        """Choose where a stroke ends: far from its start, and from what is drawn."""
        there = np.isfinite(reach)
        apart = np.hypot(*(self.xy - self.xy[start]).T)
        score = np.minimum(apart, length)
        if not np.isinf(self.far[start]):  # and not beyond what is drawn
            score = score + .7 * self.far - .3 * np.maximum(reach / 1.3 - apart, 0)
            score = np.maximum(score, .01 * apart)
        return int(np.where(there & (self.ends | ~self.ends[there].any()), score * jitter,
                            -1).argmax())


def _by_hand(path: np.ndarray, depth: np.ndarray, limit: float,
             rng: np.random.Generator) -> np.ndarray:
    """Return a way over a grid as a hand would draw it, within the region."""
    along = np.append(0, np.cumsum(np.hypot(*np.diff(path, axis=0).T)))
    count = max(2, int(along[-1] / STEP) + 1)
    at = np.linspace(0, along[-1], count)
    raw = np.stack([np.interp(at, along, path[:, k]) for k in (0, 1)], 1)
    ahead = float(np.clip(along[-1] / STEP / 14, 1, 9))
    smooth = gaussian_filter1d(raw, ahead, axis=0, mode="nearest")
    sway = gaussian_filter1d(rng.normal(size=count), 9, mode="nearest") * 9 ** .5 * 1.9
    shake = gaussian_filter1d(rng.normal(size=count), 1.5, mode="nearest")
    heading = np.gradient(smooth, axis=0)
    heading /= np.hypot(*heading.T)[:, None] + 1e-9
    room = _look(depth, smooth)
    side = np.minimum(.3 * room, 4.5) * sway + np.minimum(.1 * room, .4) * shake
    wanted = smooth + side[:, None] * np.stack([-heading[:, 1], heading[:, 0]], 1)
    for back in (smooth, raw):  # where it comes too close to the border, less of all that
        bad = (_look(depth, wanted) < limit).astype(float)
        if not bad.any():
            break
        less = np.clip(2.5 * gaussian_filter1d(bad, 4, mode="nearest"), 0, 1)[:, None]
        wanted = wanted * (1 - less) + back * less
    return _longest(wanted, _look(depth, wanted) >= min(limit, 1.5))


def _longest(xy: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the longest piece of a stroke that is inside all along."""
    turns = np.flatnonzero(np.diff(np.concatenate([[0], inside, [0]]))).reshape(-1, 2)
    if not len(turns):
        return xy[:0]
    start, stop = turns[int((turns[:, 1] - turns[:, 0]).argmax())]
    return xy[start:stop]


def _cut(xy: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Return a piece of a stroke: nearly all of it, or about ``length`` of it if that is less."""
    count = len(xy)
    piece = min(count - int(count * rng.uniform(0, .12)),
                int(np.ceil(length * rng.uniform(.95, 1.1) / STEP)) + 1)
    start = int(rng.integers(count - piece + 1))
    return xy[start:start + piece]


def _dash(depth: np.ndarray, mask: np.ndarray, length: float, width: int,
          rng: np.random.Generator) -> np.ndarray:
    """Return a short stroke through the middle of a small or thin region, or one point."""
    ys, xs = np.nonzero(mask)
    pick = int((depth[ys, xs] * rng.uniform(.8, 1, len(xs))).argmax())
    middle = np.array([xs[pick], ys[pick]], float)
    spread = np.stack([xs, ys], 1) - middle
    axis = np.linalg.eigh(spread.T @ spread + np.eye(2) * 1e-6)[1][:, 1]
    axis = axis + rng.normal(0, .2, 2)
    half = min(rng.uniform(.5, .9) * np.abs(spread @ axis).max(), length / 2)
    if half < width:
        return middle[None]
    at = np.linspace(-half, half, max(2, int(half) + 1))[:, None]
    bend = rng.normal(0, .1) * (at / half) ** 2 * half
    xy = middle + at * axis + bend * np.array([-axis[1], axis[0]])
    inside = _look(depth, xy) >= min(1 + width / 2, .5 * depth[ys[pick], xs[pick]])
    return _longest(xy, inside) if inside.any() else middle[None]


def _slip(plan: list[Stroke], truth: np.ndarray, share: float, width: int,
          rng: np.random.Generator, ignore: int) -> list[Stroke]:
    """Let some strokes of a plan run on over their object's border, onto another class."""
    ink = sum(s.length() + width for s in plan) * _thickness(width)
    # some images are worse than others; the part of a slip that is still right adds to the ink
    odds, shape = share / (1 - share), 2 + 40 * share
    debt = ink * odds * rng.gamma(shape, 1 / shape)
    for i in rng.permutation(len(plan)):
        if debt < width ** 2:
            break
        stroke = plan[i]
        own = max(stroke.length(), 4. * width)
        wrong = min(debt / _thickness(width), own * rng.uniform(.3, 1) * (1 + 5 * share))
        ends = [_tail(xy, stroke.cls, truth, wrong, own / 2, rng, ignore)
                for xy in (stroke.xy, stroke.xy[::-1])]
        tail = min((tail for tail in ends if len(tail)), key=len, default=stroke.slip)
        if len(tail):
            on = truth[_ink(tail, truth.shape, width)]
            right = (on == stroke.cls).sum()
            debt -= len(on) - (on == ignore).sum() - right - odds * right
            plan[i] = replace(stroke, slip=tail)
    return plan


def _tail(xy: np.ndarray, cls: int, truth: np.ndarray, length: float, farthest: float,
          rng: np.random.Generator, ignore: int) -> np.ndarray:
    """Return a way on from a stroke's end that runs for ``length`` over other classes; none if
    they begin more than ``farthest`` away."""
    end, heading = xy[-1], xy[-1] - xy[max(0, len(xy) - 6)]
    turns = np.linspace(-2, 2, 17)
    angles = turns + (np.arctan2(heading[1], heading[0]) if heading.any() else
                      rng.uniform(-np.pi, np.pi))
    reach = np.arange(1, farthest + 2 * length + 2)
    rays = end + reach[None, :, None] * np.stack([np.cos(angles), np.sin(angles)], 1)[:, None]
    on = _look(truth, rays, ignore)
    wrong = np.cumsum((on != cls) & (on != ignore), axis=1)
    stop = (wrong < min(length, 3)).sum(axis=1)  # steps to being well across
    best = int(np.where(stop < farthest, stop * (1 + np.abs(turns)), np.inf).argmin())
    if stop[best] >= farthest:
        return np.zeros((0, 2))
    there = (rays[best] >= -.5) & (rays[best] < np.array(truth.shape[::-1]) - .5)
    last = min(int((wrong[best] < length).sum()), int(there.all(axis=1).sum()) - 1)
    bulge = np.sin(np.linspace(0, np.pi, last + 1)) * rng.normal(0, .06) * last
    aside = np.array([-np.sin(angles[best]), np.cos(angles[best])])
    return np.vstack([end, rays[best, :last + 1] + bulge[:, None] * aside])


def _look(image: np.ndarray, xy: np.ndarray, outside: int = 0) -> np.ndarray:
    """Return the pixels of an image at points (..., 2)."""
    at = np.rint(xy).astype(np.int64)
    near = np.clip(at, 0, np.array(image.shape[::-1]) - 1)
    found = image[near[..., 1], near[..., 0]]
    found[(near != at).any(axis=-1)] = outside
    return found


def _length(xy: np.ndarray) -> float:
    return float(np.hypot(*np.diff(xy, axis=0).T).sum())


def _window(xy: np.ndarray, shape: tuple[int, int], width: int
            ) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Return the points relative to the part of an image that they can touch, and that part."""
    low = np.maximum(np.floor(xy.min(0)).astype(int) - width - 1, 0)
    high = np.minimum(np.ceil(xy.max(0)).astype(int) + width + 2, shape[::-1])
    return xy - low, (slice(low[1], high[1]), slice(low[0], high[0]))


def _ink(xy: np.ndarray, shape: tuple[int, int], width: int) -> np.ndarray:
    """Return the pixels that a round pen draws along points, bool (H, W).

    Not by OpenCV's lines: those of thickness 3 are 5 pixels wide in OpenCV 5.
    """
    steps = np.hypot(*np.diff(xy, axis=0).T)
    count = int(2 * steps.sum()) + 2
    at, along = np.linspace(0, steps.sum(), count), np.append(0, np.cumsum(steps))
    x, y = (np.rint(np.interp(at, along, part)).astype(int) for part in xy.T)
    there = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    canvas = np.zeros(shape, np.uint8)
    canvas[y[there], x[there]] = 1
    return canvas.view(bool) if width == 1 else cv2.dilate(canvas, _pen(width)).view(bool)


@lru_cache
def _thickness(width: int) -> float:
    """Return the pixels that a pen draws per pixel of length, in the mean over directions."""
    angles = np.linspace(0, np.pi / 2, 17)
    ends = 100 + width + 100 * np.stack([np.cos(angles), np.sin(angles)], 1)
    side = int(220 + 2 * width)
    counts = [_ink(np.array([[100. + width] * 2, end]), (side, side), width).sum() for end in ends]
    dot = _ink(np.array([[100. + width] * 2]), (side, side), width).sum()
    return float(np.mean(counts) - dot) / 100


def _pen(width: int) -> np.ndarray:
    """Return a disc, uint8 (width, width): 3x3 pixels at ScribbleSup's width of 3."""
    off = np.arange(width) - (width - 1) / 2
    return (off[:, None] ** 2 + off ** 2 <= (width / 2) ** 2).astype(np.uint8)
