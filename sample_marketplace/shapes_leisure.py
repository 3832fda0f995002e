"""Shapes of things for free time: music and books, video games, sports and travel, other goods."""

import math

from sample_marketplace.pen import BLACK, WHITE, Pen, shade


def vinyl(p: Pen) -> None:
    p.rect(-0.98, -0.7, 0.35, 0.7, p.body)
    p.poly([(-0.9, -0.6), (-0.4, -0.6), (-0.75, 0.2)], p.trim, 0)
    p.rect(-0.9, 0.35, 0.1, 0.55, p.light)
    p.disc(0.32, 0, 0.66, BLACK)
    for radius in (0.56, 0.46, 0.36):
        p.ring(0.32, 0, radius, 0.012, (90, 90, 96))
    p.disc(0.32, 0, 0.24, p.trim)
    p.disc(0.32, 0, 0.04, WHITE, 0)


def books(p: Pen) -> None:
    colours = [p.body, p.trim, shade(p.body, 0.65), shade(p.trim, 1.4), p.dark]
    if p.rng.random() < 0.5:
        x = -0.95
        while x < 0.75:
            width, height = p.between(0.18, 0.32), p.between(1.2, 1.65)
            fill = p.rng.choice(colours)
            p.rect(x, 0.8 - height, x + width, 0.8, fill)
            p.rect(x + 0.04, 0.95 - height, x + width - 0.04, 1.12 - height, p.light, edge=0)
            p.line([(x + 0.03, 0.62), (x + width - 0.03, 0.62)], 0.03, p.light)
            x += width + 0.01
    else:
        for i in range(5):
            y, left, right = 0.55 - i * 0.3, -p.between(0.65, 0.95), p.between(0.6, 0.85)
            p.rect(left, y, right, y + 0.28, colours[i])
            p.rect(right - 0.06, y + 0.05, right + 0.08, y + 0.24, WHITE)
            p.line([(left + 0.2, y + 0.14), (right - 0.5, y + 0.14)], 0.06, p.light)


def guitar(p: Pen) -> None:
    p.rect(-0.09, -0.85, 0.09, 0.3, p.dark)
    p.poly([(-0.14, -1.0), (0.14, -1.0), (0.1, -0.78), (-0.1, -0.78)], p.trim)
    p.oval(0, 0.18, 0.36, 0.28, p.body)
    p.oval(0, 0.62, 0.5, 0.37, p.body)
    p.rect(-0.3, 0.2, 0.3, 0.5, p.body, edge=0)
    p.rect(-0.07, -0.75, 0.07, 0.2, p.dark)
    p.disc(0, 0.33, 0.15, BLACK)
    p.rect(-0.2, 0.68, 0.2, 0.76, p.dark)
    for x in (-0.04, 0, 0.04):
        p.line([(x, -0.9), (x, 0.7)], 0.012, WHITE)


def cassette(p: Pen) -> None:
    p.rect(-0.95, -0.6, 0.95, 0.6, p.body, 0.08)
    p.rect(-0.8, -0.48, 0.8, 0.25, p.light, 0.06)
    p.rect(-0.8, -0.48, 0.8, -0.28, p.trim)
    p.rect(-0.55, -0.15, 0.55, 0.15, p.dark, 0.14)
    for x in (-0.38, 0.38):
        p.disc(x, 0, 0.14, WHITE)
        p.disc(x, 0, 0.06, BLACK)
    p.poly([(-0.55, 0.6), (-0.45, 0.34), (0.45, 0.34), (0.55, 0.6)], shade(p.body, 0.7))


def film(p: Pen) -> None:
    p.poly([(0.5, 0.3), (0.98, 0.75), (0.85, 0.95), (0.3, 0.6)], p.dark)
    for i in range(4):
        p.disc(0.45 + i * 0.13, 0.5 + i * 0.12, 0.035, WHITE, 0)
    p.disc(-0.1, -0.1, 0.82, p.body)
    p.disc(-0.1, -0.1, 0.7, shade(p.body, 1.3))
    for i in range(5):
        angle = i * 2 * math.pi / 5 + 0.4
        p.disc(-0.1 + 0.42 * math.cos(angle), -0.1 + 0.42 * math.sin(angle), 0.2, BLACK)
    p.disc(-0.1, -0.1, 0.12, p.trim)


def chess(p: Pen) -> None:
    size = 0.42

    def corner(column: float, row: float) -> tuple[float, float]:
        return (column - 2) * size * (0.85 + row * 0.07), -0.45 + row * 0.33

    for row in range(4):
        for column in range(4):
            quad = [corner(column, row), corner(column + 1, row), corner(column + 1, row + 1), corner(column, row + 1)]
            p.poly(quad, p.dark if (row + column) % 2 else p.light)
    for x, y, fill in ((-0.45, -0.15, p.body), (0.3, 0.1, p.trim), (-0.1, 0.45, p.body), (0.55, -0.3, p.trim)):
        p.oval(x, y + 0.08, 0.15, 0.06, fill)
        p.poly([(x - 0.11, y + 0.06), (x + 0.11, y + 0.06), (x + 0.04, y - 0.3), (x - 0.04, y - 0.3)], fill)
        p.disc(x, y - 0.36, 0.1, fill)


def controller(p: Pen) -> None:
    for side in (-1, 1):
        corners = ((0.45, -0.3), (0.8, -0.35), (1.0, 0.45), (0.8, 0.62), (0.35, 0.2))
        p.poly([(side * x, y) for x, y in corners], p.body)
    p.rect(-0.7, -0.45, 0.7, 0.25, p.body, 0.25)
    p.rect(-0.62, -0.26, -0.22, -0.14, p.dark)
    p.rect(-0.48, -0.4, -0.36, 0.0, p.dark)
    for x, y in ((0.42, -0.34), (0.42, -0.06), (0.28, -0.2), (0.56, -0.2)):
        p.disc(x, y, 0.08, p.trim)
    for x in (-0.22, 0.22):
        p.disc(x, 0.12, 0.16, p.dark)
        p.disc(x, 0.12, 0.09, shade(p.dark, 1.4))


def console(p: Pen) -> None:
    p.poly([(-0.9, -0.15), (-0.6, -0.5), (0.98, -0.5), (0.85, -0.15)], shade(p.body, 1.25))
    p.rect(-0.9, -0.15, 0.85, 0.2, p.body)
    p.line([(-0.9, 0.02), (0.85, 0.02)], 0.05, p.trim)
    p.rect(-0.75, -0.1, 0.1, -0.05, BLACK)
    p.disc(0.68, 0.1, 0.06, p.light)
    p.arc(0.0, 0.3, 0.5, 0.3, 60, 180, 0.03, BLACK)
    for x in (-0.1, 0.62):
        p.disc(x, 0.68, 0.18, p.trim)
        p.disc(x, 0.68, 0.08, p.dark)
    p.rect(-0.1, 0.5, 0.62, 0.75, p.trim, 0.1)
    for x in (0.42, 0.54):
        p.disc(x, 0.6, 0.05, p.light)
    p.line([(0.0, 0.6), (0.16, 0.6)], 0.05, BLACK)
    p.line([(0.08, 0.53), (0.08, 0.67)], 0.05, BLACK)


def handheld(p: Pen) -> None:
    p.rect(-1.0, -0.45, -0.62, 0.45, p.body, 0.2)
    p.rect(0.62, -0.45, 1.0, 0.45, p.trim, 0.2)
    p.rect(-0.68, -0.45, 0.68, 0.45, p.dark, 0.03)
    p.rect(-0.56, -0.34, 0.56, 0.34, p.rng.choice([(96, 170, 214), (214, 150, 120), (60, 60, 90), (160, 200, 150)]))
    p.poly([(-0.56, 0.34), (-0.56, 0.12), (-0.2, -0.05), (0.1, 0.14), (0.56, 0.0), (0.56, 0.34)], (86, 160, 84), 0)
    p.disc(0.3, -0.16, 0.1, (250, 214, 90), 0)
    p.disc(-0.82, -0.15, 0.12, p.dark)
    p.disc(0.82, 0.18, 0.12, p.dark)
    for x, y in ((0.82, -0.28), (0.82, -0.06), (0.73, -0.17), (0.91, -0.17)):
        p.disc(x, y, 0.045, p.light)


def cartridge(p: Pen) -> None:
    p.poly([(-0.7, -0.9), (0.7, -0.9), (0.7, 0.6), (0.55, 0.6), (0.55, 0.9), (-0.55, 0.9), (-0.55, 0.6),
            (-0.7, 0.6)], p.body, 0.035)  # fmt: skip
    for i in range(4):
        p.line([(-0.6, -0.82 + i * 0.07), (0.6, -0.82 + i * 0.07)], 0.025, shade(p.body, 0.6))
    p.rect(-0.52, -0.5, 0.52, 0.45, p.trim, 0.06)
    p.poly([(-0.4, 0.35), (-0.05, -0.2), (0.15, 0.1), (0.25, -0.02), (0.42, 0.35)], p.light)
    p.rect(-0.42, -0.42, 0.42, -0.25, WHITE)
    for i in range(6):
        p.rect(-0.42 + i * 0.15, 0.7, -0.34 + i * 0.15, 0.9, (220, 180, 80), edge=0)


def arcade(p: Pen) -> None:
    p.poly([(0.45, -0.95), (0.65, -0.85), (0.62, 0.85), (0.45, 0.98)], shade(p.body, 0.6))
    p.poly([(-0.5, -0.98), (0.45, -0.98), (0.45, 0.98), (-0.5, 0.98)], p.body, 0.035)
    p.rect(-0.42, -0.92, 0.37, -0.68, p.trim)
    p.line([(-0.3, -0.8), (0.25, -0.8)], 0.08, WHITE)
    p.rect(-0.4, -0.6, 0.35, 0.05, p.dark)
    p.rect(-0.3, -0.5, 0.25, -0.05, (84, 196, 210))
    p.poly([(-0.5, 0.12), (0.45, 0.12), (0.55, 0.36), (-0.6, 0.36)], shade(p.trim, 0.8))
    p.line([(-0.3, 0.26), (-0.32, 0.08)], 0.05, BLACK)
    p.disc(-0.32, 0.06, 0.07, (206, 44, 44))
    for x in (0.05, 0.2, 0.35):
        p.disc(x, 0.24, 0.055, p.light)
    p.rect(-0.2, 0.55, 0.15, 0.8, p.dark)


def vr_headset(p: Pen) -> None:
    p.arc(0, -0.1, 0.88, 0.7, 195, 345, 0.16, p.trim)
    p.arc(0, 0.0, 0.92, 0.3, 180, 360, 0.1, shade(p.trim, 0.7))
    p.rect(-0.9, -0.3, 0.9, 0.55, p.body, 0.28)
    p.poly([(-0.22, 0.57), (0.0, 0.3), (0.22, 0.57)], p.dark)
    p.rect(-0.78, -0.18, 0.78, 0.3, p.dark, 0.2)
    for x in (-0.6, 0.6):
        p.disc(x, 0.4, 0.06, p.light)
    p.arc(-0.2, 0.06, 0.4, 0.16, 190, 260, 0.05, WHITE)


def bicycle(p: Pen) -> None:
    for x in (-0.55, 0.55):
        p.ring(x, 0.3, 0.4, 0.07, BLACK)
        for i in range(4):
            dx, dy = 0.38 * math.cos(i * math.pi / 4), 0.38 * math.sin(i * math.pi / 4)
            p.line([(x - dx, 0.3 - dy), (x + dx, 0.3 + dy)], 0.014, p.metal)
    rear, crank, seat, head = (-0.55, 0.3), (-0.08, 0.32), (-0.25, -0.3), (0.38, -0.32)
    for path in ((rear, crank, head, seat, rear), (seat, crank), (head, (0.55, 0.3))):
        p.line(path, 0.085, p.body)
    p.line([seat, (-0.28, -0.45)], 0.06, p.metal)
    p.rect(-0.46, -0.53, -0.12, -0.43, p.dark, 0.05)
    p.line([head, (0.34, -0.52), (0.6, -0.56)], 0.06, p.metal)
    p.line([(0.55, -0.56), (0.66, -0.45)], 0.07, p.dark)
    p.disc(crank[0], crank[1], 0.11, p.metal)


def dumbbell(p: Pen) -> None:
    p.rect(-0.5, -0.09, 0.5, 0.09, p.metal)
    for x in (-1, 1):
        for near, half, fill in ((0.38, 0.62, p.body), (0.58, 0.48, p.trim), (0.76, 0.32, p.body)):
            x0, x1 = sorted((x * near, x * (near + 0.19)))
            p.rect(x0, -half, x1, half, fill, 0.06)
        p.rect(min(x * 0.94, x), -0.1, max(x * 0.94, x), 0.1, p.metal)


def racket(p: Pen) -> None:
    p.oval(0, -0.38, 0.5, 0.58, WHITE)
    for i in range(7):
        offset = -0.36 + i * 0.12
        half = 0.52 * math.sqrt(1 - (offset / 0.5) ** 2)
        p.line([(offset, -0.38 - half), (offset, -0.38 + half)], 0.018, p.dark)
        p.line([(-0.42, -0.38 + offset), (0.42, -0.38 + offset)], 0.018, p.dark)
    p.ring(0, -0.38, 0.5, 0.11, p.body, 0.58)
    p.line([(-0.22, 0.12), (0, 0.45), (0.22, 0.12)], 0.09, p.body)
    p.rect(-0.09, 0.42, 0.09, 1.0, p.trim, 0.03)
    p.disc(0.62, 0.62, 0.17, (206, 222, 70))


def football(p: Pen) -> None:
    p.disc(0, 0, 0.88, p.light, 0.04)
    turn = p.between(0, 1.2)

    def patch(cx: float, cy: float, radius: float, start: float) -> None:
        points = [
            (cx + radius * math.cos(start + i * 2 * math.pi / 5), cy + radius * math.sin(start + i * 2 * math.pi / 5))
            for i in range(5)
        ]
        p.poly(points, p.body)

    patch(0, 0, 0.3, turn)
    for i in range(5):
        angle = turn + i * 2 * math.pi / 5
        x, y = math.cos(angle), math.sin(angle)
        p.line([(0.3 * x, 0.3 * y), (0.55 * x, 0.55 * y)], 0.04, p.dark)
        patch(0.68 * x, 0.68 * y, 0.19, angle + math.pi)


def suitcase(p: Pen) -> None:
    p.rect(-0.3, -0.98, 0.3, -0.5, p.metal, 0.06)
    p.rect(-0.2, -0.88, 0.2, -0.5, BLACK, 0.04)
    p.rect(-0.65, -0.6, 0.65, 0.82, p.body, 0.14, 0.035)
    for i in range(5):
        x = -0.42 + i * 0.21
        p.line([(x, -0.48), (x, 0.7)], 0.045, shade(p.body, 0.68))
    p.rect(-0.2, -0.5, 0.2, -0.36, p.trim, 0.04)
    for x in (-0.5, 0.5):
        p.disc(x, 0.9, 0.1, BLACK)


def tent(p: Pen) -> None:
    p.poly([(0.05, -0.65), (0.6, -0.5), (1.0, 0.6), (0.55, 0.7)], shade(p.body, 0.7))
    p.poly([(0.05, -0.65), (0.55, 0.7), (-0.75, 0.7)], p.body, 0.035)
    p.poly([(0.03, -0.35), (0.25, 0.7), (-0.28, 0.7)], BLACK)
    p.poly([(0.03, -0.35), (-0.05, 0.2), (-0.42, 0.7), (-0.28, 0.7)], p.trim)
    for x, y in ((-0.75, 0.7), (0.98, 0.6)):
        p.line([(x, y - 0.15), (x + (0.18 if x > 0 else -0.2), y + 0.12)], 0.025, p.light)


def aquarium(p: Pen) -> None:
    water = p.rng.choice([(120, 184, 214), (96, 160, 150), (70, 96, 140), (176, 206, 196), (150, 140, 190)])
    p.box(-0.85, -0.6, 0.8, 0.7, water, 0.15)
    p.rect(-0.85, 0.45, 0.8, 0.7, (196, 168, 120))
    for x in (-0.6, 0.55):
        for i in range(3):
            top = p.between(-0.3, 0.1)
            p.line([(x + i * 0.07, 0.5), (x + i * 0.07 + 0.06, 0.2), (x + i * 0.07 - 0.03, top)], 0.05, (52, 132, 70))
    for _ in range(p.rng.randint(2, 4)):
        x, y, s = p.between(-0.35, 0.35), p.between(-0.35, 0.3), p.rng.choice((-1, 1))
        p.oval(x, y, 0.16, 0.09, p.trim)
        p.poly([(x + s * 0.14, y), (x + s * 0.28, y - 0.1), (x + s * 0.28, y + 0.1)], p.trim)
    p.rect(-0.9, -0.75, 0.85, -0.55, p.body)
    p.rect(-0.9, 0.68, 0.85, 0.82, p.body)


def sewing_machine(p: Pen) -> None:
    p.rect(-0.9, 0.5, 0.95, 0.78, p.trim, 0.05)
    p.rect(0.3, -0.5, 0.75, 0.5, p.body, 0.08)
    p.rect(-0.8, -0.6, 0.75, -0.15, p.body, 0.14)
    p.rect(-0.8, -0.4, -0.45, 0.12, p.body, 0.06)
    p.line([(-0.62, 0.1), (-0.62, 0.5)], 0.05, p.metal)
    p.line([(-0.75, 0.46), (-0.5, 0.46)], 0.05, p.metal)
    p.disc(0.86, -0.35, 0.2, p.dark)
    p.disc(0.55, 0.15, 0.13, p.light)
    p.rect(0.1, -0.85, 0.26, -0.6, p.trim)
    p.line([(0.18, -0.7), (-0.55, -0.5), (-0.62, 0.2)], 0.02, WHITE)


def vase(p: Pen) -> None:
    neck, belly = p.between(0.14, 0.26), p.between(0.5, 0.68)
    profile = [
        (neck + 0.12, -0.92),
        (neck, -0.72),
        (neck, -0.45),
        (belly, 0.05),
        (belly, 0.35),
        (0.3, 0.8),
        (0.36, 0.92),
    ]
    p.poly([*profile, *[(-x, y) for x, y in reversed(profile)]], p.body, 0.035)
    p.oval(0, -0.92, neck + 0.12, 0.06, shade(p.body, 0.5))
    p.poly([(-belly, 0.05), (belly, 0.05), (belly, 0.3), (-belly, 0.3)], p.trim, 0)
    for i in range(5):
        p.disc(-belly * 0.8 + i * belly * 0.4, 0.17, 0.07, p.light, 0)
    for x in (-1, 1):
        p.arc(x * (neck + 0.08), -0.3, 0.24, 0.32, -100 if x > 0 else 80, 80 if x > 0 else 280, 0.06, p.body)


def train(p: Pen) -> None:
    p.line([(-1.0, 0.72), (1.0, 0.72)], 0.06, p.metal)
    p.rect(0.3, -0.6, 0.85, 0.35, p.body)
    p.rect(0.22, -0.72, 0.93, -0.58, p.dark)
    p.rect(0.42, -0.42, 0.72, -0.08, p.light)
    p.rect(-0.75, -0.25, 0.32, 0.3, p.body, 0.12)
    p.rect(-0.85, 0.25, 0.9, 0.42, p.trim)
    p.poly([(-0.62, -0.22), (-0.68, -0.75), (-0.38, -0.75), (-0.44, -0.22)], p.dark)
    p.pie(-0.05, -0.25, 0.12, 0.16, 180, 360, (214, 176, 70))
    for x in (-0.6, -0.2, 0.2):
        p.disc(x, 0.5, 0.19, p.dark)
        p.disc(x, 0.5, 0.08, p.trim)
    p.disc(0.65, 0.54, 0.14, p.dark)
    p.line([(-0.6, 0.5), (0.2, 0.5)], 0.05, p.metal)
    p.poly([(-0.85, 0.4), (-1.0, 0.68), (-0.75, 0.68)], p.dark)


def coins(p: Pen) -> None:
    spots = [(-0.5, -0.42), (0.3, -0.55), (-0.1, 0.12), (0.6, 0.2), (-0.62, 0.5), (0.18, 0.68)]
    for x, y in spots:
        fill = p.rng.choice([(204, 172, 84), (190, 192, 198), (170, 110, 74), shade(p.body, 1.2), p.trim])
        radius = p.between(0.27, 0.36)
        p.disc(x, y, radius, fill, 0.035)
        p.ring(x, y, radius - 0.06, 0.02, shade(fill, 0.7))
        p.oval(x - 0.02, y - 0.06, radius * 0.3, radius * 0.38, shade(fill, 0.75), 0)
        p.poly([(x - 0.14, y + 0.18), (x + 0.12, y + 0.18), (x, y - 0.02)], shade(fill, 0.75), 0)


def birdcage(p: Pen) -> None:
    p.disc(0, -0.95, 0.07, p.metal)
    p.line([(-0.45, 0.15), (0.45, 0.15)], 0.05, p.dark)
    p.oval(0.08, 0.0, 0.14, 0.2, p.trim)
    p.disc(0.14, -0.2, 0.11, p.trim)
    p.poly([(0.23, -0.22), (0.34, -0.17), (0.23, -0.14)], (240, 170, 50), 0)
    p.arc(0, -0.35, 0.6, 0.55, 180, 360, 0.06, p.body)
    for i in range(9):
        x = -0.6 + i * 0.15
        height = 0.55 * math.sqrt(max(0.0, 1 - (x / 0.6) ** 2))
        p.line([(x, -0.35 - height), (x, 0.7)], 0.028, p.body)
    p.line([(-0.6, -0.35), (0.6, -0.35)], 0.04, p.body)
    p.rect(-0.7, 0.68, 0.7, 0.9, p.body, 0.05)
