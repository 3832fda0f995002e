"""Shapes of things of the house: appliances, home and garden, baby and kids."""

import math

from sample_marketplace.pen import BLACK, WHITE, Colour, Pen, shade


def fridge(p: Pen) -> None:
    w, split = p.between(0.42, 0.52), p.between(-0.3, 0.25)
    p.box(-w, -0.98, w, 0.95, p.body, 0.2)
    p.line([(-w, split), (w, split)], 0.05, shade(p.body, 0.4))
    for y in (split - 0.45, split + 0.12):
        p.rect(-w + 0.07, y, -w + 0.15, y + 0.34, p.metal, 0.03)
    p.rect(-w + 0.08, 0.95, w - 0.08, 1.0, p.dark)


def washing_machine(p: Pen) -> None:
    p.box(-0.75, -0.85, 0.65, 0.9, p.body, 0.22)
    p.rect(-0.75, -0.85, 0.65, -0.52, shade(p.body, 0.85))
    p.rect(-0.68, -0.78, -0.28, -0.6, p.light)
    p.disc(0.12, -0.69, 0.1, p.metal)
    p.rect(0.3, -0.75, 0.58, -0.62, p.dark)
    r = p.between(0.45, 0.54)
    p.disc(-0.05, 0.17, r, p.metal)
    p.disc(-0.05, 0.17, r - 0.12, p.dark)
    p.arc(-0.05, 0.17, r - 0.22, r - 0.22, 190, 280, 0.05, WHITE)


def cooker(p: Pen) -> None:
    p.poly([(-0.75, -0.6), (-0.55, -0.95), (0.85, -0.95), (0.65, -0.6)], p.dark)
    for x, y in ((-0.33, -0.7), (0.3, -0.7), (-0.2, -0.87), (0.42, -0.87)):
        p.oval(x, y, 0.2, 0.06, p.metal)
        p.oval(x, y, 0.1, 0.03, p.trim)
    p.rect(-0.75, -0.6, 0.65, 0.95, p.body)
    p.poly([(0.65, -0.6), (0.85, -0.95), (0.85, 0.7), (0.65, 0.95)], shade(p.body, 0.65))
    for i in range(5):
        p.disc(-0.58 + i * 0.26, -0.42, 0.085, p.dark)
    p.rect(-0.62, -0.22, 0.52, 0.5, p.dark, 0.04)
    p.rect(-0.5, -0.04, 0.4, 0.38, shade(p.dark, 1.3), 0.04)
    p.line([(-0.55, -0.14), (0.45, -0.14)], 0.07, p.metal)
    p.rect(-0.62, 0.6, 0.52, 0.85, shade(p.body, 0.85))


def vacuum(p: Pen) -> None:
    p.arc(0.1, -0.35, 0.62, 0.55, 185, 355, 0.12, p.dark)
    p.tube([(-0.52, -0.4), (-0.8, 0.7)], 0.1, p.metal)
    p.poly([(-1.0, 0.72), (-0.6, 0.72), (-0.42, 0.95), (-1.0, 0.95)], p.trim)
    p.rect(-0.3, -0.1, 0.95, 0.75, p.body, 0.4, 0.035)
    p.pie(0.33, 0.1, 0.55, 0.34, 180, 360, shade(p.body, 0.75))
    p.rect(0.12, -0.42, 0.55, -0.28, p.dark, 0.06)
    p.disc(0.72, 0.66, 0.27, p.dark)
    p.disc(0.72, 0.66, 0.12, p.metal)
    p.disc(-0.12, 0.78, 0.15, p.dark)
    p.rect(-0.05, 0.28, 0.35, 0.48, p.trim, 0.05)


def kettle(p: Pen) -> None:
    p.arc(0.45, -0.1, 0.45, 0.5, -80, 80, 0.15, p.dark)
    p.poly([(-0.42, -0.55), (0.42, -0.55), (0.6, 0.7), (-0.6, 0.7)], p.body)
    p.poly([(-0.4, -0.5), (-0.85, -0.45), (-0.5, 0.05)], p.body)
    p.pie(0, -0.55, 0.42, 0.25, 180, 360, shade(p.body, 0.8))
    p.disc(0, -0.84, 0.09, p.dark)
    p.rect(-0.15, -0.25, 0.0, 0.5, p.light, 0.05)
    p.rect(-0.65, 0.7, 0.65, 0.85, p.dark, 0.06)


def microwave(p: Pen) -> None:
    p.box(-0.95, -0.5, 0.85, 0.55, p.body, 0.15)
    p.rect(-0.87, -0.4, 0.35, 0.45, p.dark, 0.05)
    p.rect(-0.75, -0.28, 0.22, 0.33, shade(p.dark, 1.25), 0.08)
    p.line([(0.29, -0.3), (0.29, 0.35)], 0.06, p.metal)
    p.rect(0.43, -0.4, 0.77, -0.2, p.trim)
    for row in range(3):
        for column in range(3):
            x, y = 0.45 + column * 0.115, -0.1 + row * 0.15
            p.rect(x, y, x + 0.08, y + 0.09, p.light)
    p.disc(0.6, 0.42, 0.08, p.metal)


def sofa(p: Pen) -> None:
    seats = p.rng.choice((2, 3))
    p.rect(-0.85, -0.5, 0.85, 0.25, shade(p.body, 0.85), 0.15)
    for i in range(seats):
        x0 = -0.72 + i * 1.44 / seats
        p.rect(x0, -0.42, x0 + 1.44 / seats - 0.03, 0.1, p.body, 0.1)
    for i in range(seats):
        x0 = -0.72 + i * 1.44 / seats
        p.rect(x0, 0.02, x0 + 1.44 / seats - 0.02, 0.3, shade(p.body, 1.2), 0.08)
    p.rect(-0.75, 0.27, 0.75, 0.5, shade(p.body, 0.8))
    for x in (-0.98, 0.7):
        p.rect(x, -0.15, x + 0.28, 0.52, p.body, 0.12)
    for x in (-0.85, 0.78):
        p.poly([(x, 0.5), (x + 0.09, 0.5), (x + 0.06, 0.68), (x + 0.02, 0.68)], p.dark)
    p.poly([(-0.6, -0.2), (-0.32, -0.3), (-0.22, 0.02), (-0.52, 0.1)], p.trim)


def bed(p: Pen) -> None:
    arch = p.between(0, 0.35)
    p.rect(-0.9, -0.85, 0.9, 0.4, p.trim, arch, 0.035)
    p.poly([(-0.8, -0.1), (0.8, -0.1), (0.98, 0.45), (-0.98, 0.45)], p.light)
    for x in (-0.68, 0.08):
        p.rect(x, -0.32, x + 0.6, 0.02, WHITE, 0.12)
    p.poly([(-0.86, 0.1), (0.86, 0.1), (0.98, 0.45), (-0.98, 0.45)], p.body)
    p.poly([(-0.84, 0.06), (0.84, 0.06), (0.9, 0.2), (-0.9, 0.2)], shade(p.body, 1.4))
    p.rect(-0.98, 0.45, 0.98, 0.72, shade(p.body, 0.72))
    for x in (-0.92, 0.8):
        p.rect(x, 0.72, x + 0.12, 0.88, p.dark)


def lamp(p: Pen) -> None:
    top, wide = p.between(0.22, 0.4), p.between(0.55, 0.72)
    p.line([(0, -0.1), (0, 0.8)], 0.09, p.metal)
    p.oval(0, 0.3, p.between(0.14, 0.26), 0.3, p.trim)
    p.oval(0, 0.85, 0.42, 0.11, p.dark)
    p.poly([(-top, -0.95), (top, -0.95), (wide, 0.0), (-wide, 0.0)], p.body)
    p.poly([(-top * 0.3, -0.95), (top * 0.4, -0.95), (wide * 0.35, 0.0), (-wide * 0.25, 0.0)], shade(p.body, 1.5), 0)
    p.oval(0, 0.0, wide, 0.06, shade(p.body, 1.6))


def plant(p: Pen) -> None:
    greens: list[Colour] = [(52, 120, 58), (86, 150, 60), (40, 96, 66), (120, 160, 84)]
    if p.rng.random() < 0.35:  # some have red, grey or bright leaves
        greens = [shade(p.trim, factor) for factor in (0.7, 0.9, 1.1, 1.3)]
    leaves = p.rng.randint(9, 13)
    for i in range(leaves):
        angle = math.radians(-170 + 160 * i / (leaves - 1))
        length = p.between(0.75, 1.05)
        tip = (math.cos(angle) * length, 0.25 + math.sin(angle) * length * 1.15)
        middle = (tip[0] * 0.55, 0.25 + (tip[1] - 0.25) * 0.6)
        side = (-math.sin(angle) * 0.13, math.cos(angle) * 0.13)
        p.poly(
            [(0, 0.3), (middle[0] + side[0], middle[1] + side[1]), tip, (middle[0] - side[0], middle[1] - side[1])],
            p.rng.choice(greens),
        )
    p.poly([(-0.42, 0.25), (0.42, 0.25), (0.3, 0.95), (-0.3, 0.95)], p.body)
    p.rect(-0.48, 0.18, 0.48, 0.34, shade(p.body, 0.8))


def parasol(p: Pen) -> None:
    p.line([(0, -0.75), (0, 0.85)], 0.07, p.metal)
    panels = p.rng.choice((6, 8))
    for i in range(panels):
        x0, x1 = -1 + 2 * i / panels, -1 + 2 * (i + 1) / panels
        fill = p.body if i % 2 else p.trim
        p.poly([(0, -0.95), (x0, -0.12), ((x0 + x1) / 2, -0.05), (x1, -0.12)], fill)
    p.disc(0, -0.95, 0.05, p.dark)
    p.oval(0, 0.88, 0.4, 0.1, p.dark)


def drawers(p: Pen) -> None:
    rows = p.rng.choice((3, 4, 5))
    p.box(-0.7, -0.8, 0.6, 0.82, p.body, 0.2)
    height = 1.5 / rows
    for i in range(rows):
        y = -0.74 + i * height
        p.rect(-0.64, y, 0.54, y + height - 0.06, shade(p.body, 1.25))
        for x in (-0.35, 0.25):
            p.disc(x, y + height / 2 - 0.03, 0.07, p.dark)
    for x in (-0.66, 0.48):
        p.rect(x, 0.82, x + 0.12, 0.96, p.dark)


def pram(p: Pen) -> None:
    p.tube([(0.25, 0.2), (0.85, -0.5), (0.98, -0.5)], 0.07, p.metal)
    p.tube([(-0.4, 0.7), (0.3, 0.15)], 0.06, p.metal)
    p.tube([(0.4, 0.7), (-0.3, 0.15)], 0.06, p.metal)
    p.pie(-0.05, -0.05, 0.68, 0.5, 0, 180, p.body)
    p.poly([(-0.05, -0.05), *p.arc_points(-0.05, -0.05, 0.68, 0.72, 180, 285)], p.trim)
    for angle in (215, 250):
        x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        p.line([(-0.05, -0.05), (-0.05 + 0.68 * x, -0.05 + 0.72 * y)], 0.03, shade(p.trim, 0.5))
    for x in (-0.45, 0.45):
        p.disc(x, 0.72, 0.24, p.dark)
        p.disc(x, 0.72, 0.14, p.light)


def cot(p: Pen) -> None:
    p.rect(-0.85, 0.2, 0.85, 0.42, p.trim)
    bars = p.rng.randint(7, 10)
    for i in range(bars):
        x = -0.8 + 1.6 * i / (bars - 1)
        p.tube([(x, -0.45), (x, 0.55)], 0.05, p.body)
    for y in (-0.5, 0.55):
        p.rect(-0.95, y - 0.07, 0.95, y + 0.07, p.body, 0.05)
    for x in (-0.9, 0.9):
        p.rect(x - 0.08, -0.75, x + 0.08, 0.9, p.body, 0.06)


def teddy(p: Pen) -> None:
    light = shade(p.body, 1.45)
    for x in (-0.36, 0.36):
        p.disc(x, -0.8, 0.19, p.body)
        p.disc(x, -0.8, 0.1, light)
        p.oval(x * 1.75, 0.05, 0.2, 0.36, p.body)
        p.oval(x * 1.25, 0.75, 0.25, 0.25, p.body)
        p.disc(x * 1.25, 0.78, 0.14, light)
    p.oval(0, 0.3, 0.52, 0.55, p.body)
    p.oval(0, 0.35, 0.3, 0.34, light)
    p.disc(0, -0.48, 0.46, p.body)
    p.oval(0, -0.35, 0.21, 0.16, light)
    p.oval(0, -0.42, 0.07, 0.05, BLACK)
    for x in (-0.17, 0.17):
        p.disc(x, -0.58, 0.06, BLACK)
    if p.rng.random() < 0.6:
        p.poly([(-0.25, -0.12), (0.25, 0.06), (0.25, -0.12), (-0.25, 0.06)], p.trim)


def high_chair(p: Pen) -> None:
    for x in (-1, 1):
        p.tube([(x * 0.3, 0.1), (x * 0.62, 0.95)], 0.08, p.metal)
        p.tube([(x * 0.22, 0.1), (x * 0.36, 0.85)], 0.06, shade(p.metal, 0.8))
    p.line([(-0.48, 0.6), (0.48, 0.6)], 0.06, p.metal)
    p.rect(-0.38, -0.95, 0.38, 0.05, p.body, 0.2)
    p.rect(-0.24, -0.78, 0.24, -0.15, p.trim, 0.12)
    p.rect(-0.44, 0.0, 0.44, 0.2, shade(p.body, 0.8), 0.08)
    p.poly([(-0.68, -0.22), (0.68, -0.22), (0.6, 0.0), (-0.6, 0.0)], p.light)


def babygrow(p: Pen) -> None:
    body = [
        (-0.2, -0.85), (0.2, -0.85), (0.45, -0.75), (0.98, -0.3), (0.8, -0.05), (0.45, -0.3), (0.45, 0.3),
        (0.6, 0.85), (0.25, 0.95), (0.05, 0.45), (-0.05, 0.45), (-0.25, 0.95), (-0.6, 0.85), (-0.45, 0.3),
        (-0.45, -0.3), (-0.8, -0.05), (-0.98, -0.3), (-0.45, -0.75),
    ]  # fmt: skip
    p.poly(body, p.body, 0.035)
    p.pie(0, -0.86, 0.2, 0.15, 0, 180, p.trim)
    for i in range(5):
        p.disc(0, -0.55 + i * 0.2, 0.05, p.light)
    for x in (-1, 1):
        p.oval(x * 0.42, 0.86, 0.2, 0.12, p.trim)
        p.disc(x * 0.26, p.between(-0.3, 0.1), 0.08, p.trim)


def blocks(p: Pen) -> None:
    colours = [p.body, p.trim, p.light]
    layout = [(-0.8, 0.35), (-0.22, 0.35), (0.36, 0.35), (-0.5, -0.22), (0.08, -0.22), (-0.2, -0.79)]
    for i, (x, y) in enumerate(layout):
        fill = colours[i % 3]
        p.box(x, y, x + 0.52, y + 0.52, fill, 0.12)
        mark = p.dark if i % 3 == 2 else WHITE
        if i % 2:
            p.poly([(x + 0.26, y + 0.1), (x + 0.42, y + 0.42), (x + 0.1, y + 0.42)], mark, 0)
        else:
            p.ring(x + 0.26, y + 0.26, 0.13, 0.06, mark)
