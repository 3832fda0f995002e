"""Shapes of things for work: computers, phones, office, tools and materials."""

import math

from sample_marketplace.pen import BLACK, WHITE, Pen, shade

SCREENS = [(70, 130, 190), (110, 170, 120), (186, 120, 160), (214, 160, 90), (60, 70, 96)]


def laptop(p: Pen) -> None:
    p.rect(-0.75, -0.75, 0.75, 0.2, p.body, 0.06)
    p.rect(-0.66, -0.66, 0.66, 0.1, p.rng.choice(SCREENS))
    p.rect(-0.5, -0.5, 0.1, -0.2, WHITE, edge=0)
    p.poly([(-0.75, 0.2), (0.75, 0.2), (0.98, 0.68), (-0.98, 0.68)], p.body)
    for i in range(4):
        y, half = 0.26 + i * 0.07, 0.66 + i * 0.035
        p.line([(-half, y), (half, y)], 0.045, p.dark)
    p.poly([(-0.2, 0.54), (0.2, 0.54), (0.22, 0.64), (-0.22, 0.64)], shade(p.body, 0.7))
    p.rect(-0.98, 0.68, 0.98, 0.75, shade(p.body, 0.6))


def monitor(p: Pen) -> None:
    p.poly([(-0.12, 0.35), (0.12, 0.35), (0.16, 0.75), (-0.16, 0.75)], shade(p.body, 0.8))
    p.oval(0, 0.8, 0.45, 0.1, p.body)
    p.rect(-0.98, -0.75, 0.98, 0.45, p.body, 0.04)
    p.rect(-0.88, -0.65, 0.88, 0.3, p.rng.choice(SCREENS))
    p.poly([(-0.88, 0.3), (-0.88, -0.1), (-0.35, 0.3)], shade(p.trim, 1.2), 0)
    p.poly([(0.1, -0.65), (0.45, -0.65), (-0.05, 0.3), (-0.4, 0.3)], (214, 228, 236), 0)


def tower(p: Pen) -> None:
    p.box(-0.55, -0.9, 0.3, 0.92, p.body, 0.4)
    for y in (-0.78, -0.58):
        p.rect(-0.46, y, 0.21, y + 0.14, shade(p.body, 0.6))
    p.disc(-0.12, -0.28, 0.1, p.trim)
    for y in (0.1, 0.55):
        p.disc(-0.12, y, 0.2, p.dark)
        p.ring(-0.12, y, 0.12, 0.03, p.trim)
    for x in (-0.4, -0.3):
        p.rect(x, -0.3, x + 0.06, -0.22, BLACK, edge=0)


def keyboard(p: Pen) -> None:
    p.poly([(-0.95, -0.3), (0.95, -0.3), (1.0, 0.4), (-1.0, 0.4)], p.body)
    for row in range(4):
        y = -0.24 + row * 0.15
        for column in range(11):
            x = -0.86 + column * 0.158
            p.rect(x, y, x + 0.125, y + 0.115, p.light if row % 3 else p.trim, edge=0.012)
    p.rect(-0.45, 0.35, 0.4, 0.36, p.light, edge=0)
    p.rect(-0.42, 0.27, 0.4, 0.37, p.light)


def printer(p: Pen) -> None:
    p.poly([(-0.5, -0.4), (-0.4, -0.95), (0.5, -0.95), (0.55, -0.4)], WHITE)
    for i in range(3):
        p.line([(-0.28, -0.82 + i * 0.13), (0.35, -0.82 + i * 0.13)], 0.03, (150, 150, 160))
    p.box(-0.9, -0.4, 0.8, 0.4, p.body, 0.16, 0.05)
    p.rect(-0.65, 0.02, 0.55, 0.22, BLACK)
    p.poly([(-0.55, 0.15), (0.45, 0.15), (0.6, 0.72), (-0.7, 0.72)], WHITE)
    p.poly([(-0.6, 0.45), (0.5, 0.45), (0.6, 0.72), (-0.7, 0.72)], p.trim)
    p.rect(0.3, -0.3, 0.72, -0.12, p.dark)
    p.disc(-0.7, -0.22, 0.07, p.trim)


def router(p: Pen) -> None:
    for x in p.rng.choice(((-0.7, 0.7), (-0.7, 0, 0.7))):
        p.tube([(x, 0.2), (x * 1.15, -0.9)], 0.09, p.dark)
    p.poly([(-0.8, 0.15), (0.8, 0.15), (1.0, 0.5), (-1.0, 0.5)], shade(p.body, 1.2))
    p.rect(-1.0, 0.48, 1.0, 0.72, p.body, 0.06)
    for i in range(6):
        p.disc(-0.7 + i * 0.2, 0.6, 0.045, (96, 230, 110) if i % 2 else p.light, 0.01)
    for i in range(3):
        p.line([(-0.5 - i * 0.05, 0.24 + i * 0.08), (0.5 + i * 0.05, 0.24 + i * 0.08)], 0.03, p.dark)


def smartphone(p: Pen) -> None:
    p.rect(-0.5, -0.98, 0.5, 0.98, p.body, 0.14, 0.035)
    p.rect(-0.43, -0.88, 0.43, 0.88, p.rng.choice(SCREENS), 0.08)
    for row in range(4):
        for column in range(3):
            x, y = -0.33 + column * 0.25, -0.6 + row * 0.27
            p.rect(x, y, x + 0.17, y + 0.17, (p.light, p.trim, WHITE)[(row + column) % 3], 0.05, 0)
    p.rect(-0.16, -0.88, 0.16, -0.8, BLACK, 0.04, 0)
    p.line([(-0.15, 0.78), (0.15, 0.78)], 0.04, WHITE)


def flip_phone(p: Pen) -> None:
    p.poly([(-0.42, -0.95), (0.42, -0.95), (0.45, 0.0), (-0.45, 0.0)], p.body, 0.035)
    p.rect(-0.32, -0.82, 0.32, -0.2, p.rng.choice(SCREENS))
    p.rect(-0.48, -0.06, 0.48, 0.08, p.dark, 0.06)
    p.poly([(-0.45, 0.06), (0.45, 0.06), (0.5, 0.98), (-0.5, 0.98)], p.body, 0.035)
    p.disc(0, 0.24, 0.11, p.trim)
    for row in range(4):
        for column in range(3):
            p.oval(-0.28 + column * 0.28, 0.44 + row * 0.14, 0.1, 0.05, p.light, 0.012)
    p.line([(0.36, -0.95), (0.36, -1.1)], 0.09, p.dark)


def smart_watch(p: Pen) -> None:
    for sign in (-1, 1):
        p.poly([(-0.3, sign * 0.35), (0.3, sign * 0.35), (0.22, sign * 1.0), (-0.22, sign * 1.0)], p.body)
    p.rect(-0.46, -0.54, 0.46, 0.54, p.metal, 0.2)
    p.rect(-0.38, -0.46, 0.38, 0.46, BLACK, 0.15)
    p.rect(0.45, -0.18, 0.54, 0.04, p.dark)
    for radius, fill in ((0.28, (236, 70, 90)), (0.2, (120, 226, 90)), (0.12, (84, 200, 236))):
        p.arc(0, 0, radius, radius, -90, -90 + p.between(180, 340), 0.06, fill)


def desk_phone(p: Pen) -> None:
    p.poly([(-0.6, -0.2), (0.6, -0.2), (0.95, 0.75), (-0.95, 0.75)], p.body, 0.035)
    p.arc(0, 0.0, 0.78, 0.55, 200, 340, 0.22, p.trim)
    for x in (-0.72, 0.72):
        p.oval(x, -0.2, 0.24, 0.19, p.trim)
    p.disc(0, 0.28, 0.34, p.light)
    if p.rng.random() < 0.5:
        for i in range(9):
            p.disc(0.24 * math.cos(i * 0.63), 0.28 + 0.24 * math.sin(i * 0.63), 0.055, p.dark, 0)
        p.disc(0, 0.28, 0.1, p.body)
    else:
        for row in range(3):
            for column in range(3):
                x, y = -0.18 + column * 0.18, 0.12 + row * 0.16
                p.rect(x - 0.06, y - 0.05, x + 0.06, y + 0.05, p.dark, edge=0)


def headset(p: Pen) -> None:
    p.arc(0, -0.05, 0.72, 0.8, 180, 360, 0.15, p.body)
    for x in (-1, 1):
        p.rect(min(x * 0.55, x * 0.92), -0.15, max(x * 0.55, x * 0.92), 0.6, p.trim, 0.16)
        p.rect(min(x * 0.42, x * 0.6), -0.08, max(x * 0.42, x * 0.6), 0.54, p.dark, 0.09)
    p.line([(-0.75, 0.5), (-0.6, 0.85), (-0.2, 0.9)], 0.06, p.dark)
    p.oval(-0.12, 0.9, 0.14, 0.08, p.dark)


def walkie_talkie(p: Pen) -> None:
    for x, fill in ((-0.5, p.body), (0.5, p.body)):
        p.line([(x - 0.2, -0.4), (x - 0.2, -0.98)], 0.11, p.dark)
        p.rect(x + 0.1, -0.56, x + 0.24, -0.4, p.dark)
        p.rect(x - 0.36, -0.42, x + 0.36, 0.92, fill, 0.09)
        p.rect(x - 0.24, -0.3, x + 0.24, -0.02, (150, 184, 130))
        for i in range(4):
            p.line([(x - 0.22, 0.4 + i * 0.11), (x + 0.22, 0.4 + i * 0.11)], 0.04, p.dark)
        p.disc(x, 0.16, 0.11, p.trim)


def office_chair(p: Pen) -> None:
    p.line([(0, 0.2), (0, 0.65)], 0.1, p.metal)
    for x, y in ((-0.62, 0.85), (0.62, 0.85), (-0.3, 0.95), (0.3, 0.95), (0, 0.8)):
        p.line([(0, 0.62), (x, y)], 0.08, p.dark)
        p.disc(x, y + 0.03, 0.08, BLACK)
    p.rect(-0.42, -0.98, 0.42, 0.0, p.body, 0.2, 0.035)
    p.rect(-0.3, -0.85, 0.3, -0.15, shade(p.body, 1.2), 0.12)
    p.rect(-0.55, 0.03, 0.55, 0.26, shade(p.body, 0.85), 0.1)
    for x in (-1, 1):
        p.line([(x * 0.52, 0.15), (x * 0.68, 0.1), (x * 0.68, -0.22)], 0.06, p.dark)
        p.rect(min(x * 0.56, x * 0.8), -0.3, max(x * 0.56, x * 0.8), -0.2, p.dark, 0.04)


def desk(p: Pen) -> None:
    p.poly([(-0.95, -0.3), (-0.65, -0.62), (1.0, -0.62), (0.85, -0.3)], shade(p.body, 1.25))
    p.rect(-0.95, -0.3, 0.85, -0.18, p.body)
    p.rect(0.25, -0.18, 0.78, 0.45, p.trim)
    for y in (0.02, 0.23):
        p.line([(0.25, y), (0.78, y)], 0.03, shade(p.trim, 0.5))
    for y in (-0.08, 0.13, 0.34):
        p.line([(0.44, y), (0.6, y)], 0.045, p.metal)
    for x in (-0.88, 0.72):
        p.rect(x, -0.18, x + 0.09, 0.85, p.dark)
    p.rect(-0.58, -0.18, -0.51, 0.62, shade(p.dark, 1.2))


def filing_cabinet(p: Pen) -> None:
    rows = p.rng.choice((2, 3, 4))
    p.box(-0.5, -0.92, 0.35, 0.95, p.body, 0.3)
    height = 1.8 / rows
    for i in range(rows):
        y = -0.88 + i * height
        p.rect(-0.45, y, 0.3, y + height - 0.06, shade(p.body, 1.15))
        p.rect(-0.2, y + height * 0.18, 0.05, y + height * 0.18 + 0.1, WHITE)
        p.rect(-0.22, y + height * 0.5, 0.07, y + height * 0.5 + 0.08, p.dark, 0.03)
    p.disc(0.22, -0.8, 0.045, BLACK, 0)


def cash_register(p: Pen) -> None:
    p.rect(-0.1, -0.98, 0.75, -0.62, p.trim, 0.05)
    p.rect(0.0, -0.9, 0.65, -0.7, (150, 220, 150))
    p.rect(0.25, -0.62, 0.4, -0.4, p.metal)
    p.poly([(-0.5, -0.85), (-0.25, -0.85), (-0.25, -0.4), (-0.5, -0.4)], WHITE)
    p.poly([(-0.7, -0.42), (0.75, -0.42), (0.9, 0.35), (-0.85, 0.35)], p.body)
    for row in range(4):
        for column in range(6):
            x = (-0.55 + column * 0.2) * (1 + row * 0.06)
            p.rect(x, -0.32 + row * 0.15, x + 0.14, -0.22 + row * 0.15, p.light if column < 4 else p.trim, edge=0.012)
    p.rect(-0.95, 0.35, 0.98, 0.8, shade(p.body, 0.75), 0.03)
    p.rect(-0.15, 0.52, 0.15, 0.6, p.metal)


def whiteboard(p: Pen) -> None:
    p.tube([(0, -0.9), (-0.62, 1.0)], 0.06, p.trim)
    p.tube([(0, -0.9), (0.62, 1.0)], 0.06, p.trim)
    p.rect(-0.8, -0.85, 0.8, 0.35, p.body)
    p.rect(-0.7, -0.75, 0.7, 0.25, WHITE)
    p.line([(-0.55, 0.1), (-0.3, -0.2), (-0.05, -0.05), (0.3, -0.5)], 0.05, p.trim)
    for i in range(3):
        p.line([(-0.55, -0.6 + i * 0.13), (-0.55 + p.between(0.3, 0.6), -0.6 + i * 0.13)], 0.04, p.dark)
    p.rect(-0.5, 0.35, 0.5, 0.43, p.metal)


def boxes(p: Pen) -> None:
    brown = p.rng.choice([(188, 148, 104), (222, 200, 164), WHITE, shade(p.trim, 1.2)])
    for x, y, w, h in ((-0.9, 0.1, 0.85, 0.7), (0.02, 0.25, 0.75, 0.55), (-0.55, -0.62, 0.85, 0.66)):
        p.box(x, y, x + w, y + h, brown, 0.17)
        p.rect(x + w * 0.42, y, x + w * 0.58, y + h, p.body, edge=0.012)
        p.rect(x + 0.06, y + h * 0.55, x + w * 0.34, y + h * 0.85, WHITE)


def drill(p: Pen) -> None:
    p.poly([(0.2, 0.0), (0.55, 0.0), (0.72, 0.68), (0.35, 0.68)], p.body)
    p.rect(0.18, 0.62, 0.9, 0.9, p.dark, 0.05)
    p.rect(-0.25, -0.5, 0.75, 0.05, p.body, 0.14)
    for i in range(3):
        p.line([(0.48 + i * 0.08, -0.38), (0.48 + i * 0.08, -0.12)], 0.03, BLACK)
    p.poly([(-0.6, -0.34), (-0.25, -0.48), (-0.25, 0.04), (-0.6, -0.1)], p.dark)
    p.line([(-0.6, -0.22), (-1.0, -0.22)], 0.08, p.metal)
    p.poly([(0.12, 0.05), (0.24, 0.05), (0.26, 0.25), (0.16, 0.22)], p.trim)


def hammer(p: Pen) -> None:
    p.rect(-0.1, -0.55, 0.1, 0.55, p.body)
    p.rect(-0.14, 0.3, 0.14, 1.0, p.trim, 0.08)
    p.rect(-0.2, -0.85, 0.3, -0.48, p.metal)
    p.rect(0.3, -0.9, 0.55, -0.43, shade(p.metal, 0.8), 0.04)
    p.poly([(-0.2, -0.85), (-0.75, -0.72), (-0.9, -0.38), (-0.6, -0.55), (-0.2, -0.48)], p.metal)


def saw(p: Pen) -> None:
    teeth = 13
    points = [(-0.98, -0.12), (0.4, -0.4), (0.4, 0.3)]
    for i in range(teeth):
        x = 0.4 - (i + 0.5) * 1.38 / teeth
        points += [(x, 0.42 - i * 0.018), (x - 0.05, 0.27 - i * 0.018)]
    p.poly(points, (196, 200, 206))
    p.poly([(0.32, -0.48), (0.75, -0.5), (0.98, -0.2), (0.9, 0.45), (0.55, 0.52), (0.32, 0.34)], p.body, 0.035)
    p.rect(0.52, -0.25, 0.76, 0.25, BLACK, 0.1)


def ladder(p: Pen) -> None:
    p.tube([(0.15, -0.9), (0.75, 0.98)], 0.06, shade(p.body, 0.7))
    p.tube([(0.05, -0.9), (0.45, 0.9)], 0.05, shade(p.body, 0.7))
    steps = p.rng.randint(5, 7)
    for i in range(steps):
        t = (i + 0.6) / steps
        p.line([(-0.2 - 0.45 * t, -0.9 + 1.85 * t), (0.12 + 0.2 * t, -0.9 + 1.85 * t)], 0.1, p.trim)
    p.tube([(-0.2, -0.95), (-0.65, 0.98)], 0.085, p.body)
    p.tube([(0.12, -0.95), (0.32, 0.98)], 0.085, p.body)
    p.rect(-0.28, -1.0, 0.24, -0.88, p.dark)


def toolbox(p: Pen) -> None:
    p.arc(0, -0.3, 0.42, 0.4, 180, 360, 0.1, p.dark)
    p.poly([(-0.9, -0.05), (-0.75, -0.35), (0.75, -0.35), (0.9, -0.05)], shade(p.body, 1.2))
    p.rect(-0.95, -0.05, 0.95, 0.7, p.body, 0.05, 0.035)
    p.rect(-0.95, -0.05, 0.95, 0.14, shade(p.body, 0.75))
    for x in (-0.6, 0.42):
        p.rect(x, 0.0, x + 0.18, 0.32, p.metal, 0.03)
    p.rect(-0.28, 0.3, 0.28, 0.52, p.trim)


def bricks(p: Pen) -> None:
    tone = p.rng.choice([(176, 84, 62), (196, 120, 84), (150, 142, 134), p.body, p.body])
    rows = p.rng.choice((4, 5))
    height = 1.4 / rows
    for row in range(rows):
        y = 0.75 - (row + 1) * height
        shift = 0.0 if row % 2 else -0.25
        for column in range(5):
            x0, x1 = max(-0.95, -0.95 + shift + column * 0.48), min(0.9, -0.5 + shift + column * 0.48)
            if x1 - x0 > 0.06:
                p.rect(x0, y, x1, y + height - 0.035, shade(tone, p.between(0.8, 1.2)))
    p.rect(-1.0, 0.76, 0.95, 0.86, p.trim)
    for x in (-0.95, -0.1, 0.72):
        p.rect(x, 0.86, x + 0.2, 0.98, shade(p.trim, 0.7))
