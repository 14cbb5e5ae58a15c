#!/usr/bin/env python3
"""Draws the pictures of docs/constructions.md: draw.py [FOLDER].

Needs nothing but Python. Every run writes the same bytes. The colours can be read on white and on black.
"""
import sys
from pathlib import Path

GREY, BLUE, ORANGE, GREEN, PURPLE, RED = "#808890", "#2f81f7", "#d9822b", "#2da44e", "#a371f7", "#e5534b"
COLOURS = [BLUE, ORANGE, GREEN, PURPLE, RED]
STEP = 44  # between two nodes


class Picture:
    def __init__(self, width, height):
        self.size = width, height
        self.lines = []
        self.heads = {}

    def add(self, text):
        self.lines.append(text)

    def text(self, x, y, text, colour=GREY, size=13, anchor="middle", weight="normal"):
        text = text.replace("&", "&amp;").replace("<", "&lt;")
        self.add(f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}" text-anchor="{anchor}" '
                 f'font-weight="{weight}">{text}</text>')

    def line(self, x1, y1, x2, y2, colour=GREY, width=1.5, dash=""):
        dash = f' stroke-dasharray="{dash}"' if dash else ""
        self.add(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" stroke-width="{width:g}"{dash}/>')

    def arrow(self, x1, y1, x2, y2, colour=GREY, width=2.5, short=11):
        """From one point towards another, ending `short` before both."""
        dx, dy = x2 - x1, y2 - y1
        length = (dx * dx + dy * dy) ** 0.5
        ux, uy = dx / length, dy / length
        head = self.head(colour)
        self.add(f'<line x1="{x1 + short * ux:.1f}" y1="{y1 + short * uy:.1f}" x2="{x2 - (short + 3) * ux:.1f}" '
                 f'y2="{y2 - (short + 3) * uy:.1f}" stroke="{colour}" stroke-width="{width:g}" marker-end="url(#{head})"/>')

    def arc(self, x1, y1, x2, y2, up, colour):
        head = self.head(colour)
        self.add(f'<path d="M {x1:g} {y1:g} Q {(x1 + x2) / 2:g} {y1 - up:g} {x2:g} {y2:g}" fill="none" stroke="{colour}" '
                 f'stroke-width="2" marker-end="url(#{head})"/>')

    def head(self, colour):
        return self.heads.setdefault(colour, "h" + colour[1:])

    def node(self, x, y, label="", colour=GREY, fill="none", radius=9):
        self.add(f'<circle cx="{x:g}" cy="{y:g}" r="{radius}" fill="{fill}" stroke="{colour}" stroke-width="2"/>')
        if label:
            self.text(x, y + 4, label, "#ffffff" if fill != "none" else GREY, 11)

    def box(self, x, y, width, height, colour, label="", opacity=1.0):
        self.add(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{colour}" '
                 f'fill-opacity="{opacity:g}"/>')
        if label:
            self.text(x + width / 2, y + height / 2 + 4, label, "#ffffff", 12)

    def halo(self, x, y, width, height, colour):
        self.add(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="14" fill="{colour}" '
                 f'fill-opacity="0.25" stroke="{colour}"/>')

    def save(self, path):
        width, height = self.size
        heads = "".join(f'<marker id="{name}" viewBox="0 0 8 8" refX="5" refY="4" markerWidth="4" markerHeight="4" '
                        f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
                        for colour, name in sorted(self.heads.items()))
        body = "\n".join(self.lines)
        path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                        f'viewBox="0 0 {width} {height}" font-family="sans-serif">\n<defs>{heads}</defs>\n{body}\n</svg>\n')


def place(left, top, node):
    return left + STEP * node[1], top + STEP * node[0]


def nodes(rows, columns, dead=()):
    return [(i, j) for i in range(rows) for j in range(columns) if (i, j) not in dead]


def links(rows, columns, dead=()):
    alive = nodes(rows, columns, dead)
    return [(a, b) for a in alive for b in ((a[0], a[1] + 1), (a[0] + 1, a[1])) if b in alive]


def between(p, a, b, colour=GREY, width=1.0, aside=(0, 0)):
    """A line from the edge of one node to the edge of another."""
    length = ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5
    ux, uy = 10 * (b[0] - a[0]) / length, 10 * (b[1] - a[1]) / length
    p.line(round(a[0] + ux + aside[0], 1), round(a[1] + uy + aside[1], 1), round(b[0] - ux + aside[0], 1),
           round(b[1] - uy + aside[1], 1), colour, width)


def mesh(p, left, top, rows, columns, dead=(), grey_links=True):
    if grey_links:
        for a, b in links(rows, columns, dead):
            between(p, place(left, top, a), place(left, top, b))
    for node in nodes(rows, columns, dead):
        p.node(*place(left, top, node))
    for node in dead:
        x, y = place(left, top, node)
        p.line(x - 6, y - 6, x + 6, y + 6, RED, 2)
        p.line(x - 6, y + 6, x + 6, y - 6, RED, 2)


def tree_arrows(p, left, top, arrows, colour, aside=0.0):
    """Arrows (from, to), moved aside to the right of the way they go, so that opposite ones do not meet."""
    for a, b in arrows:
        (x1, y1), (x2, y2) = place(left, top, a), place(left, top, b)
        ox, oy = aside * (y1 - y2) / STEP, aside * (x2 - x1) / STEP
        p.arrow(x1 + ox, y1 + oy, x2 + ox, y2 + oy, colour)


# ---- the bound of all-reduce ----
def bound():
    p = Picture(640, 240)
    left, top = 40, 40
    for node in nodes(4, 4):
        x, y = place(left, top, node)
        p.halo(x - 15, y - 15, 30, 30, BLUE)
    mesh(p, left, top, 4, 4)
    p.text(left + 66, 205, "every node a part:")
    p.text(left + 66, 223, "15 / 24 links = 0.625", BLUE)
    left = 255
    p.halo(left - 16, top - 16, STEP + 32, 3 * STEP + 32, BLUE)
    p.halo(left + 2 * STEP - 16, top - 16, STEP + 32, 3 * STEP + 32, ORANGE)
    mesh(p, left, top, 4, 4)
    p.text(left + 66, 205, "two halves:")
    p.text(left + 66, 223, "1 / 4 links = 0.25", BLUE)
    left = 470
    p.halo(left - 16, top - 16, 32, 32, ORANGE)
    p.add(f'<path d="M {left - 16} {top + 28} h {STEP + 32} v {-STEP} h {2 * STEP} v {3 * STEP + 32} h {-3 * STEP - 32} z" '
          f'fill="{BLUE}" fill-opacity="0.25" stroke="{BLUE}" stroke-linejoin="round"/>')
    mesh(p, left, top, 4, 4, dead=[(0, 1)])
    p.text(left + 66, 205, "one dead die leaves a bridge:")
    p.text(left + 66, 223, "1 / 1 link = 1.0", BLUE)
    return p


# ---- rotating combs ----
def comb_arrows(rows, columns, spine, by_rows, outward):
    arrows = []
    lines, positions = (rows, columns) if by_rows else (columns, rows)
    middle = (lines - 1) // 2
    at = (lambda line, x: (line, x)) if by_rows else (lambda line, x: (x, line))
    for line in range(lines):
        for x in range(positions):
            if x != spine:
                arrows.append((at(line, x), at(line, x + (1 if x < spine else -1))))
        if line != middle:
            arrows.append((at(line, spine), at(line + (1 if line < middle else -1), spine)))
    return [(b, a) for a, b in arrows] if outward else arrows, at(middle, spine)


def comb_panel(p, left, spine, by_rows, outward, titles):
    top = 40
    colour = BLUE if by_rows else ORANGE
    arrows, root = comb_arrows(5, 5, spine, by_rows, outward)
    mesh(p, left, top, 5, 5)
    tree_arrows(p, left, top, arrows, colour)
    p.node(*place(left, top, root), colour=colour, fill=colour)
    for i, title in enumerate(titles):
        p.text(left + 2 * STEP, 248 + 18 * i, title, colour if i == 0 else GREY)


def combs():
    p = Picture(860, 280)
    comb_panel(p, 30, 1, True, False, ["row comb, spine in column 1", "reduce: rows, then the spine"])
    comb_panel(p, 236, 1, True, True, ["the same row comb", "broadcast: spine, then rows"])
    comb_panel(p, 442, 3, True, False, ["row comb, spine in column 3", "the next share of the vector"])
    comb_panel(p, 648, 1, False, False, ["column comb, spine in row 1", "reduce: columns, then the spine"])
    return p


def comb_order():
    """The links to the right of a 4x4 mesh: who uses which slot, when messages take one slot and the period is 5."""
    n, cell, left, top = 4, 38, 150, 44
    p = Picture(left + 3 * (n + 1) * cell + 20, 235)
    for slot in range(3 * (n + 1)):
        p.text(left + slot * cell + cell / 2, top - 12, str(slot), size=11)
    for j in range(n - 1):
        y = top + j * 42
        p.text(left - 12, y + 20, f"link {j} to {j + 1}", anchor="end")
        for slot in range(3 * (n + 1)):
            residue = slot % (n + 1)
            if residue <= j:
                colour, label = GREEN, f"c{j - residue}"
            elif residue == j + 1:
                colour, label = ORANGE, "row"
            else:
                colour, label = BLUE, f"c{j + n + 1 - residue}"
            p.box(left + slot * cell + 1, y, cell - 2, 30, colour, label)
    for turn in range(4):
        x = left + turn * (n + 1) * cell
        p.line(x, top - 6, x, top + 3 * 42, dash="3 3", width=1)
    y = top + 3 * 42 + 14
    for i, (colour, text) in enumerate([(BLUE, "sums on their way to the spine in column c"),
                                        (ORANGE, "the spine of this row's column comb"),
                                        (GREEN, "totals on their way from the spine in column c")]):
        p.box(left, y + 18 * i, 14, 12, colour)
        p.text(left + 22, y + 11 + 18 * i, text, anchor="start")
    return p


# ---- lines, rings, tori ----
def line_gather():
    p = Picture(560, 250)
    gap = 110
    for t in range(3):
        y = 50 + 75 * t
        p.text(20, y + 4, f"step {t + 1}", anchor="start")
        for j in range(4):
            p.node(120 + gap * j, y, "abcd"[j])
        for j in range(4):
            x = 120 + gap * j
            if j >= t and j < 3:
                p.arrow(x, y - 6, x + gap, y - 6, BLUE, short=14)
                p.text(x + gap / 2, y - 13, "abcd"[j - t], BLUE)
            if j + t < 4 and j > 0:
                p.arrow(x, y + 6, x - gap, y + 6, ORANGE, short=14)
                p.text(x - gap / 2, y + 22, "abcd"[j + t], ORANGE)
    return p


def two_colours():
    p = Picture(640, 195)
    for k, (first, colour, name) in enumerate([(True, BLUE, "colour A"), (False, ORANGE, "colour B")]):
        for phase in range(2):
            left, top = 40 + 320 * k + 150 * phase, 30
            mesh(p, left, top, 3, 3)
            for a, b in links(3, 3):
                if (a[0] == b[0]) == (first == (phase == 0)):
                    tree_arrows(p, left, top, [(a, b), (b, a)], colour, aside=4)
            along = "rows" if first == (phase == 0) else "columns"
            p.text(left + STEP, 152, f"{'first' if phase == 0 else 'then'} {along}", colour)
        p.text(40 + 320 * k + 119, 180, name, colour, weight="bold")
    return p


def ring():
    import math
    p = Picture(560, 270)
    for k, title in enumerate(["even ring", "odd ring"]):
        n = 8 - k
        cx, cy, r = 140 + 280 * k, 120, 82
        at = [(cx + r * math.sin(2 * math.pi * i / n), cy - r * math.cos(2 * math.pi * i / n)) for i in range(n)]
        for i in range(n):
            between(p, at[i], at[(i + 1) % n])
        right = n // 2
        for i in range(right, 0, -1):
            p.arrow(*at[i], *at[i - 1], BLUE)
        for i in range(right + 1, n):
            p.arrow(*at[i], *at[(i + 1) % n], ORANGE)
        if n % 2 == 0:  # the other chunk of a pair leaves the far node the other way
            between(p, at[right], at[right + 1], ORANGE, 2.5)
            p.text(at[right][0] - 52, at[right][1] + 4, "or this way", ORANGE, 11)
        for i in range(n):
            p.node(*at[i], "x" if i == 0 else "", BLUE if i == 0 else GREY, BLUE if i == 0 else "none")
        p.text(cx, 242, title)
        p.text(cx, 260, f"{n // 2} steps, {n - 1} / {2 * n} of the vector per link", size=11)
    return p


def phases():
    p = Picture(660, 150)
    rows = [("links of rows", [(BLUE, "A: scatter"), (ORANGE, "B: scatter"), (ORANGE, "B: gather"), (BLUE, "A: gather")]),
            ("links of columns", [(ORANGE, "B: scatter"), (BLUE, "A: scatter"), (BLUE, "A: gather"), (ORANGE, "B: gather")])]
    for k, (name, boxes) in enumerate(rows):
        y = 24 + 48 * k
        p.text(122, y + 21, name, anchor="end")
        for i, (colour, label) in enumerate(boxes):
            p.box(132 + 128 * i, y, 126, 34, colour, label)
    p.arrow(130, 128, 650, 128, short=0, width=1.5)
    p.text(390, 145, "time", size=11)
    return p


# ---- short vectors ----
def line_all_reduce():
    p = Picture(600, 235)
    gap = 120
    xs = [120 + gap * j for j in range(4)]
    steps = [[(0, 1, "a", BLUE), (3, 2, "d", ORANGE)],
             [(1, 2, "a+b", BLUE), (2, 1, "c+d", ORANGE)],
             [(1, 0, "total", GREEN), (2, 3, "total", GREEN)]]
    for t, arrows in enumerate(steps):
        y = 45 + 72 * t
        p.text(20, y + 4, f"step {t + 1}", anchor="start")
        for x in xs:
            p.node(x, y, "abcd"[xs.index(x)])
        for source, target, label, colour in arrows:
            side = (-6 if source < target else 6) if t == 1 else 0
            p.arrow(xs[source], y + side, xs[target], y + side, colour, short=14)
            p.text((xs[source] + xs[target]) / 2, y + side + (16 if side > 0 else -8), label, colour, 12)
    p.text(530, 121, "both add:", anchor="start", size=11)
    p.text(530, 136, "the total", anchor="start", size=11)
    return p


def ring_segments():
    import math
    p = Picture(560, 260)
    for k, title in enumerate(["hop 1: pairs swap", "hops 2 to 4: the pairs' sums go round"]):
        n, cx, cy, r = 8, 140 + 280 * k, 120, 82
        at = [(cx + r * math.sin(2 * math.pi * (i - 0.5) / n), cy - r * math.cos(2 * math.pi * (i - 0.5) / n)) for i in range(n)]
        for i in range(n):
            between(p, at[i], at[(i + 1) % n])
        for i in range(n):
            j = (i + 1) % n
            if (i % 2 == 0) == (k == 0):
                for (x1, y1), (x2, y2), colour in [(at[i], at[j], COLOURS[i // 2]), (at[j], at[i], COLOURS[j // 2])]:
                    ox, oy = 4 * (y1 - y2) / 63, 4 * (x2 - x1) / 63
                    p.arrow(x1 + ox, y1 + oy, x2 + ox, y2 + oy, colour)
            elif k == 1:
                for (x1, y1), (x2, y2), colour in [(at[i], at[j], COLOURS[(i // 2 + 3) % 4]), (at[j], at[i], COLOURS[(i // 2 + 1) % 4])]:
                    ox, oy = 4 * (y1 - y2) / 63, 4 * (x2 - x1) / 63
                    p.arrow(x1 + ox, y1 + oy, x2 + ox, y2 + oy, colour)
        for i in range(n):
            p.node(*at[i], colour=COLOURS[i // 2], fill=COLOURS[i // 2])
        p.text(cx, 245, title)
    return p


def swing():
    p = Picture(560, 300)
    xs = [80 + 62 * v for v in range(8)]
    for s, rho in enumerate([1, -1, 3]):
        y = 70 + 85 * s
        p.text(14, y + 4, f"step {s + 1}", anchor="start")
        for v in range(8):
            p.node(xs[v], y, str(v))
        for v in range(0, 8, 2):
            w = v + rho
            if 0 <= w < 8:
                up = 16 + 10 * abs(rho)
                p.arc(xs[v], y - 12, xs[w], y - 12, up, BLUE)
                p.arc(xs[w], y + 12, xs[v], y + 12, -up, ORANGE)
            else:
                p.text(xs[v], y - 16, f"to {w % 8}", BLUE, 11)
                p.text(xs[w % 8], y - 16, f"to {v}", ORANGE, 11)
    return p


# ---- trees ----
def spread(p, left, top, arrows, colour, root):
    mesh(p, left, top, 4, 4)
    tree_arrows(p, left, top, arrows, colour)
    p.node(*place(left, top, root), colour=colour, fill=colour)


def arc_trees():
    p = Picture(640, 235)
    a = [((0, j), (0, j + 1)) for j in range(3)] + [((i, j), (i + 1, j)) for j in range(1, 4) for i in range(3)]
    a += [((i, 1), (i, 0)) for i in range(1, 4)]
    b = [((i, 0), (i + 1, 0)) for i in range(3)] + [((i, j), (i, j + 1)) for i in range(1, 4) for j in range(3)]
    b += [((1, j), (0, j)) for j in range(1, 4)]
    assert not set(a) & set(b)
    spread(p, 40, 30, a, BLUE, (0, 0))
    spread(p, 255, 30, b, ORANGE, (0, 0))
    mesh(p, 470, 30, 4, 4)
    tree_arrows(p, 470, 30, a, BLUE, aside=4)
    tree_arrows(p, 470, 30, b, ORANGE, aside=4)
    for x, text, colour in [(106, "half of the vector", BLUE), (321, "the other half", ORANGE),
                            (536, "no link carries both one way", GREY)]:
        p.text(x, 212, text, colour)
    return p


def pack(rows, columns, dead, count):
    """Spanning trees that each take the links used least so far."""
    alive, all_links = nodes(rows, columns, dead), links(rows, columns, dead)
    used = {link: 0 for link in all_links}
    trees = []
    for number in range(count):
        parent = {v: v for v in alive}

        def top_of(v):
            while parent[v] != v:
                v = parent[v]
            return v
        tree = []
        order = sorted(all_links, key=lambda link: (used[link], (all_links.index(link) * 7 + number * 5) % len(all_links)))
        for link in order:
            a, b = top_of(link[0]), top_of(link[1])
            if a != b:
                parent[a] = b
                tree.append(link)
                used[link] += 1
        trees.append(tree)
    return trees, used


def packing():
    dead = [(1, 1)]
    trees, used = pack(4, 4, dead, 4)
    p = Picture(850, 235)
    for k in range(3):
        left = 40 + 205 * k
        mesh(p, left, 30, 4, 4, dead)
        for a, b in trees[k]:
            between(p, place(left, 30, a), place(left, 30, b), COLOURS[k], 4)
        for v in nodes(4, 4, dead):
            p.node(*place(left, 30, v), colour=COLOURS[k])
        p.text(left + 66, 212, f"tree {k + 1}", COLOURS[k])
    left = 655
    mesh(p, left, 30, 4, 4, dead, grey_links=False)
    for a, b in links(4, 4, dead):
        start, end, times = place(left, 30, a), place(left, 30, b), 0
        for k in range(3):
            if (a, b) in trees[k]:
                shift = (times - 1) * 5
                between(p, start, end, COLOURS[k], 3, (0, shift) if start[1] == end[1] else (shift, 0))
                times += 1
    p.text(left + 66, 212, "all three")
    return p


# ---- baselines ----
def hamiltonian():
    """Two rings through all nodes of a torus that share no link, drawn without the links that wrap around."""
    r = c = 4
    across = {(i, j): 0 for i in range(r) for j in range(c)}  # (i,j) to (i,j+1)
    down = {(i, j): 1 for i in range(r) for j in range(c)}
    turns = [(j if j < r else r - 1 - (j - r) % 2, j) for j in range(c - 1)]
    for i, j in turns:
        for key in [(i, j), ((i + 1) % r, j)]:
            across[key] ^= 1
        for key in [(i, j), (i, (j + 1) % c)]:
            down[key] ^= 1
    for colour in (0, 1):  # each is one ring
        at, before, seen = (0, 0), None, 0
        while seen == 0 or at != (0, 0):
            i, j = at
            ways = [(across[i, j], (i, (j + 1) % c), ("a", i, j)), (across[i, (j - 1) % c], (i, (j - 1) % c), ("a", i, (j - 1) % c)),
                    (down[i, j], ((i + 1) % r, j), ("d", i, j)), (down[(i - 1) % r, j], ((i - 1) % r, j), ("d", (i - 1) % r, j))]
            at, before = next((to, link) for which, to, link in ways if which == colour and link != before)
            seen += 1
        assert seen == r * c
    p = Picture(460, 235)
    for colour in (0, 1):
        left, top = 50 + 215 * colour, 40
        paint = COLOURS[colour]
        for (i, j), which in across.items():
            if which == colour:
                x, y = place(left, top, (i, j))
                if j + 1 < c:
                    p.line(x, y, x + STEP, y, paint, 4)
                else:
                    p.line(x, y, x + 20, y, paint, 4)
                    p.line(left, y, left - 20, y, paint, 4)
        for (i, j), which in down.items():
            if which == colour:
                x, y = place(left, top, (i, j))
                if i + 1 < r:
                    p.line(x, y, x, y + STEP, paint, 4)
                else:
                    p.line(x, y, x, y + 20, paint, 4)
                    p.line(x, top, x, top - 20, paint, 4)
        for node in nodes(r, c):
            p.node(*place(left, top, node), colour=paint, fill=paint, radius=6)
        p.text(left + 66, 222, "one ring" if colour == 0 else "the other", paint)
    return p


PICTURES = {"bound": bound, "combs": combs, "comb-order": comb_order, "line-gather": line_gather,
            "two-colours": two_colours, "ring": ring, "phases": phases, "line-all-reduce": line_all_reduce,
            "ring-segments": ring_segments,            "swing": swing, "arc-trees": arc_trees, "packing": packing, "two-rings": hamiltonian}

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    for name, draw in PICTURES.items():
        draw().save(folder / f"{name}.svg")
