"""Shapes of things that people wear and use on themselves: clothes and accessories, health and beauty."""

import math

from sample_marketplace.pen import BLACK, WHITE, Pen, shade


def dress(p: Pen) -> None:
    hem, waist = p.between(0.6, 0.85), p.between(-0.2, 0.0)
    p.poly([(-0.28, -0.95), (-0.12, -0.7), (0.12, -0.7), (0.28, -0.95), (0.4, -0.55), (0.24, waist),
            (hem, 0.92), (-hem, 0.92), (-0.24, waist), (-0.4, -0.55)], p.body, 0.035)  # fmt: skip
    for i in range(5):
        x = -0.8 + i * 0.4
        p.line([(x * 0.25, waist + 0.08), (x * hem, 0.88)], 0.03, shade(p.body, 0.7))
    p.rect(-0.26, waist - 0.06, 0.26, waist + 0.06, p.trim)


def shoe(p: Pen) -> None:
    p.poly([(-0.95, 0.35), (-0.9, 0.0), (-0.45, -0.15), (-0.05, -0.55), (0.25, -0.5), (0.5, -0.45), (0.75, -0.6),
            (0.88, -0.55), (0.92, 0.35)], p.body, 0.035)  # fmt: skip
    p.poly([(-0.95, 0.33), (-0.9, 0.0), (-0.5, -0.12), (-0.45, 0.33)], p.trim)
    p.rect(-1.0, 0.33, 0.96, 0.55, p.light, 0.09)
    for i in range(4):
        x, y = -0.4 + i * 0.13, -0.12 - i * 0.12
        p.line([(x - 0.06, y - 0.08), (x + 0.14, y + 0.1)], 0.05, WHITE)
    p.arc(0.3, 0.1, 0.45, 0.25, 20, 150, 0.08, p.trim)


def handbag(p: Pen) -> None:
    p.arc(0, -0.25, 0.45, p.between(0.5, 0.7), 180, 360, 0.09, p.trim)
    p.poly([(-0.7, -0.3), (0.7, -0.3), (0.92, 0.75), (-0.92, 0.75)], p.body, 0.035)
    p.poly([(-0.7, -0.3), (0.7, -0.3), (0.5, 0.2), (-0.5, 0.2)], shade(p.body, 0.75))
    p.rect(-0.12, 0.1, 0.12, 0.32, p.metal, 0.04)
    for x in (-0.45, 0.45):
        p.ring(x, -0.28, 0.08, 0.04, p.metal)


def jacket(p: Pen) -> None:
    p.poly([(-0.5, -0.75), (-0.98, 0.5), (-0.7, 0.62), (-0.42, 0.0), (-0.48, 0.85), (0.48, 0.85), (0.42, 0.0),
            (0.7, 0.62), (0.98, 0.5), (0.5, -0.75), (0.2, -0.9), (-0.2, -0.9)], p.body, 0.035)  # fmt: skip
    p.poly([(-0.22, -0.9), (0.22, -0.9), (0, -0.25)], p.light)
    p.poly([(-0.22, -0.92), (-0.42, -0.6), (0, 0.0)], p.trim)
    p.poly([(0.22, -0.92), (0.42, -0.6), (0, 0.0)], p.trim)
    p.line([(0, 0.0), (0, 0.85)], 0.035, shade(p.body, 0.45))
    for i in range(3):
        p.disc(0.09, 0.12 + i * 0.24, 0.045, p.light)
    for x in (-0.4, 0.18):
        p.rect(x, 0.35, x + 0.22, 0.42, shade(p.body, 0.6))


def watch(p: Pen) -> None:
    for sign in (-1, 1):
        p.poly([(-0.24, sign * 0.35), (0.24, sign * 0.35), (0.17, sign * 1.0), (-0.17, sign * 1.0)], p.body)
    for y in (0.65, 0.78, 0.9):
        p.disc(0, y, 0.035, BLACK, 0)
    p.disc(0, 0, 0.52, p.metal)
    p.disc(0, 0, 0.41, p.light if p.rng.random() < 0.6 else p.dark)
    for i in range(12):
        x, y = math.cos(i * math.pi / 6), math.sin(i * math.pi / 6)
        p.line([(0.31 * x, 0.31 * y), (0.38 * x, 0.38 * y)], 0.035, p.trim)
    turn = p.between(0, 6.28)
    p.line([(0, 0), (0.3 * math.cos(turn), 0.3 * math.sin(turn))], 0.04, p.trim)
    p.line([(0, 0), (0.2 * math.cos(turn + 2), 0.2 * math.sin(turn + 2))], 0.05, p.trim)
    p.rect(0.5, -0.06, 0.62, 0.06, p.metal)


def hat(p: Pen) -> None:
    p.oval(0, 0.35, 0.98, 0.32, shade(p.body, 0.8))
    p.poly([(-0.5, 0.3), (-0.42, -0.5), (-0.15, -0.62), (0, -0.52), (0.15, -0.62), (0.42, -0.5), (0.5, 0.3)], p.body)
    p.poly([(-0.52, 0.3), (-0.49, 0.05), (0.49, 0.05), (0.52, 0.3), (0, 0.4)], p.trim)


def wheelchair(p: Pen) -> None:
    p.tube([(-0.45, 0.12), (-0.68, 0.7), (-0.98, 0.7)], 0.08, p.metal)
    p.tube([(0.45, -0.9), (0.38, 0.3)], 0.09, p.metal)
    p.tube([(0.45, -0.88), (0.8, -0.92)], 0.11, p.dark)
    p.poly([(0.12, -0.8), (0.42, -0.8), (0.36, 0.1), (0.06, 0.1)], p.body)
    p.rect(-0.52, -0.02, 0.38, 0.2, shade(p.body, 0.85), 0.07)
    p.tube([(-0.4, -0.02), (-0.4, -0.32), (0.35, -0.32)], 0.09, p.trim)
    p.ring(0.28, 0.38, 0.56, 0.11, BLACK)
    p.ring(0.28, 0.38, 0.45, 0.04, p.light)
    for i in range(5):
        x, y = 0.5 * math.cos(i * math.pi / 5 + 0.2), 0.5 * math.sin(i * math.pi / 5 + 0.2)
        p.line([(0.28 - x, 0.38 - y), (0.28 + x, 0.38 + y)], 0.025, p.metal)
    p.disc(-0.5, 0.78, 0.19, p.dark)
    p.disc(-0.5, 0.78, 0.08, p.light)


def perfume(p: Pen) -> None:
    p.rect(-0.2, -0.95, 0.2, -0.55, p.trim, 0.04)
    p.rect(-0.12, -0.55, 0.12, -0.38, p.metal)
    if p.rng.random() < 0.5:
        p.rect(-0.62, -0.4, 0.62, 0.9, shade(p.body, 1.35), 0.12)
        p.rect(-0.5, p.between(-0.25, 0.2), 0.5, 0.78, p.body, 0.08)
    else:
        p.oval(0, 0.25, 0.68, 0.64, shade(p.body, 1.35))
        p.oval(0, 0.35, 0.54, 0.48, p.body)
    p.rect(-0.28, 0.15, 0.28, 0.5, p.light)
    p.line([(-0.18, 0.26), (0.18, 0.26)], 0.04, p.dark)
    p.line([(-0.12, 0.38), (0.12, 0.38)], 0.03, p.dark)


def hair_dryer(p: Pen) -> None:
    p.poly([(-0.02, 0.1), (0.38, 0.1), (0.52, 0.95), (0.16, 0.95)], shade(p.body, 0.8))
    p.poly([(-0.95, -0.48), (-0.55, -0.42), (-0.55, 0.0), (-0.95, 0.06)], p.dark)
    p.poly([(-0.6, -0.44), (0.3, -0.68), (0.3, 0.25), (-0.6, 0.02)], p.body)
    p.disc(0.36, -0.22, 0.47, p.body)
    p.disc(0.42, -0.22, 0.3, p.dark)
    for y in (-0.36, -0.22, -0.08):
        p.line([(0.2, y), (0.64, y)], 0.035, p.metal)
    p.rect(0.16, 0.35, 0.28, 0.6, p.trim, 0.03)
    p.line([(0.35, 0.95), (0.3, 1.05), (-0.4, 1.0)], 0.05, BLACK)


def lipstick(p: Pen) -> None:
    p.poly([(-0.2, -0.35), (-0.2, -0.75), (0.2, -0.98), (0.2, -0.35)], p.body)
    p.rect(-0.25, -0.38, 0.25, 0.12, p.metal)
    p.rect(-0.34, 0.1, 0.34, 0.95, p.dark if p.rng.random() < 0.5 else p.trim, 0.04)
    p.line([(-0.2, 0.2), (-0.2, 0.85)], 0.05, p.light)
    p.rect(0.5, 0.05, 0.95, 0.95, p.dark if p.rng.random() < 0.5 else p.trim, 0.1)


def nail_polish(p: Pen) -> None:
    for x, fill in ((-0.55, p.body), (0.55, p.trim)):
        p.poly([(x - 0.16, -0.95), (x + 0.16, -0.95), (x + 0.2, 0.0), (x - 0.2, 0.0)], p.dark)
        p.poly(
            [(x - 0.2, 0.0), (x + 0.2, 0.0), (x + 0.44, 0.3), (x + 0.44, 0.9), (x - 0.44, 0.9), (x - 0.44, 0.3)], fill
        )
        p.line([(x - 0.3, 0.35), (x - 0.3, 0.78)], 0.07, shade(fill, 1.6))


def massage_table(p: Pen) -> None:
    for x in (-0.75, 0.6):
        p.tube([(x, 0.1), (x + 0.22, 0.8)], 0.07, p.trim)
        p.tube([(x + 0.22, 0.1), (x, 0.8)], 0.07, p.trim)
    p.tube([(-0.7, 0.65), (0.75, 0.65)], 0.05, p.trim)
    p.poly([(-0.8, -0.15), (-0.55, -0.4), (0.98, -0.4), (0.85, -0.15)], shade(p.body, 1.25))
    p.rect(-0.8, -0.15, 0.85, 0.1, p.body, 0.05)
    p.line([(0.05, -0.38), (0.02, 0.1)], 0.04, shade(p.body, 0.5))
    p.oval(-0.86, -0.28, 0.2, 0.13, p.body)
    p.oval(-0.86, -0.28, 0.09, 0.06, BLACK)
